"""Spans that share an id: halves of a call that are told apart, duplicates, and conflicts."""

import random
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, refusals, row, rows, span_id, trace_id
from tests.collector.tables.test_origins import recount
from ztrace.records import ERROR, KIND_NUMBERS, Span
from ztrace_collector.checking.parcels import ForeignBatch, Outcome, Resource, add_up, pack
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import known
from ztrace_collector.tables.shared import CALLER, derive_id
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.trees.tree import walk

#: Numbers of the processes: the caller, the callee, and another one.
HERE, THERE, ELSEWHERE = 1, 2, 3


def span(number: int, kind: str, name: str, parent: int | None = None, **changes: Any) -> Span:
    """Return a span of trace 0 that starts later the higher its number is."""
    fields: dict[str, Any] = {
        "trace_id": trace_id(0),
        "kind": KIND_NUMBERS[kind],
        "name": name,
        "parent_id": None if parent is None else span_id(parent),
        "start_ns": EPOCH_NS + number * MS,
        "self_ns": None,
    }
    return make_span(number, **(fields | changes))


def take(store: Store, process: int, *spans: Span) -> Outcome:
    """Store spans of a process in a transaction, as if they came by OTLP or from a file."""
    resource = Resource(bytes([process]) * 16, f"service{process}", "", 0, 0, {"n": process})
    outcomes = store.store(parcels=list(pack(ForeignBatch(resource, spans)))).outcomes
    assert outcomes is not None
    return add_up(outcomes)


def tree(path: Path) -> list[str]:
    """Return the spans of trace 0 as service and name, indented."""
    with open_file(path) as db:
        found = read_tree(db, trace_id(0), EPOCH_NS)
    assert not any("stored twice" in entry["reason"] for entry in found["missing"])
    return [f"{'  ' * depth}{each['service'][-1]}.{each['name']}" for each, depth in walk(found["roots"])]


ROOT = (HERE, span(1, "server", "get"))
CLIENT = (HERE, span(2, "client", "post", 1, duration_ns=8 * MS))
#: Of the client's id, and a child of each half.
SERVER = (THERE, span(2, "server", "post", 1, start_ns=EPOCH_NS + 3 * MS, duration_ns=5 * MS))
WORK = (THERE, span(4, "internal", "work", 2, duration_ns=MS))
CONNECT = (HERE, span(5, "internal", "connect", 2))
SHAPE = ["1.get", "  1.post", "    2.post", "      2.work"]


@pytest.mark.parametrize("order", list(permutations((ROOT, CLIENT, SERVER, WORK))))
def test_both_halves_of_a_call_are_kept(store: Store, path: Path, order: Sequence[tuple[int, Span]]) -> None:
    """Client and server under one id are two spans, the server's below the client's, in any order."""
    for process, each in order:
        assert take(store, process, each) == Outcome(1, 0, {})
    assert tree(path) == SHAPE
    # What arrives again, with the same content, is a duplicate.
    for process, each in order[::-1]:
        assert take(store, process, each) == Outcome(0, 1, {})
    assert tree(path) == SHAPE
    assert row(path, "SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM spans") == {"n": 4, "ids": 4}
    assert row(path, "SELECT span_count AS n FROM traces") == {"n": 4}
    assert refusals(path) == {}


@pytest.mark.parametrize("first", [HERE, THERE])
def test_processes_of_a_request_are_told_apart(store: Store, path: Path, first: int) -> None:
    """Spans in batches of their processes, in either order, make the same tree."""
    batches = {HERE: [ROOT[1], CLIENT[1]], THERE: [WORK[1], SERVER[1]]}
    for process in (first, HERE + THERE - first):
        assert take(store, process, *batches[process]) == Outcome(2, 0, {})
    assert tree(path) == SHAPE


@pytest.mark.parametrize("kinds", [("client", "server"), ("producer", "consumer")])
def test_halves_of_one_process_are_told_apart(store: Store, path: Path, kinds: tuple[str, str]) -> None:
    """A process that calls itself under one id has both halves, in one batch."""
    halves = [span(2, kind, kind, 1) for kind in kinds]
    assert take(store, HERE, ROOT[1], *halves, *halves) == Outcome(3, 2, {})
    assert tree(path) == ["1.get", f"  1.{kinds[0]}", f"    1.{kinds[1]}"]


def test_children_of_the_caller_stay_with_it(store: Store, path: Path) -> None:
    """Only children of the server's process are below its half, if the client's was first."""
    for process, each in (ROOT, CLIENT, SERVER, WORK, CONNECT):
        take(store, process, each)
    assert tree(path) == ["1.get", "  1.post", "    2.post", "      2.work", "    1.connect"]


@pytest.mark.parametrize("first", [HERE, THERE])
def test_the_caller_is_the_root(store: Store, path: Path, first: int) -> None:
    """The client's half of a shared root is the root, whichever is first, and whatever the clocks say."""
    halves = {
        HERE: span(2, "client", "post", duration_ns=8 * MS),
        THERE: span(2, "server", "post", start_ns=EPOCH_NS - 60_000 * MS, duration_ns=5 * MS),
    }
    for process in (first, HERE + THERE - first):
        take(store, process, halves[process])
    assert tree(path) == ["1.post", "  2.post"]
    stored = row(
        path,
        "SELECT root_span_id, duration_ns, service, kind FROM traces JOIN methods"
        " ON methods.id = root_method",
    )
    assert (stored["duration_ns"], stored["service"], stored["kind"]) == (8 * MS, "service1", "client")
    assert stored["root_span_id"] == (span_id(2) if first == HERE else derive_id(span_id(2), CALLER))


@pytest.mark.parametrize("order", list(permutations((CLIENT, SERVER, WORK))))
@pytest.mark.parametrize("root", [1, None])
def test_failures_of_both_halves_count_once(
    store: Store, path: Path, order: Sequence[tuple[int, Span]], root: int | None
) -> None:
    """An exception in both halves of a call counts once, at the deepest span, and is uncaught at the root."""
    record: list[Any] = ["ValueError", "boom", [], [], "raised", None, None, [], []]
    details = {"events": [{"name": "exception", "time_ns": 1, "became_exception": True}]}
    for process, each in order:
        parent_id = None if root is None and each.span_id == span_id(2) else each.parent_id
        failed = each._replace(status=ERROR, exception=record, details=details, parent_id=parent_id)
        take(store, process, failed)
    found = row(path, "SELECT service, name, count, uncaught_count FROM exception_groups")
    assert tuple(found.values()) == ("service2", "work", 1, int(root is None))
    assert rows(path, "SELECT DISTINCT origin_span_id FROM exceptions") == [{"origin_span_id": span_id(4)}]
    assert row(path, "SELECT count(*) AS n FROM exceptions") == {"n": 3}


def test_conflicts_are_counted(store: Store, path: Path) -> None:
    """A span with the id of another one, that is no other half, is refused and counted by its reason."""
    take(store, HERE, ROOT[1], CLIENT[1])
    conflicts = [
        span(2, "client", "other", 1),
        span(2, "internal", "post", 1),
        span(2, "client", "post", 1, start_ns=EPOCH_NS + 500 * MS),
    ]
    assert take(store, HERE, *conflicts) == Outcome(0, 0, {"repeated_id": 3})
    assert take(store, THERE, SERVER[1]) == Outcome(1, 0, {})
    assert take(store, ELSEWHERE, SERVER[1], CLIENT[1]) == Outcome(0, 0, {"repeated_id": 2})
    assert tree(path) == SHAPE[:3]
    assert refusals(path) == {"repeated_id": 5}
    assert row(path, "SELECT detail FROM refusals")["detail"].endswith(span_id(2).hex())
    account = row(path, "SELECT * FROM publishers WHERE instance = 1")
    assert (account["spans_created"], account["spans_stored"], account["spans_refused"]) == (5, 2, 3)


def test_halves_in_a_large_trace_are_told_apart(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halves are told apart in a trace whose spans are remembered, one of which a publisher delivered."""
    monkeypatch.setattr(known, "MAX_READ", 2)
    take(store, HERE, ROOT[1], span(7, "internal", "a", 1), span(8, "internal", "b", 1))
    take(store, HERE, span(9, "internal", "c", 1))
    store.store([Sender(8, "publisher1").data(CLIENT[1])])
    for _ in range(2):
        take(store, THERE, SERVER[1], WORK[1])
    assert [line for line in tree(path) if "post" in line or "work" in line] == SHAPE[1:]
    assert take(store, ELSEWHERE, CLIENT[1]) == Outcome(0, 0, {"repeated_id": 1})


def random_spans(chance: random.Random) -> list[tuple[int, Span]]:
    """Return spans of trace 0, with their processes: calls recorded by one side or by both, some failed."""

    def make(number: int, kind: str, parent: int | None) -> tuple[int, Span]:
        changes: dict[str, Any] = {"start_ns": EPOCH_NS + chance.randint(0, 20) * MS}
        changes["duration_ns"] = chance.randint(1, 20) * MS
        if chance.random() < 0.7:
            changes["status"] = ERROR
        if chance.random() < 0.5:
            message = chance.choice(["boom", "boom", "gone"])
            changes["exception"] = ["ValueError", message, [], [], "raised", None, None, [], []]
            changes["details"] = {"events": [{"name": "exception", "time_ns": 1, "became_exception": True}]}
            changes["status"] = ERROR
        return chance.choice([HERE, THERE, ELSEWHERE]), span(number, kind, "post", parent, **changes)

    spans: list[tuple[int, Span]] = []
    for number in range(chance.randint(2, 7)):
        parent = chance.choice([None, *range(number)])
        both = chance.random() < 0.5
        kinds = (
            ["client", "server"] if both else [chance.choice(["internal", "client", "server", "consumer"])]
        )
        spans += [make(number, kind, parent) for kind in kinds]
    chance.shuffle(spans)
    return spans


@pytest.mark.parametrize("seed", range(20))
def test_every_table_agrees_on_random_calls(store: Store, path: Path, seed: int) -> None:
    """All halves are kept, and traces, trees, exceptions and groups agree, in random orders."""
    chance = random.Random(seed)
    spans = random_spans(chance)
    for process, each in spans:
        take(store, process, each)
    assert sum(take(store, process, each).duplicates for process, each in spans) == len(spans)
    counts = row(path, "SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM spans")
    assert counts == {"n": len(spans), "ids": len(spans)}
    assert refusals(path) == {}
    recount(path)
    joined = "FROM exceptions JOIN spans USING (trace_id, span_id)"
    assert rows(path, f"SELECT * {joined} WHERE exceptions.parent_id IS NOT spans.parent_id") == []
    assert rows(path, f"SELECT * {joined} WHERE is_root <> (spans.parent_id IS NULL)") == []
    unhandled = "SELECT DISTINCT origin_span_id FROM exceptions WHERE parent_id IS NULL OR kind = 'consumer'"
    uncaught = rows(path, "SELECT origin_span_id FROM uncaught_exceptions ORDER BY 1")
    assert uncaught == rows(path, f"{unhandled} ORDER BY 1")
    with open_file(path) as db:
        found = read_tree(db, trace_id(0), EPOCH_NS)
        (listed,) = list_slowest(db, now_ns=EPOCH_NS)["traces"]
    for field in ("duration_ns", "start_ns", "span_count", "error_count", "complete"):
        assert listed[field] == found[field], field
