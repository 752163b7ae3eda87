"""Search of traces: conditions, order, time limits and size limits."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.stored import HOUR, MINUTE, MS, NOON, SECOND, open_message, raised, span, store, trace_id
from tests.viewer.web.spans import CHECKOUT, ORDER, ORPHAN, REQUEST, SHORT, WORK, store_request
from ztrace.records import INT64_MAX
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_trace_after, read_unfinished_after
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries import calls, candidates
from ztrace_viewer.queries.calls import count_calls
from ztrace_viewer.queries.deadline import Deadline, TooLong
from ztrace_viewer.queries.stores.sqlite import exporting
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.web.jaeger import loading
from ztrace_viewer.web.jaeger.loading import load_traces
from ztrace_viewer.web.jaeger.parameters import Question
from ztrace_viewer.web.jaeger.search import search


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with the spans that were sent to Jaeger."""
    path = tmp_path_factory.mktemp("search") / "like.db"
    store_request(path, REQUEST)
    return path


def find(path: Path, **asked: Any) -> list[str]:
    """Return the ids of the traces that a question finds."""
    with open_file(path) as db:
        found = search(db, Question(**asked), Deadline(30))
    assert not found.note
    return [trace.trace_id.hex() for trace in found.traces]


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"http.request.method": "POST"}, [CHECKOUT]),
        ({"http.request.method": "post"}, []),
        ({"http.response.status_code": "500"}, [CHECKOUT]),
        ({"http.response.status_code": "500.0"}, []),
        ({"big": "9007199254740993"}, [CHECKOUT]),
        ({"ratio": "0.25"}, [CHECKOUT]),
        ({"retried": "false"}, [CHECKOUT]),
        ({"raw": "AAEC/w=="}, [CHECKOUT]),
        ({"items": '["a","b"]'}, [CHECKOUT]),
        ({"empty": ""}, [CHECKOUT]),
        ({"nothing": ""}, []),
        ({"http.request.method": "POST", "ratio": "0.25"}, [CHECKOUT]),
        # Of two spans, but of neither both.
        ({"http.request.method": "POST", "span.kind": "client"}, []),
        ({"error": "true"}, [CHECKOUT]),
        ({"error": "false"}, [SHORT, ORPHAN, WORK, ORDER, CHECKOUT]),
        ({"error": "perhaps"}, []),
        ({"span.kind": "consumer"}, [WORK]),
        ({"otel.status_code": "OK"}, [CHECKOUT]),
        ({"otel.status_description": "payment refused"}, [CHECKOUT]),
        ({"otel.scope.name": "shop.tracer"}, [SHORT, ORDER, CHECKOUT]),
        ({"scope.version": "1.2", "messaging.system": "zeromq"}, [ORDER]),
        ({"exception.type": "CardRefused"}, [CHECKOUT]),
        ({"host.name": "box", "error": "true"}, [CHECKOUT]),
        ({"resource.host.name": "box", "span.kind": "consumer"}, [WORK]),
        ({"resource.http.request.method": "POST"}, []),
        ({"service.name": "worker"}, [ORPHAN, WORK]),
        ({"process.pid": "4711", "span.kind": "producer"}, [ORDER]),
    ],
)
def test_tags(like: Path, tags: dict[str, str], found: list[str]) -> None:
    """Tags match those of span, process, scope and events, and Jaeger's own, newest traces first."""
    assert find(like, tags=tags) == found


def test_names_hold_for_one_span(like: Path) -> None:
    """Service and operation must match the same span."""
    assert find(like, service="billing", operation="look up") == [CHECKOUT]
    assert find(like, service="shop", operation="look up") == []
    assert find(like, operation="look up") == [CHECKOUT]
    assert find(like, service="sho") == []
    assert find(like, service='shop"') == []


def test_durations_are_those_of_the_span_that_is_named(like: Path) -> None:
    """Durations apply to the named span, not its trace."""
    assert find(like, operation="look up", min_ns=30 * MS, max_ns=30 * MS) == [CHECKOUT]
    assert find(like, operation="look up", min_ns=31 * MS) == []
    assert find(like, min_ns=110 * MS) == [CHECKOUT]
    assert find(like, service="billing", min_ns=110 * MS) == []


def test_what_a_producer_is_called_by(tmp_path: Path) -> None:
    """A producer is found by its name and by its displayed name."""
    path = store(tmp_path / "z.db", {"shop": [span(trace_id(1), 1, name="orders", kind="producer")]})
    assert find(path, operation="orders") == find(path, operation="send orders") == [trace_id(1).hex()]
    assert find(path, operation="process orders") == []


def test_the_newest_come_first_whatever_came_first(tmp_path: Path) -> None:
    """Traces are found newest first, across hours, equal times and pages."""
    path = tmp_path / "z.db"
    starts = [NOON + number * 7 * MINUTE for number in range(400)] + [NOON] * 5
    ids = [trace_id(number, start) for number, start in enumerate(starts)]
    spans = [
        span(trace, number + 1, at_ns=start)
        for number, (trace, start) in enumerate(zip(ids, starts, strict=True))
    ]
    store(path, {"shop": spans[::2]}, at_ns=NOON)
    store(path, {"shop": spans[1::2]}, at_ns=NOON)
    expected = sorted(range(len(starts)), key=lambda number: starts[number], reverse=True)
    found = find(path, limit=1000)
    assert [starts[ids.index(bytes.fromhex(each))] for each in found] == [
        starts[number] for number in expected
    ]
    assert len(set(found)) == len(starts)
    assert find(path, limit=3) == found[:3]
    some = find(path, start_ns=NOON + HOUR, end_ns=NOON + 2 * HOUR, limit=1000)
    assert some == [ids[number].hex() for number in reversed(range(9, 18))]


def test_a_long_trace_is_found_by_what_happened_late_in_it(tmp_path: Path) -> None:
    """A long trace is found by a span that started hours after the trace."""
    path = tmp_path / "z.db"
    late = span(trace_id(1), 2, 1, name="rare", start_ms=HOUR * 2 / MS)
    store(path, {"shop": [span(trace_id(1), 1, name="often", duration_ms=HOUR * 3 / MS), late]})
    store(path, {"shop": [span(trace_id(2), 1, name="often")]})
    assert find(path, operation="rare") == [trace_id(1).hex()]


def test_a_search_ends_with_its_time_and_says_so(like: Path) -> None:
    """A search ends at its deadline, with the traces found and a note on how far back it looked."""
    with open_file(like) as db:
        found = search(db, Question(tags={"http.request.method": "GET"}), Deadline(0))
        calls = count_calls(db, 0, INT64_MAX, Deadline(0))
    assert found.traces == []
    for note in (found.note, calls.note):
        assert note.startswith("searched back to 2026-01-31T12:00:0")
        assert note.endswith("Z within 0 s; select a shorter time")


def test_what_has_enough_needs_no_time(like: Path) -> None:
    """A search that found its limit has no note."""
    with open_file(like) as db:
        assert search(db, Question(service="shop", limit=1), Deadline(0)).note == ""


def test_calls_are_counted_between_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are counted between spans of different services whose parent is stored."""
    path = tmp_path / "z.db"
    for number in range(3):
        trace = trace_id(number)
        store(
            path,
            {
                "shop": [span(trace, 1), span(trace, 2, 1, kind="client")],
                "billing": [span(trace, 3, 2), span(trace, 4, 3, kind="client"), span(trace, 9, 99)],
                "bank": [span(trace, 5, 4), span(trace, 6, 4)],
            },
        )
    with open_file(path) as db:
        assert count_calls(db, NOON, NOON + SECOND, Deadline(30)).counts == {
            ("shop", "billing"): 3,
            ("billing", "bank"): 6,
        }
        assert count_calls(db, NOON + SECOND, INT64_MAX, Deadline(30)).counts == {}
        # So many spans at a time, and so many pairs of services.
        monkeypatch.setattr(calls, "_CHUNK_SPANS", 8)
        assert sum(count_calls(db, 0, INT64_MAX, Deadline(30)).counts.values()) == 9
        monkeypatch.setattr(calls, "MAX_PAIRS", 1)
        cut = count_calls(db, 0, INT64_MAX, Deadline(30))
        assert list(cut.counts) == [("billing", "bank")]
        assert "more than 1 pairs of services" in cut.note


@contextmanager
def small_answers(monkeypatch: pytest.MonkeyPatch, spans: int) -> Iterator[None]:
    """Limit the number of spans in an answer."""
    with monkeypatch.context() as patch:
        patch.setattr(loading, "MAX_SPANS", spans)
        yield


def test_an_answer_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has whole traces up to its limit, or the first spans of a single larger one."""
    path = tmp_path / "z.db"
    for number, spans in enumerate((3, 5, 2)):
        store(path, {"shop": [span(trace_id(number), 1 + each) for each in range(spans)]})
    ids = [trace_id(number) for number in range(3)]
    with open_file(path) as db, small_answers(monkeypatch, 6):
        loaded = load_traces(db, ids)
        assert [_count(request) for request in loaded.requests] == [3, 2]
        assert loaded.note == "1 traces left out: a response has at most 6 spans and 4 MiB of their texts"
        assert load_traces(db, [trace_id(7)]).requests == []
    with open_file(path) as db, small_answers(monkeypatch, 4):
        loaded = load_traces(db, ids[1:2])
        assert [_count(request) for request in loaded.requests] == [4]
        assert loaded.note.startswith("the first 4 spans of a larger trace: a response has at most 4 spans")


def test_an_answer_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of huge spans, an answer has as many as fit, the first of a trace or whole traces, and says so."""
    path = tmp_path / "z.db"
    text = {"text": "x" * 50_000}
    for number, (ended, running, attributes) in enumerate(((150, 0, text), (3, 150, text), (5, 1, {}))):
        made = [span(trace_id(number), 1 + each, attributes=attributes) for each in range(ended)]
        made += [
            span(trace_id(number), 1000 + each, duration_ms=None, attributes=attributes)
            for each in range(running)
        ]
        for first in range(0, len(made), 30):
            store(path, {"shop": made[first : first + 30]})
    read: list[int] = []

    def count(spans: list[StoredSpan]) -> list[StoredSpan]:
        read.append(len(spans))
        return spans

    monkeypatch.setattr(exporting, "read_trace_after", lambda *values: count(read_trace_after(*values)))
    monkeypatch.setattr(
        exporting, "read_unfinished_after", lambda *values: count(read_unfinished_after(*values))
    )
    ids = [trace_id(number) for number in range(3)]
    with open_file(path) as db:
        for number in (0, 1):
            loaded = load_traces(db, [ids[number]])
            (spans,) = map(_count, loaded.requests)
            assert 0.9 * loading.MAX_BYTES < spans * 50_000 <= loading.MAX_BYTES
            assert loaded.note.startswith(f"the first {spans} spans of a larger trace")
        # A chunk more than fits is read at most.
        assert sum(read) <= 2 * (spans + loading.FIRST_CHUNK)
        loaded = load_traces(db, [ids[2], ids[0], ids[1]])
        assert list(map(_count, loaded.requests)) == [6]
        assert loaded.note.startswith("2 traces left out")
        monkeypatch.setattr(loading, "MAX_BYTES", 1000)
        assert list(map(_count, load_traces(db, [ids[0]]).requests)) == [1]


def _count(request: Any) -> int:
    return sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)


def test_spans_that_have_not_ended_are_there(tmp_path: Path) -> None:
    """Unfinished spans are in the answer, of traces without ended spans too."""
    path = store(tmp_path / "z.db", {"shop": [span(trace_id(1), 2, 1)]})
    with closing(Store(path, clock_ns=lambda: NOON + SECOND)) as opened:
        opened.store([open_message("shop", [span(trace_id(1), 1, duration_ms=None)], 9)])
        opened.store([open_message("shop", [span(trace_id(2), 1, duration_ms=None)], 9)])
    with open_file(path) as db:
        loaded = load_traces(db, [trace_id(1), trace_id(2)])
    assert [_count(request) for request in loaded.requests] == [2, 1]


def test_pages_are_bounded(like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trace is seen once, for any page size."""
    for page, chunk in ((1, 1), (2, 1), (1, 3), (100, 2)):
        monkeypatch.setattr(candidates, "FIRST_PAGE", page)
        monkeypatch.setattr(candidates, "LAST_PAGE", page)
        monkeypatch.setattr(candidates, "CHUNK", chunk)
        assert find(like) == [SHORT, ORPHAN, WORK, ORDER, CHECKOUT]


def test_exceptions_are_found_by_their_type(tmp_path: Path) -> None:
    """ztrace's own exceptions are found by their type."""
    path = tmp_path / "z.db"
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("ValueError", "no"))]})
    store(path, {"shop": [span(trace_id(2), 1, exception=raised("KeyError", "no"))]})
    assert find(path, tags={"exception.type": "ValueError"}) == [trace_id(1).hex()]
    assert find(path, tags={"error.type": "KeyError"}) == [trace_id(2).hex()]


def test_no_question_reads_all_spans(like: Path) -> None:
    """No query scans the tables of spans, traces or exceptions."""
    seen: list[str] = []
    with open_file(like) as db:
        db.db.set_trace_callback(seen.append)
        search(db, Question(service="shop", operation="checkout", tags={"a": "b"}, min_ns=1), Deadline(30))
        load_traces(db, [bytes(16)])
        count_calls(db, NOON, NOON + HOUR, Deadline(30))
        db.db.set_trace_callback(None)
        asked = [text for text in seen if text.lstrip().startswith(("SELECT", "WITH"))]
        plans = [
            " ".join(str(row[3]) for row in db.db.execute(f"EXPLAIN QUERY PLAN {text}")) for text in asked
        ]
    assert len(plans) > 6
    for text, plan in zip(asked, plans, strict=True):
        for table in ("SCAN main.spans", "SCAN main.traces", "SCAN traces ", "SCAN exceptions"):
            assert table not in f"{plan} ", text
        # The rows that the view of all spans returns are scanned.
        assert "SCAN spans" not in plan or "all_spans AS spans" in text


def test_a_question_that_takes_too_long_is_ended(like: Path) -> None:
    """A statement that exceeds the deadline is interrupted."""
    deadline = Deadline(0.2)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with (
        open_file(like) as store,
        pytest.raises(TooLong, match=r"not answered within 0\.2 s"),
        store.within(deadline),
    ):
        store.db.execute(endless).fetchone()
