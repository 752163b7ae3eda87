"""Registration of the middleware: early, late, repeated, by hand, and beside other middleware."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Child, Fleet
from tests.ztrace.middleware.zerorpc.journal import read_journals
from tests.ztrace.middleware.zerorpc.trees import Unlogged, origins, predict_served
from ztrace_viewer.trees.tree import walk

pytestmark = pytest.mark.process

HOOKS = (
    "resolve_endpoint",
    "get_task_context",
    "load_task_context",
    "server_before_exec",
    "server_after_exec",
    "server_inspect_exception",
    "client_handle_remote_error",
    "client_before_request",
    "client_after_request",
    "client_patterns_list",
)


@contextmanager
def driving(fleet: Fleet, instrument: str, name: str, **environment: str) -> Iterator[Child]:
    """Run another driver, and assert that it ends without failures."""
    driver = fleet.start_driver("--instrument", instrument, name=name, **environment)
    with driver:
        yield driver
        assert driver.ask({})["failures"] == {}
        assert driver.finish() == 0


def check_untraced(fleet: Fleet, token: str) -> None:
    """Assert that a call's server span is a root, since its client sent no context."""
    entries = read_journals(fleet.folder, token.rpartition(".")[0])
    tree = fleet.check_other(token, predict_served(token, entries, Unlogged()))
    assert tree["roots"][0]["kind"] == "server"


@pytest.mark.parametrize("when", ["before", "twice"])
def test_before_configure_and_more_than_once(traced: Fleet, plain: Fleet, when: str) -> None:
    """`instrument` works before `configure`, before and after a context exists, and repeatedly."""
    with driving(traced, when, "other") as driver:
        for scenario in ("siblings", "two_contexts", "error"):
            outcome = traced.run(scenario, driver=driver)
            assert outcome.seen == plain.run(scenario).seen
            inside = {f"{outcome.token}.{number}": "inside" for number in (1, 2)}
            unlogged = Unlogged(inside=inside if scenario == "siblings" else {})
            traced.check(outcome, unlogged, driver=("other", driver.pid))


def test_after_context_and_client_exist(traced: Fleet, plain: Fleet) -> None:
    """`instrument` reaches a client that is already connected and used."""
    with driving(traced, "never", "other") as driver:
        outcome = traced.run("late", driver=driver)
        assert outcome.seen == plain.run("late").seen
        traced.check(outcome, driver=("other", driver.pid))
        check_untraced(traced, f"{outcome.token}-untraced.0")


@pytest.mark.parametrize("times", [0, 2])
def test_registered_by_hand(traced: Fleet, plain: Fleet, times: int) -> None:
    """A context registered by hand traces each call once, however often registered, and others trace none."""
    with driving(traced, "never", "other") as driver:
        outcome = traced.run("by_hand_and_not", times, driver=driver)
        assert outcome.seen == plain.run("by_hand_and_not", times).seen
        traced.check(outcome, driver=("other", driver.pid))
        check_untraced(traced, f"{outcome.token}-untraced.0")


def test_registered_by_hand_and_by_instrument(traced: Fleet) -> None:
    """Registering by hand and instrumenting together trace each call once."""
    with driving(traced, "before", "other") as driver:
        outcome = traced.run("by_hand", 1, driver=driver)
        traced.check(outcome, driver=("other", driver.pid))


def test_never(traced: Fleet, plain: Fleet) -> None:
    """A process that only calls `configure` has its own spans and untraced calls."""
    with driving(traced, "never", "other") as driver:
        outcome = traced.run("without_context", driver=driver)
        assert outcome.seen == plain.run("without_context").seen
        assert traced.check_root_only(outcome)
        check_untraced(traced, f"{outcome.token}-untraced.0")


@pytest.mark.parametrize("scenario", ["error", "stream", "timeout", "unpackable_argument", "without_context"])
def test_disabled(disabled: Child, traced: Fleet, plain: Fleet, scenario: str) -> None:
    """With ZTRACE_DISABLED=1 an instrumented program behaves as untraced and sends no context."""
    outcome = traced.run(scenario, driver=disabled)
    assert (outcome.trace_id, outcome.open_calls) == ("", 0)
    assert outcome.seen == plain.run(scenario).seen
    if scenario == "without_context":
        check_untraced(traced, f"{outcome.token}-untraced.0")
    for entry in read_journals(traced.folder, outcome.token):
        assert entry.traceparent is None


@pytest.fixture(scope="module")
def disabled(traced: Fleet) -> Iterator[Child]:
    """Yield a driver that is instrumented and disabled."""
    with driving(traced, "after", "disabled", ZTRACE_DISABLED="1") as driver:
        yield driver


@pytest.fixture(scope="module")
def by_hand(traced: Fleet) -> Iterator[Child]:
    """Yield a driver that is configured and not instrumented."""
    with driving(traced, "never", "by_hand") as driver:
        yield driver


@pytest.mark.parametrize("ours", ["before", "after"])
def test_other_middleware_beside_ours(by_hand: Child, traced: Fleet, plain: Fleet, ours: str) -> None:
    """All hooks of another middleware are called, with its headers, and its return values take effect."""
    outcome = traced.run("foreign_middleware", "none", ours, driver=by_hand)
    reference = plain.run("foreign_middleware", "none", "absent")
    assert outcome.seen == reference.seen
    assert {each[0] for each in outcome.seen if each[0] in HOOKS} == set(HOOKS)
    assert ["load_task_context", "sent", "added"] in outcome.seen
    assert ["tests.ztrace.middleware.zerorpc.scenarios.Mapped", "list index out of range"] in outcome.seen
    tree = traced.wait_for_tree(outcome.trace_id, 9)
    assert tree["complete"]
    calls = {"work": "ok", "count": "ok", "break": "error", "nothing_like_it": "error"}
    assert sorted((span["kind"], span["name"], span["status"]) for span, _ in walk(tree["roots"])) == sorted(
        [("internal", "scenario", "ok")]
        + [(kind, name, status) for kind in ("client", "server") for name, status in calls.items()]
    )
    assert {kind for kind, _ in origins(tree)} == {"server"}


@pytest.mark.parametrize("ours", ["before", "after"])
@pytest.mark.parametrize("hook", HOOKS)
def test_other_middleware_that_raises(
    by_hand: Child, traced: Fleet, plain: Fleet, hook: str, ours: str
) -> None:
    """A raising hook of another middleware has its untraced effect, and every started span ends once."""
    expected = plain.run("foreign_middleware", hook, "absent").seen
    outcome = traced.run("foreign_middleware", hook, ours, driver=by_hand)
    if outcome.seen != expected:
        # zerorpc 0.6.3 rarely misses an event, traced or not, and the call times out: retried once.
        outcome = traced.run("foreign_middleware", hook, ours, driver=by_hand)
    assert outcome.seen == expected
    assert (outcome.open_calls, outcome.failures) == (0, {})
    assert traced.collected is not None
    tree = traced.collected.tree(outcome.trace_id)
    assert (tree["complete"], tree["missing"]) == (True, [])
    called = Counter(each[0] for each in outcome.seen)
    kinds = Counter(span["kind"] for span, _ in walk(tree["roots"]))
    # Every attempted call has a client span.
    assert kinds["client"] == (3 if hook == "client_patterns_list" else 4)
    assert kinds["server"] == called["load_task_context"]
