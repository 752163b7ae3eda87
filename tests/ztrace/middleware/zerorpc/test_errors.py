"""Exceptions through three processes: recorded once at the origin, with their path to the caller."""

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Fleet, run_both
from tests.ztrace.middleware.zerorpc.trees import find, origins, ways

pytestmark = pytest.mark.process


def test_an_error_passes_three_processes(traced: Fleet, plain: Fleet) -> None:
    """An exception passed by three processes has one origin, one message, and frames at the origin."""
    path = ("relay", "relay", "fail", "ValueError", "deep down")
    outcome = traced.run("nested", *path)
    assert outcome.seen[0][:2] == plain.run("nested", *path).seen[0][:2] == [REMOTE, "RemoteError"]
    tree = traced.check(outcome)
    assert ways(tree) == [
        ("client", "driver", "passed", "ValueError: deep down"),
        ("server", "front", "passed", "ValueError: deep down"),
        ("client", "front", "passed", "ValueError: deep down"),
        ("server", "middle", "passed", "ValueError: deep down"),
        ("client", "middle", "passed", "ValueError: deep down"),
        ("server", "back", "raised", "deep down"),
    ]
    assert origins(tree) == {("server", "back")}
    origin = find(tree, "server", "back")["exception"]
    assert origin is not None
    assert origin["frames"][-1]["code"] == "raise ERRORS[kind](message)"
    assert origin["frames"][-1]["in_app"]
    assert find(tree, "client", "driver")["attributes"].get("zerorpc.remote_traceback") is None


REMOTE = "zerorpc.exceptions.RemoteError"


@pytest.mark.parametrize(
    ("method", "how", "kind"),
    [("relay_wrapping", "wrapped", "LookupError"), ("relay_replacing", "replaced", "KeyError")],
)
def test_an_error_made_from_another(traced: Fleet, plain: Fleet, method: str, how: str, kind: str) -> None:
    """An error raised from a remote error, or while handling it, keeps the remote origin."""
    path = ("relay", method, "fail", "ValueError", "deep down")
    outcome = traced.run("nested", *path)
    assert outcome.seen[0][:2] == plain.run("nested", *path).seen[0][:2] == [REMOTE, "RemoteError"]
    tree = traced.check(outcome)
    above = {"LookupError": "LookupError: wrapped", "KeyError": "KeyError: 'replaced'"}[kind]
    assert ways(tree) == [
        ("client", "driver", "passed", above),
        ("server", "front", "passed", above),
        ("client", "front", "passed", above),
        ("server", "middle", how, above.partition(": ")[2]),
        ("client", "middle", "passed", "ValueError: deep down"),
        ("server", "back", "raised", "deep down"),
    ]
    assert origins(tree) == {("server", "back")}
    made = find(tree, "server", "middle")["exception"]
    assert made is not None
    assert made["type"] == kind
    assert made["frames"][-1]["function"] == f"Methods.{method}"


def test_wrapped_at_every_level(traced: Fleet) -> None:
    """An error wrapped twice on its path keeps one origin."""
    outcome = traced.run("nested", "relay_wrapping", "relay_wrapping", "fail", "ValueError", "x")
    tree = traced.check(outcome)
    assert [how for kind, _, how, _ in ways(tree) if kind == "server"] == ["wrapped", "wrapped", "raised"]
    assert origins(tree) == {("server", "back")}


def test_a_caught_error_stays_below(traced: Fleet, plain: Fleet) -> None:
    """A service that catches an error has no error, nor have its callers."""
    path = ("relay", "relay_catching", "fail", "ValueError", "x")
    outcome, reference = run_both(traced, plain, "nested", *path)
    assert outcome.seen == reference.seen == ["caught ValueError"]
    tree = traced.check(outcome)
    assert [(kind, service) for kind, service, _, _ in ways(tree)] == [
        ("client", "middle"),
        ("server", "back"),
    ]


def test_errors_of_one_place_are_one_group(traced: Fleet) -> None:
    """Errors raised at one line are one group, with a separate origin in each tree."""
    groups = set()
    for number in range(2):
        tree = traced.check(traced.run("nested", "relay", "fail", "ValueError", f"number {number}"))
        exception = find(tree, "client", "driver")["exception"]
        assert exception is not None
        assert exception["group"]
        groups.add(exception["group"])
    assert len(groups) == 1
