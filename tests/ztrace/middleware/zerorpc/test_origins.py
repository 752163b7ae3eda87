"""Exceptions through several services: origin, path, lines and group equal the journals.

Each scenario runs in a traced and in an untraced fleet, which must behave the same; then `Fleet.check` with
``ways`` compares every span that has an exception with the journals. The paths asserted by the tests
summarize
the same facts for the reader.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pytest

from tests.ztrace.middleware.zerorpc.fleet import DEADLINE_S, Fleet, Outcome, run_both
from tests.ztrace.middleware.zerorpc.journal import read_events
from tests.ztrace.middleware.zerorpc.origins import line_of, origins_in, without_token
from tests.ztrace.middleware.zerorpc.test_lost_peers import doomed
from tests.ztrace.middleware.zerorpc.test_messages import wait_for_messages
from tests.ztrace.middleware.zerorpc.trees import Unlogged, find
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.trees.tree import walk

pytestmark = pytest.mark.process

LOST = "zerorpc.exceptions.LostRemote"
STOCK = "tests.ztrace.middleware.zerorpc.failing.StockError"

Way = list[tuple[str, str, str]]

#: Path of an exception that is only passed on, three hops down.
PASSED: Way = [
    ("client", "driver", "passed"),
    ("server", "front", "passed"),
    ("client", "front", "passed"),
    ("server", "middle", "passed"),
    ("client", "middle", "passed"),
    ("server", "back", "raised"),
]
#: Path of an exception made in the middle service from the one below.
REMADE: Way = [*PASSED[:3], ("server", "middle", "?"), *PASSED[4:]]

#: End of the path where the middle service loses a remote.
LOST_BELOW: Way = [("server", "middle", "wrapped"), ("client", "middle", "raised")]


def run(
    traced: Fleet,
    plain: Fleet,
    scenario: str,
    *args: Any,
    unlogged: Mapping[str, Any] | None = None,
    folded: bool = False,
) -> TreeDocument:
    """Run a scenario in both fleets, and return the traced tree, which equals the prediction from the
    journals.

    ``unlogged`` has the fields of an `Unlogged`; ``*`` in its keys is replaced by the scenario's token.
    """
    outcome = cross(traced, plain, scenario, *args)

    def of_token(key: Any) -> Any:
        return tuple(map(of_token, key)) if isinstance(key, tuple) else key.replace("*", outcome.token)

    known = {
        name: {of_token(key): value for key, value in values.items()}
        for name, values in (unlogged or {}).items()
    }
    return traced.check(outcome, Unlogged(**known), ways=True, folded=folded)


def cross(traced: Fleet, plain: Fleet, scenario: str, *args: Any) -> Outcome:
    """Run a scenario in both fleets, and assert the same results and journals."""
    outcome, reference = run_both(traced, plain, scenario, *args)
    compare_fleets(traced, plain, outcome, reference)
    return outcome


def compare_fleets(traced: Fleet, plain: Fleet, outcome: Outcome, reference: Outcome) -> None:
    """Assert that two scenarios were the same for all processes."""
    assert told(traced, outcome) == told(plain, reference)


def told(fleet: Fleet, outcome: Outcome) -> list[Any]:
    """Return a scenario's results and journals, without the parts that tracing may change."""
    entries = [
        [e.kind, e.token, e.name, e.service, e.error, e.message, [line for line, _ in groupby(e.lines)]]
        for e in sorted(fleet.entries(outcome.token), key=lambda e: (e.token, e.kind, e.service))
    ]
    events = [
        [e.kind, e.token, e.service, e.type, e.message, e.how, len(e.made_from), e.at]
        for e in read_events(fleet.folder, outcome.token)
    ]

    def plainly(value: Any) -> Any:
        if isinstance(value, str):
            return without_token(value, outcome.token)
        return [plainly(each) for each in value] if isinstance(value, (list, tuple)) else value

    assert any(entry[4] for entry in entries)
    told: list[Any] = plainly([outcome.seen, outcome.error, entries, sorted(events, key=str)])
    return told


def way(tree: TreeDocument) -> Way:
    """Return the kind, service and path of each span with an exception."""
    return [
        (span["kind"], span["service"], span["exception"]["how"])
        for span, _ in walk(tree["roots"])
        if span["exception"] is not None
    ]


def made(how: str) -> Way:
    """Return the path of an exception made in the middle service in the given way."""
    return [(kind, service, how if each == "?" else each) for kind, service, each in REMADE]


def exception_of(span: SpanDocument) -> ExceptionDocument:
    """Return a span's exception, which must exist."""
    assert span["exception"] is not None
    return span["exception"]


def groups_of(tree: TreeDocument) -> list[str]:
    """Return the groups of the exceptions raised in a tree."""
    return [exception_of(span)["group"] for span in origins_in(tree["roots"])]


def ask(fleet: Fleet, *arguments: str) -> dict[str, Any]:
    """Run the ``ztrace`` command with ``--json`` and return its document."""
    assert fleet.collected is not None
    code = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        *arguments,
        "--json",
        "--db",
        str(fleet.collected.path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("scenario", ["nested", "through"])
@pytest.mark.parametrize("method", ["raise_stock", "raise_price", "raise_from_own", "work_in_greenlet"])
def test_an_exception_that_nobody_touches(traced: Fleet, plain: Fleet, scenario: str, method: str) -> None:
    """An exception raised three hops down passes all callers, to the root or to the catching caller."""
    tree = run(traced, plain, scenario, "pass_on", "pass_on", method)
    edge: Way = [("internal", "driver", "passed")] if scenario == "through" else []
    assert way(tree) == edge + PASSED


def test_an_exception_of_one_place_is_one_group(traced: Fleet, plain: Fleet) -> None:
    """Exceptions raised at one line are one group, whatever their message and path."""
    trees = [
        run(traced, plain, "nested", "pass_on", "pass_on", "raise_stock"),
        run(traced, plain, "nested", "swallow", "pass_on", "raise_stock"),
        run(traced, plain, "nested", "remake", "from", "pass_on", "raise_stock"),
    ]
    assert len({group for tree in trees for group in groups_of(tree)}) == 1


def test_an_exception_that_is_swallowed(traced: Fleet, plain: Fleet) -> None:
    """A caught exception leaves its callers without an error and keeps its origin."""
    tree = run(traced, plain, "nested", "pass_on", "swallow", "raise_stock")
    assert way(tree) == PASSED[4:]
    assert [span["status"] for span, _ in walk(tree["roots"])] == ["ok"] * 5 + ["error"] * 2


def test_a_call_that_is_retried_and_then_fine(traced: Fleet, plain: Fleet) -> None:
    """Each failed attempt of a retried call has an origin, and the successful attempt has none."""
    tree = run(traced, plain, "nested", "pass_on", "retry", 3, "flaky", 2)
    assert way(tree) == PASSED[4:] * 2
    assert len(set(groups_of(tree))) == 1


def test_a_call_that_is_retried_in_vain(traced: Fleet, plain: Fleet) -> None:
    """A retry that gives up passes on the origin of its last attempt."""
    tree = run(traced, plain, "through", "pass_on", "retry", 3, "flaky", 9)
    last = origins_in(tree["roots"])[-1]["span_id"]
    assert way(tree) == [("internal", "driver", "passed"), *PASSED[:4], *PASSED[4:] * 3]
    assert exception_of(tree["roots"][0])["origin_span_id"] == last


@pytest.mark.parametrize("method", ["fail_twice", "fail_cleaning"])
def test_two_failures_in_one_tree(traced: Fleet, plain: Fleet, method: str) -> None:
    """Two failures in one tree, consecutive or nested, have separate origins and groups."""
    tree = run(traced, plain, "through", "pass_on", method, ["raise_stock"], ["raise_price"])
    assert way(tree) == [("internal", "driver", "passed"), *PASSED[:4], *PASSED[4:] * 2]
    first, second = origins_in(tree["roots"])
    assert exception_of(first)["group"] != exception_of(second)["group"]
    assert exception_of(tree["roots"][0])["origin_span_id"] == second["span_id"]


@pytest.mark.parametrize("how", ["bare", "named", "bare traceback", "kept"])
def test_an_exception_raised_again_after_logging(traced: Fleet, plain: Fleet, how: str) -> None:
    """An exception raised again after logging, by whatever statement, keeps its origin."""
    assert way(run(traced, plain, "nested", "pass_on", "log_and_raise", how, "raise_stock")) == PASSED


@pytest.mark.parametrize("how", ["from", "while", "twice"])
def test_an_exception_made_from_another(traced: Fleet, plain: Fleet, how: str) -> None:
    """An exception wrapped or replaced in the middle keeps the origin of the first."""
    tree = run(traced, plain, "nested", "pass_on", "remake", how, "raise_stock")
    assert way(tree) == made({"while": "replaced"}.get(how, "wrapped"))
    assert [span["service"] for span in origins_in(tree["roots"])] == ["back"]


def test_an_exception_made_from_another_at_several_hops(traced: Fleet, plain: Fleet) -> None:
    """An exception replaced at one hop and wrapped at the next keeps one origin."""
    tree = run(traced, plain, "through", "remake", "from", "remake", "while", "raise_stock")
    hows = [how for kind, _, how in way(tree) if kind == "server"]
    assert hows == ["wrapped", "replaced", "raised"]
    assert exception_of(tree["roots"][0])["origin_span_id"] == origins_in(tree["roots"])[0]["span_id"]


def test_an_exception_raised_from_none(traced: Fleet, plain: Fleet) -> None:
    """An exception raised from None has its own origin and group, and the one below keeps its own."""
    tree = run(traced, plain, "nested", "pass_on", "remake", "none", "raise_stock")
    assert way(tree) == made("raised")
    assert [span["service"] for span in origins_in(tree["roots"])] == ["middle", "back"]
    assert len(set(groups_of(tree))) == 2


def test_an_exception_with_notes(traced: Fleet, plain: Fleet) -> None:
    """Notes are stored with the span in which they were added."""
    tree = run(traced, plain, "nested", "pass_on", "annotate", "raise_annotated")
    assert way(tree) == PASSED
    origin = exception_of(find(tree, "server", "back"))
    assert origin["notes"] == ["while counting shelf 7", "and shelf 8"]
    assert exception_of(find(tree, "server", "middle"))["notes"] == ["while packing parcel 9"]
    assert exception_of(find(tree, "client", "middle"))["notes"] == []
    assert exception_of(find(tree, "server", "front"))["notes"] == []


def test_failures_at_once_as_a_group(traced: Fleet, plain: Fleet) -> None:
    """Errors of concurrent calls are members of a group, each with its own origin."""
    calls = [["raise_stock"], ["echo", 1], ["raise_price"], ["pass_on", "raise_stock"]]
    tree = run(traced, plain, "nested", "gather", *calls)
    assert way(tree)[:2] == [("client", "driver", "passed"), ("server", "front", "grouped")]
    group = exception_of(find(tree, "server", "front"))
    assert group["type"] == "ExceptionGroup"
    members = group["members"]
    assert [member["how"] for member in members] == ["passed"] * 3
    assert [member["frames"] for member in members] == [[]] * 3
    origins = origins_in(tree["roots"])
    assert sorted(span["service"] for span in origins) == ["back", "middle", "middle"]
    assert {member["origin_span_id"] for member in members} == {span["span_id"] for span in origins}
    for member in members:
        (origin,) = [span for span in origins if span["span_id"] == member["origin_span_id"]]
        assert exception_of(origin)["message"] in member["message"]


def test_a_group_within_a_group(traced: Fleet, plain: Fleet) -> None:
    """Members of nested groups keep their origins, and members never raised have none."""
    tree = run(traced, plain, "through", "pass_on", "gather_within", ["raise_stock"], ["raise_price"])
    group = exception_of(find(tree, "server", "middle"))
    assert group["how"] == "grouped"
    never, inner = group["members"]
    assert (never["type"], never["how"], never["frames"]) == ("KeyError", "raised", [])
    assert [member["how"] for member in inner["members"]] == ["passed", "passed"]
    found = {span["span_id"] for span in origins_in(tree["roots"])}
    assert {member["origin_span_id"] for member in inner["members"]} == found


def test_a_group_raised_in_one_method(traced: Fleet, plain: Fleet) -> None:
    """Members of a group raised in one method are recorded with it, and with frames if they were raised."""
    tree = run(traced, plain, "nested", "pass_on", "pass_on", "raise_group")
    assert way(tree) == PASSED
    inner, beside = exception_of(find(tree, "server", "back"))["members"]
    assert (inner["type"], beside["type"], beside["frames"]) == ("ExceptionGroup", STOCK, [])
    never, raised = inner["members"]
    assert (never["frames"], raised["frames"][-1]["function"]) == ([], "FailingMethods._look_up")


@pytest.mark.parametrize("method", ["raise_kept", "raise_kept_clean"])
def test_an_object_raised_again_and_again(traced: Fleet, plain: Fleet, method: str) -> None:
    """One exception object raised by several calls has an origin in each."""
    calls = ["fail_twice", [method], [method]]
    for _ in range(2):
        tree = run(traced, plain, "nested", "pass_on", *calls, folded=True)
        assert way(tree) == [*PASSED[:4], *PASSED[4:] * 2]
        assert (
            exception_of(tree["roots"][0]["children"][0])["origin_span_id"]
            == (origins_in(tree["roots"])[-1]["span_id"])
        )


@pytest.mark.parametrize(
    ("method", "args", "least"),
    [("recurse", [200], 150), ("recurse_in_turn", [100], 80), ("recurse_for_ever", [], 500)],
)
def test_recursion_in_a_method(traced: Fleet, plain: Fleet, method: str, args: list[int], least: int) -> None:
    """Frames of a recursion are folded with their number of repeats."""
    tree = run(traced, plain, "nested", "pass_on", "pass_on", method, *args, folded=True)
    assert way(tree) == PASSED
    frames = exception_of(find(tree, "server", "back"))["frames"]
    assert len(frames) < 60
    assert sum(frame["repeats"] for frame in frames) >= least


def test_recursion_through_services(traced: Fleet, plain: Fleet) -> None:
    """Recursion through a ring of services records each hop with its own line."""
    outcomes = []
    for fleet in (traced, plain):
        ring = [fleet.endpoints[name]["brittle"] for name in ("middle", "back", "front")]
        outcomes.append(fleet.run("nested", "bounce", 7, *ring))
    compare_fleets(traced, plain, *outcomes)
    tree = traced.check(outcomes[0], ways=True)
    assert [how for _, _, how in way(tree)] == ["passed"] * 15 + ["raised"]


def test_a_span_around_the_call(traced: Fleet, plain: Fleet) -> None:
    """A service's own span around a call is passed by the exception."""
    unlogged = {
        "inside": {"*.0.0": "inside"},
        "errors": {("internal", "inside"): "zerorpc.exceptions.RemoteError"},
    }
    tree = run(traced, plain, "nested", "pass_on_in_span", "pass_on", "raise_stock", unlogged=unlogged)
    assert way(tree) == [*PASSED[:2], ("internal", "front", "passed"), *PASSED[2:]]
    server, inside = find(tree, "server", "front"), find(tree, "internal", "front")
    assert [line_of(frame).function for frame in exception_of(server)["frames"]] == ["serve"]
    functions = [line_of(frame).function for frame in exception_of(inside)["frames"]]
    assert functions == ["pass_on_in_span", "pass_on"]


def test_another_greenlet(traced: Fleet, plain: Fleet) -> None:
    """An exception raised in a greenlet and re-raised by waiting for it keeps its origin."""
    assert way(run(traced, plain, "nested", "pass_on_in_greenlet", "pass_on", "raise_stock")) == PASSED


def test_a_thread_of_a_service(traced: Fleet, plain: Fleet) -> None:
    """An exception raised in a thread has its origin in the thread's span."""
    unlogged = {"alone": {"*.0.0.0": ("in thread", STOCK)}}
    tree = run(traced, plain, "nested", "pass_on", "pass_on", "work_in_thread", unlogged=unlogged)
    assert way(tree) == [*PASSED[:5], ("server", "back", "passed"), ("internal", "back", "raised")]


def test_a_timeout(traced: Fleet, plain: Fleet) -> None:
    """A timeout has its origin in the waiting call, and the callee's span is in the tree."""
    tree = run(
        traced,
        plain,
        "nested",
        "pass_on",
        "time_out",
        0.15,
        "slow",
        0.3,
        unlogged={"untimed": {"*.0.0.0": 1}},
    )
    assert way(tree) == [*PASSED[:4], ("client", "middle", "raised")]
    callee = find(tree, "server", "back")
    assert (callee["name"], callee["status"]) == ("slow", "ok")
    # zerorpc raises the timeout while handling its own empty queue, which is omitted.
    assert exception_of(find(tree, "client", "middle"))["causes"] == []


def test_a_timeout_while_the_other_was_failing(traced: Fleet, plain: Fleet) -> None:
    """An error raised after its caller's timeout has its own origin below."""
    args = ["slow_and_raise", 0.3]
    tree = run(
        traced, plain, "nested", "time_out", 0.15, "pass_on", *args, unlogged={"untimed": {"*.0.0": 1}}
    )
    assert way(tree) == [*PASSED[:2], ("client", "front", "raised"), *PASSED[3:]]
    assert [span["service"] for span in origins_in(tree["roots"])] == ["front", "back"]


def test_a_remote_that_is_lost(traced: Fleet, plain: Fleet) -> None:
    """LostRemote has its origin in the calling client, and the busy server's span ends normally."""
    outcomes = []
    for fleet in (traced, plain):
        outcomes.append(
            fleet.run("nested", "pass_on", "ask_elsewhere", fleet.endpoints["back"]["brittle"], "block", 1.0)
        )
    compare_fleets(traced, plain, *outcomes)
    tree = traced.check(outcomes[0], Unlogged(untimed={f"{outcomes[0].token}.0.0.0"}), ways=True)
    assert way(tree) == [*PASSED[:3], *LOST_BELOW]
    assert exception_of(find(tree, "client", "middle"))["type"] == LOST
    assert find(tree, "server", "back")["status"] == "ok"


def test_a_server_without_ztrace(traced: Fleet, plain: Fleet) -> None:
    """A failed call of an untraced server is the origin, with the remote traceback as an attribute."""
    untraced = plain.endpoints["middle"]["rpc"]
    path = ("pass_on", "ask_elsewhere", untraced, "pass_on", "raise_stock")
    outcome, reference = run_both(traced, plain, "through", *path)
    assert outcome.error is not None
    assert reference.error is not None
    told = [[without_token(text, each.token) for text in each.error or []] for each in (outcome, reference)]
    assert told[0] == told[1]
    tree = traced.check(outcome, ways=True)
    assert way(tree) == [("internal", "driver", "passed"), *PASSED[:4], ("client", "middle", "raised")]
    attributes = find(tree, "client", "middle")["attributes"]
    text = str(attributes["zerorpc.remote_traceback"])
    assert text.rstrip().splitlines()[-1].startswith(f"{STOCK}: no stock for")
    assert "in raise_stock" in text


@pytest.mark.parametrize(("method", "name"), [("raise_stock", "StockError"), ("raise_price", "KeyError")])
def test_the_type_of_an_error_of_a_server_without_ztrace(
    traced: Fleet, plain: Fleet, method: str, name: str
) -> None:
    """A failed call of an untraced server has the remote type, and its callers have RemoteError."""
    path = ("pass_on", "ask_elsewhere", plain.endpoints["back"]["rpc"], method)
    outcome = traced.run("through", *path)
    unlogged = Unlogged(errors={("client", f"{outcome.token}.0.0.0"): name})
    tree = traced.check(outcome, unlogged, ways=True)
    failed = [exception for span, _ in walk(tree["roots"]) if (exception := span["exception"])]
    assert [each["type"] for each in failed] == ["zerorpc.exceptions.RemoteError"] * 5 + [name]
    assert failed[0]["message"] == f"{name}: {failed[-1]['message']}"
    groups = {group["group"]: group for group in ask(traced, "errors", "--type", name)["groups"]}
    found = groups[failed[-1]["group"]]
    assert (found["type"], found["service"], found["message"]) == (name, "middle", failed[-1]["message"])


@pytest.mark.parametrize("number", [3, 0])
def test_a_stream_that_fails_three_hops_down(traced: Fleet, plain: Fleet, number: int) -> None:
    """A stream that fails three hops down, at once or after some items, has the path of a call."""
    tree = run(traced, plain, "read_stream", "stream_on", "stream_on", "stream_and_raise", number)
    assert way(tree) == PASSED


@pytest.mark.parametrize("how", ["close", "loop"])
def test_a_stream_whose_reader_fails(traced: Fleet, plain: Fleet, how: str) -> None:
    """An exception of a stream's reader has its origin there, and the stream is recorded as abandoned."""
    outcomes = [
        fleet.run("nested", "pass_on", "consume", fleet.endpoints["back"]["brittle"], how)
        for fleet in (traced, plain)
    ]
    compare_fleets(traced, plain, *outcomes)
    tree = traced.check(outcomes[0], Unlogged(untimed={f"{outcomes[0].token}.0.0.0"}), ways=True)
    assert way(tree) == [*PASSED[:3], ("server", "middle", "raised")]
    assert find(tree, "client", "middle")["attributes"]["zerorpc.stream"] == "abandoned"


def test_messages_that_are_pushed(traced: Fleet, plain: Fleet) -> None:
    """A consumer's error, its own or from three hops down, does not reach the producer."""
    calls = [["raise_stock"], ["pass_on", "pass_on", "raise_price"], ["remake", "while", "raise_stock"]]
    tree = deliver(traced, plain, "push", calls, 3)
    assert way(tree) == [
        ("consumer", "front", "raised"),
        ("consumer", "front", "passed"),
        *PASSED[2:],
        ("consumer", "front", "replaced"),
        ("client", "front", "passed"),
        ("server", "middle", "raised"),
    ]


def test_messages_that_are_published(traced: Fleet, plain: Fleet) -> None:
    """Each subscriber's error has its own origin and group."""
    tree = deliver(traced, plain, "publish", [["raise_stock"]], 2)
    assert sorted(way(tree)) == [("consumer", "back", "raised"), ("consumer", "front", "raised")]
    assert len(set(groups_of(tree))) == 2  # A group belongs to one service.


def deliver(traced: Fleet, plain: Fleet, scenario: str, calls: list[list[Any]], number: int) -> TreeDocument:
    """Send messages in both fleets, and return the tree once all have been served."""
    outcomes = [fleet.run(scenario, calls) for fleet in (traced, plain)]
    for fleet, outcome in zip((traced, plain), outcomes, strict=True):
        wait_for_messages(fleet, outcome.token, number)
    compare_fleets(traced, plain, *outcomes)
    return traced.check(outcomes[0], ways=True)


@pytest.mark.parametrize(
    ("method", "args", "status"), [("leave", [3], 3), ("leave", ["no more"], 1), ("interrupt", [], -2)]
)
def test_a_method_that_ends_its_process(
    traced: Fleet, plain: Fleet, method: str, args: list[Any], status: int
) -> None:
    """``sys.exit`` and Ctrl-C have their origin in the method, and the caller's LostRemote another."""
    outcomes, statuses = [], []
    for fleet in (traced, plain):
        with doomed(fleet) as child:
            endpoint = fleet.endpoints["doomed"]["brittle"]
            outcomes.append(fleet.run("nested", "pass_on", "ask_elsewhere", endpoint, method, *args))
            statuses.append(child.process.wait(DEADLINE_S))
    assert statuses == [status, status]
    compare_fleets(traced, plain, *outcomes)
    tree = traced.check(outcomes[0], ways=True)
    assert way(tree) == [*PASSED[:3], *LOST_BELOW, ("server", "doomed", "raised")]


def test_a_method_that_ends_its_process_as_it_should(traced: Fleet, plain: Fleet) -> None:
    """``sys.exit(0)`` is no error of the method."""
    for fleet in (plain, traced):
        with doomed(fleet) as child:
            endpoint = fleet.endpoints["doomed"]["brittle"]
            outcome = fleet.run("nested", "pass_on", "ask_elsewhere", endpoint, "leave", 0)
            assert child.process.wait(DEADLINE_S) == 0
    tree = traced.check(outcome, Unlogged(errors={("server", f"{outcome.token}.0.0.0"): None}), ways=True)
    assert way(tree) == [*PASSED[:3], *LOST_BELOW]


def test_the_command_tells_the_way(traced: Fleet, plain: Fleet) -> None:
    """``ztrace error ID --json`` prints every hop of the latest path, each with its calling line."""
    tree = run(traced, plain, "through", "pass_on", "remake", "from", "raise_price")
    (group,) = groups_of(tree)
    answer = ask(traced, "error", group)
    assert answer["group"]["group"] == group
    assert answer["group"]["trace_id"] == tree["trace_id"]
    spans = {span["span_id"]: span for span, _ in walk(tree["roots"])}
    assert [(hop["kind"], hop["service"], hop["how"]) for hop in answer["hops"]] == [
        ("internal", "driver", "passed"),
        *made("wrapped"),
    ]
    for hop in answer["hops"]:
        exception = exception_of(spans[hop["span_id"]])
        for name in ("type", "message", "frames", "notes", "how"):
            assert hop[name] == exception[name]
        instance = spans[hop["span_id"]]["instance"]
        assert hop["instance"] == {name: instance[name] for name in ("id", "host", "pid")}
    functions = [line_of(hop["frames"][-1]).function for hop in answer["hops"]]
    assert functions == ["call", "call", "pass_on", "pass_on", "remake", "pass_on", "_look_up"]
    exception = exception_of(find(tree, "server", "back"))
    assert {name: answer["exception"][name] for name in exception} == exception


def test_what_was_counted(traced: Fleet) -> None:
    """Groups correspond to places in the code, with exact counts of origins and of uncaught ones."""
    places = traced.places
    assert len(places.groups) >= 15
    assert [groups for groups in places.groups.values() if len(groups) != 1] == []
    by_group: dict[str, tuple[str, ...]] = {}
    for place, (group,) in places.groups.items():
        assert by_group.setdefault(group, place) == place
    stored = {group["group"]: group for group in ask(traced, "errors", "--limit", "1000")["groups"]}
    for group, place in by_group.items():
        found = stored[group]
        assert found["count"] == places.counts[place], place
        assert found["uncaught_count"] == places.edges[place], place
        assert found["swallowed_count"] == places.counts[place] - places.edges[place]
        assert (found["service"], found["type"], found["state"]) == (place[0], place[1], "open")
