"""Tables kept up to date while writing, compared with a recomputation from the spans."""

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, row, rows, span_id, trace_id
from ztrace.records import ERROR, OK, ExceptionRecord, FrameRecord, Span
from ztrace_collector.layout import HOUR_NS, RESOLUTIONS_S
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import figures, traces
from ztrace_collector.tables.histogram import bucket_of

SERVICES = ("billing", "stock", "web")


def recomputed_traces(path: Path) -> dict[bytes, dict[str, Any]]:
    """Return the traces recomputed from the spans."""
    by_trace = defaultdict(list)
    for span in rows(
        path, "SELECT spans.*, service FROM spans JOIN methods ON methods.id = spans.method ORDER BY spans.id"
    ):
        by_trace[span["trace_id"]].append(span)
    result = {}
    for key, spans in by_trace.items():
        roots = [span for span in spans if span["parent_id"] is None]
        # The service that has a root first keeps it.
        roots = [span for span in roots if span["service"] == roots[0]["service"]]
        root = min(roots, key=lambda span: (span["start_ns"], span["span_id"]), default=None)
        first = min(spans, key=lambda span: (span["start_ns"], span["method"]))
        start_ns = (root or first)["start_ns"]
        end_ns = max(span["start_ns"] + span["duration_ns"] for span in spans)
        result[key] = {
            "trace_id": key,
            "root_span_id": root and root["span_id"],
            "root_method": (root or first)["method"],
            "start_ns": start_ns,
            "end_ns": end_ns,
            "duration_ns": root["duration_ns"] if root else end_ns - start_ns,
            "span_count": len(spans),
            "error_count": sum(span["status"] == ERROR for span in spans),
            "services": json.dumps(sorted({span["service"] for span in spans}), separators=(",", ":")),
            "hour": start_ns // HOUR_NS,
        }
    return result


def recomputed_figures(path: Path) -> dict[tuple[int, int, int], tuple[int, int, int, int, dict[str, int]]]:
    """Return the figures recomputed from the spans."""
    groups = defaultdict(list)
    for span in rows(path, "SELECT * FROM spans"):
        for resolution_s in RESOLUTIONS_S:
            bucket = (span["start_ns"] + span["duration_ns"]) // (resolution_s * 10**9)
            groups[resolution_s, bucket, span["method"]].append(span)
    return {
        key: (
            len(spans),
            sum(span["status"] == ERROR for span in spans),
            sum(span["duration_ns"] for span in spans),
            sum(span["self_ns"] or 0 for span in spans),
            dict(Counter(str(bucket_of(span["duration_ns"])) for span in spans)),
        )
        for key, spans in groups.items()
    }


def recomputed_groups(path: Path) -> list[tuple[Any, ...]]:
    """Return each group's count, times and latest occurrence recomputed from the exceptions."""
    found: dict[int, list[tuple[int, bytes, bytes]]] = defaultdict(list)
    for one in rows(path, "SELECT * FROM exceptions WHERE span_id = origin_span_id"):
        found[one["exception_group"]].append((one["at_ns"], one["trace_id"], one["span_id"]))
    return sorted((group, len(seen), min(seen)[0], *max(seen)) for group, seen in found.items())


def check_rollups(path: Path) -> None:
    """Compare every derived table with the spans."""
    stored = {one["trace_id"]: one for one in rows(path, "SELECT * FROM traces")}
    for trace in stored.values():
        del trace["id"]
        assert (trace.pop("pinned"), trace.pop("threshold")) == (0, None)
    assert stored == recomputed_traces(path)
    assert {
        (one["resolution_s"], one["bucket"], one["method"]): (
            one["calls"],
            one["errors"],
            one["total_ns"],
            one["self_ns"],
            json.loads(one["histogram"]),
        )
        for one in rows(path, "SELECT * FROM method_figures")
    } == recomputed_figures(path)
    columns = ("id", "count", "first_ns", "last_ns", "trace_id", "origin_span_id")
    groups = rows(path, "SELECT * FROM exception_groups ORDER BY id")
    assert [tuple(one[name] for name in columns) for one in groups] == recomputed_groups(path)
    minutes = rows(
        path, "SELECT exception_group, sum(count) AS n FROM exception_minutes GROUP BY 1 ORDER BY 1"
    )
    assert [(one["exception_group"], one["n"]) for one in minutes] == [
        (one["id"], one["count"]) for one in groups
    ]
    with closing(sqlite3.connect(path)) as db:
        assert dict(db.execute("SELECT name, value FROM totals")) == {
            "spans": db.execute("SELECT count(*) FROM spans").fetchone()[0],
            "spans_expired": 0,
            "spans_thinned": 0,
            "traces_thinned": 0,
            "traces": len(stored),
        }
        # A passed exception has the group of its origin, if the origin is stored.
        assert not db.execute(
            "SELECT 1 FROM exceptions AS passed JOIN exceptions AS origin"
            " ON origin.trace_id = passed.origin_trace_id AND origin.span_id = passed.origin_span_id"
            " WHERE origin.span_id = origin.origin_span_id"
            " AND passed.exception_group IS NOT origin.exception_group"
        ).fetchall()


@st.composite
def spans_of_a_tree(draw: st.DrawFn, number: int) -> list[tuple[str, Span]]:
    """Return (service, span) pairs of a tree, with missing and failed parts."""
    spans: list[tuple[str, Span]] = []
    for index in range(draw(st.integers(1, 7))):
        parent = draw(st.none() | st.integers(0, index)) if index else draw(st.sampled_from([None, 0]))
        status = draw(st.sampled_from([OK, OK, ERROR]))
        duration_ns = draw(st.integers(0, 3) | st.integers(0, 90_000 * MS))
        identifier = span_id(100 * number + index)
        exception = None
        if status == ERROR and draw(st.booleans()):
            origin = draw(st.integers(0, index))
            how = "raised" if origin == index else "passed"
            line, function = draw(st.integers(1, 99)), draw(st.sampled_from("fg"))
            frames = [FrameRecord("app.py", line, function, "app", "x()", True)]
            exception = ExceptionRecord(
                "E", f"m{index}", frames, [], how, trace_id(number), span_id(100 * number + origin)
            )
        spans.append(
            (
                draw(st.sampled_from(SERVICES)),
                Span(
                    trace_id=trace_id(number),
                    span_id=identifier,
                    parent_id=None if parent is None else span_id(100 * number + 50 + parent),
                    kind=draw(st.integers(1, 5)),
                    name=draw(st.sampled_from(["a", "b"])),
                    start_ns=EPOCH_NS + draw(st.integers(0, 3) | st.integers(0, 2 * HOUR_NS)),
                    duration_ns=duration_ns,
                    self_ns=draw(st.none() | st.integers(0, 5)),
                    cpu_ns=None,
                    status=status,
                    attributes=None,
                    links=None,
                    exception=exception,
                ),
            )
        )
    return spans


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_rollups_equal_a_recomputation(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Random trees in random order and batches, with duplicates and restarts, give exact tables."""
    path = tmp_path_factory.mktemp("rollups") / "traces.db"
    trees = [data.draw(spans_of_a_tree(number)) for number in range(data.draw(st.integers(1, 4)))]
    spans = data.draw(st.permutations([span for tree in trees for span in tree]))
    senders = {service: Sender(index, service) for index, service in enumerate(SERVICES)}
    messages = []
    while spans:
        count = data.draw(st.integers(1, 4))
        chunk, spans = spans[:count], spans[count:]
        for service in SERVICES:
            batch = [span for name, span in chunk if name == service]
            if batch:
                message = senders[service].data(*batch)
                messages += [message] * data.draw(st.sampled_from([1, 1, 2]))
    with pytest.MonkeyPatch.context() as patch:
        # Small caches force rows to be read back.
        patch.setattr(traces, "SIZE", data.draw(st.sampled_from([1, 50])))
        patch.setattr(figures, "SIZE", data.draw(st.sampled_from([1, 50])))
        while messages:
            with Store(path) as store:
                for _ in range(data.draw(st.integers(1, 4))):
                    count = data.draw(st.integers(1, 5))
                    store.store(messages[:count])
                    messages = messages[count:]
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == sum(map(len, trees))
    check_rollups(path)


def test_a_root_takes_over_when_it_comes(store: Store, path: Path) -> None:
    """Until the root arrives, the earliest span and the whole extent stand in for it."""
    sender = Sender()
    child = make_span(1, trace_id=trace_id(0), parent_id=span_id(0), name="child", duration_ns=30 * MS)
    store.store([sender.data(child)])
    first = row(path, "SELECT * FROM trace_list JOIN traces USING (id)")
    assert (first["name"], first["duration_ms"], first["root_span_id"]) == ("child", 30, None)
    store.store([sender.data(make_span(0, name="root", start_ns=EPOCH_NS - MS, duration_ns=20 * MS))])
    second = row(path, "SELECT * FROM trace_list JOIN traces USING (id)")
    assert (second["name"], second["duration_ms"], second["root_span_id"]) == ("root", 20, span_id(0))
    assert (second["start_ns"], second["end_ns"]) == (EPOCH_NS - MS, EPOCH_NS + 30 * MS)


def test_traces_with_ids_in_any_order_are_found_again(path: Path) -> None:
    """A trace with an id lower than stored ones, as other tracers' random ids can be, has one row."""
    for numbers in ([900, 5], [5, 700], [700, 1], [1, 5]):
        with Store(path) as store:
            store.store([Sender(numbers[0] % 200).data(*(make_span(number) for number in numbers))])
    check_rollups(path)
    assert row(path, "SELECT count(*) AS n FROM traces")["n"] == 4
