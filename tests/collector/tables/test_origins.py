"""Exceptions that senders record in every span they pass, and failures without an exception."""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, row, rows, span_id, trace_id
from tests.collector.otlp.requests import take_in
from ztrace.records import ERROR, Span
from ztrace_collector.otlp.mapping.json_form import parse_request
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import derived

#: Kinds of spans, by number.
SERVER, CLIENT, CONSUMER = 2, 3, 5


def failed(number: int, parent: int | None = None, *, tree: int = 0, end: int = 0, **changes: Any) -> Span:
    """Return a span that failed without an exception, and ended so many milliseconds later."""
    fields: dict[str, Any] = {
        "trace_id": trace_id(tree),
        "parent_id": None if parent is None else span_id(parent),
        "status": ERROR,
        "kind": 1,
        "name": f"step{number}",
        "duration_ns": (10 + end) * MS,
    }
    return make_span(number, **(fields | changes))


def raised(
    number: int,
    parent: int | None = None,
    message: str = "boom",
    kind_name: str = "ValueError",
    *,
    tree: int = 0,
    end: int = 0,
    **changes: Any,
) -> Span:
    """Return a span with an exception that its SDK recorded as an event."""
    record = [kind_name, message, [], [], "raised", trace_id(tree), span_id(number), [], []]
    event = {"name": "exception", "time_ns": EPOCH_NS, "became_exception": True}
    given_ones: dict[str, Any] = {"exception": record, "details": {"events": [event]}} | changes
    return failed(number, parent, tree=tree, end=end, **given_ones)


def told(number: int, parent: int | None = None, *, origin: int | None = None, **changes: Any) -> Span:
    """Return a span of ztrace's own agent, which names the origins of its exceptions."""
    span = raised(number, parent, details=None, **changes)
    assert span.exception is not None
    if origin is not None:
        span.exception[4:7] = ["passed", trace_id(0), span_id(origin)]  # type: ignore[index]
    return span


def groups(path: Path) -> list[tuple[Any, ...]]:
    """Return type, message, name, count and uncaught count of each group, after a recount of all figures."""
    recount(path)
    found = rows(
        path, "SELECT type, message, name, count, uncaught_count FROM exception_groups ORDER BY type, name"
    )
    return [tuple(one.values()) for one in found]


def recount(path: Path) -> None:
    """Assert that the figures of each group are those of the exceptions stored."""
    origins = rows(
        path,
        "SELECT DISTINCT exception_group, at_ns, trace_id, span_id, (trace_id, span_id) IN"
        " (SELECT trace_id, origin_span_id FROM uncaught_exceptions) AS uncaught FROM exceptions"
        " WHERE origin_span_id = span_id AND origin_trace_id = trace_id",
    )
    assert {one["exception_group"] for one in rows(path, "SELECT exception_group FROM exceptions")} == {
        one["id"] for one in rows(path, "SELECT id FROM exception_groups")
    }
    for group in rows(path, "SELECT * FROM exception_groups"):
        mine = [one for one in origins if one["exception_group"] == group["id"]]
        times = sorted((one["at_ns"], one["trace_id"], one["span_id"]) for one in mine)
        assert group["count"] == len(mine)
        assert group["uncaught_count"] == sum(one["uncaught"] for one in mine)
        assert (group["last_ns"], group["trace_id"], group["origin_span_id"]) == times[-1]
        assert group["first_ns"] == times[0][0]
        minutes = rows(path, "SELECT * FROM exception_minutes WHERE exception_group = ?", group["id"])
        assert {one["minute"]: one["count"] for one in minutes} == Counter(
            at_ns // (60_000 * MS) for at_ns, *_ in times
        )
        assert sum(one["uncaught_count"] for one in minutes) == group["uncaught_count"]
        samples = rows(path, "SELECT * FROM exception_samples WHERE exception_group = ?", group["id"])
        sampled = sorted((one["at_ns"], one["trace_id"], one["span_id"]) for one in samples)
        assert {*sampled} <= {*times}
        assert (sampled[0], sampled[-1]) == (times[0], times[-1])


def origins(path: Path) -> dict[int, int]:
    """Return the origin of each failed span, by number."""
    found = rows(path, "SELECT span_id, origin_span_id FROM exceptions ORDER BY span_id")
    return {
        int.from_bytes(one["span_id"], "big") - 1: int.from_bytes(one["origin_span_id"], "big") - 1
        for one in found
    }


#: Name, spans of one process each unless the number of the process is given, origins by number.
CASES: dict[str, tuple[list[Span], dict[int, int]]] = {
    "the same at each level": ([raised(0), raised(1, 0), raised(2, 1)], {0: 2, 1: 2, 2: 2}),
    "another message on top": ([raised(0, message="boom!"), raised(1, 0)], {0: 0, 1: 1}),
    "another type on top": ([raised(0, kind_name="KeyError"), raised(1, 0)], {0: 0, 1: 1}),
    "another one between": ([raised(0), raised(1, 0, "no"), raised(2, 1)], {0: 0, 1: 1, 2: 2}),
    "two children, parent fine": ([make_span(0), raised(1, 0), raised(2, 0)], {1: 1, 2: 2}),
    "a retry that failed twice": (
        [raised(0), raised(1, 0, end=-5), raised(2, 0, end=-2)],
        {0: 2, 1: 1, 2: 2},
    ),
    "a retry in the other order": (
        [raised(0), raised(1, 0, end=-2), raised(2, 0, end=-5)],
        {0: 1, 1: 1, 2: 2},
    ),
    "a child that failed later": ([raised(0), raised(1, 0, end=50)], {0: 0, 1: 1}),
    "times rounded": ([raised(0), raised(1, 0, duration_ns=10 * MS + 900)], {0: 1, 1: 1}),
    "a message between": ([raised(0), raised(1, 0, kind=CONSUMER)], {0: 0, 1: 1}),
    "a call that only failed between": (
        [raised(0), failed(1, 0, kind=CLIENT), raised(2, 1, kind=SERVER)],
        {0: 2, 1: 2, 2: 2},
    ),
    "failed without an exception": ([failed(0), failed(1, 0), failed(2, 1)], {0: 2, 1: 2, 2: 2}),
    "failed after two": ([failed(0), failed(1, 0, end=-2), raised(2, 0, end=-5)], {0: 1, 1: 1, 2: 2}),
    "an exception over a failure": ([raised(0), failed(1, 0)], {0: 0, 1: 1}),
    "a success between": (
        [raised(0), make_span(1, trace_id=trace_id(0), parent_id=span_id(0)), raised(2, 1)],
        {0: 0, 2: 2},
    ),
    "ztrace within": ([raised(0), told(1, 0)], {0: 1, 1: 1}),
    "ztrace around": ([told(0), raised(1, 0)], {0: 1, 1: 1}),
    "ztrace in both, which knows": ([told(0), told(1, 0)], {0: 0, 1: 1}),
    "ztrace that passed it": ([raised(0), told(1, 0, origin=2), told(2, 1)], {0: 2, 1: 2, 2: 2}),
    "ztrace around one that passed it": ([told(0, origin=1), raised(1, 0), raised(2, 1)], {0: 2, 1: 2, 2: 2}),
    "a circle": ([raised(0, 2), raised(1, 0), raised(2, 1)], {0: 0, 1: 1, 2: 2}),
    "its own parent": ([raised(0, 0)], {0: 0}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tree_tells_where_an_exception_began(store: Store, path: Path, case: str) -> None:
    """A span passed the exception of a child that failed before it with the same type and message."""
    spans, expected = CASES[case]
    store.store([Sender().data(*spans)])
    assert origins(path) == expected
    recount(path)


@pytest.mark.parametrize("case", [case for case in CASES if case != "a circle"])
def test_the_tree_tells_it_in_any_order(tmp_path: Path, case: str) -> None:
    """Spans of one process that arrive one by one, in any order, have the same origins."""
    spans, expected = CASES[case]
    for number, order in enumerate(permutations(spans)):
        path, sender = tmp_path / f"{number}.db", Sender()
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            for span in order:
                store.store([sender.data(span)])
        assert origins(path) == expected
        recount(path)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_clocks_of_other_processes_do_not_count(store: Store, path: Path, order: Sequence[int]) -> None:
    """A child in another process, whose clock is ahead, still failed before its caller."""
    spans = [raised(0), raised(1, 0, end=5_000), raised(2, 1, end=90_000)]
    for place in order:
        store.store([Sender(place, f"service{place}").data(spans[place])])
    assert origins(path) == {0: 2, 1: 2, 2: 2}
    assert groups(path) == [("ValueError", "boom", "step2", 1, 1)]
    services = row(path, "SELECT services FROM exception_groups")["services"]
    assert json.loads(services) == ["service0", "service1", "service2"]


REASONS: list[tuple[dict[str, Any], str]] = [
    (
        {"details": {"status_message": "out of stock"}, "attributes": {"http.status_code": 409}},
        "out of stock",
    ),
    ({"details": {"status_message": " "}, "attributes": {"http.response.status_code": 503}}, "HTTP 503"),
    ({"attributes": {"http.status_code": "500", "error.type": "500"}}, "HTTP 500"),
    ({"attributes": {"rpc.grpc.status_code": 14}}, "gRPC status 14"),
    ({"attributes": {"error.type": "timeout"}}, "timeout"),
    ({"attributes": {"error.type": 7, "http.status_code": True}}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("changes", "reason"), REASONS)
def test_a_failure_without_an_exception_has_a_reason(
    store: Store, path: Path, changes: dict[str, Any], reason: str
) -> None:
    """A group of failures has no type, and the status text, a status code or the error's type as message."""
    store.store([Sender().data(failed(0), failed(1, 0, **changes))])
    assert groups(path) == [("", reason, "step1", 1, 1)]


def test_failures_are_grouped_by_name_and_reason(store: Store, path: Path) -> None:
    """Failures of one name and one reason, but for data in it, are one group."""
    texts = [("a", "no order 12"), ("a", "no order 7"), ("b", "no order 7"), ("a", "gone")]
    spans = [
        failed(number, tree=number, name=name, details={"status_message": text})
        for number, (name, text) in enumerate(texts)
    ]
    store.store([Sender().data(*spans)])
    found = [(name, count) for *_, name, count, _ in groups(path)]
    assert sorted(found) == [("a", 1), ("a", 2), ("b", 1)]


def test_a_group_goes_with_its_last_occurrence(store: Store, path: Path) -> None:
    """A group whose only occurrence began elsewhere is gone; another shows one that is left."""
    sender = Sender()
    store.store([sender.data(raised(0, message="one"), raised(10, tree=1, message="two", end=50))])
    store.store([sender.data(raised(20, tree=2, message="two"))])
    assert [one[3] for one in groups(path)] == [1, 2]
    store.store([Sender(1, "deep").data(raised(1, 0, message="one"), raised(11, 10, tree=1, message="two"))])
    found = rows(path, "SELECT service, message, count FROM exception_groups ORDER BY service, message")
    assert [tuple(one.values()) for one in found] == [
        ("billing", "two", 1),
        ("deep", "one", 1),
        ("deep", "two", 1),
    ]
    recount(path)


def test_a_group_keeps_what_has_expired(store: Store, path: Path) -> None:
    """An occurrence that began elsewhere leaves a group whose other occurrences have expired."""
    store.store([Sender(0).data(raised(0), raised(10, tree=1, end=120_000))])
    with store.transaction() as db:
        db.execute("DELETE FROM exceptions WHERE span_id = ?", (span_id(0),))
    store.store([Sender(1, "deep").data(raised(11, 10, tree=1))])
    found = rows(path, "SELECT service, count FROM exception_groups ORDER BY service")
    assert [tuple(one.values()) for one in found] == [("billing", 1), ("deep", 1)]


def test_very_many_failures_of_a_trace_are_bounded(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest failures of a trace are searched for origins, and every figure stays exact."""
    monkeypatch.setattr(derived, "MAX_FAILED", 3)
    sender = Sender()
    for number in range(8):
        store.store([sender.data(raised(number, number - 1 if number else None))])
    recount(path)
    assert origins(path)[7] == origins(path)[6] == 7


CASE = """{"resourceSpans": [{"resource": {"attributes": [
{"key": "service.name", "value": {"stringValue": "%s"}}]}, "scopeSpans": [{"spans": [{
"traceId": "15dafb1738491d82dbc2506b30ecb667", "spanId": "%016x", "name": "%s",
"parentSpanId": "%s", "kind": 1, "startTimeUnixNano": "1796019701455716950", "status": {"code": 2},
"endTimeUnixNano": "1796019701456439411", "events": [{"name": "exception", "attributes": [
{"key": "exception.type", "value": {"stringValue": "ValueError"}},
{"key": "exception.message", "value": {"stringValue": "boom in db"}}]}]}]}]}]}"""


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_requests_of_an_sdk_count_an_exception_once(path: Path, order: Sequence[int]) -> None:
    """An exception in three spans of three processes, in requests sent twice, counts once."""
    parents = ["", f"{1:016x}", f"{2:016x}"]
    bodies = [
        CASE % (name, place + 1, name, parents[place]) for place, name in enumerate(("web", "shop", "db"))
    ]
    for place in (*order, *order):
        take_in(path, parse_request(bodies[place]))
    assert groups(path) == [("ValueError", "boom in db", "db", 1, 1)]
    assert row(path, "SELECT service FROM exception_groups") == {"service": "db"}


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[int, Span]]:
    """Return failed spans of some traces, each with the number of its process."""
    spans = []
    for tree in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, 7))
        for place in range(size):
            number = 10 * tree + place
            parent = 10 * tree + draw(st.integers(0, place - 1)) if place else None
            common: dict[str, Any] = {
                "tree": tree,
                "end": draw(st.sampled_from([0, -3, 40, 70_000])),
                "kind": draw(st.sampled_from([1, 1, 1, CONSUMER])),
            }
            make = draw(st.sampled_from(["raised", "raised", "failed", "told", "fine"]))
            if make == "failed":
                span = failed(number, parent, **common)
            elif make == "fine":
                span = failed(number, parent, **common, status=0)
            else:
                message = draw(st.sampled_from(["boom", "boom", "gone"]))
                span = raised(number, parent, message, **common)
                if make == "told":
                    span = span._replace(details=None)
            spans.append((draw(st.integers(0, 2)), span))
    return spans


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 2
)
@given(st.data(), trees())
def test_figures_are_exact_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, spans: list[tuple[int, Span]]
) -> None:
    """Random trees in any order and transactions have the same origins, and the figures of a recount."""
    found = []
    for order in (spans, data.draw(st.permutations(spans))):
        path = tmp_path_factory.mktemp("store") / "traces.db"
        senders = [Sender(number, f"service{number}") for number in range(3)]
        size = data.draw(st.integers(1, len(order)))
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            for begin in range(0, len(order), size):
                store.store([senders[number].data(span) for number, span in order[begin : begin + size]])
        found.append((origins(path), sorted(groups(path))))
    assert found[0] == found[1]
