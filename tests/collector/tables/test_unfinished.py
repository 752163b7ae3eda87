"""Unfinished spans, from their first report to their end, in any order of messages."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collector.messages import (
    EPOCH_NS,
    MS,
    Sender,
    is_balanced,
    make_open,
    make_span,
    refusals,
    row,
    rows,
    span_id,
    trace_id,
)
from ztrace.wire import OPEN, pack_header
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import unfinished


def open_ids(path: Path) -> list[bytes]:
    """Return the ids of the unfinished spans."""
    return [one["span_id"] for one in rows(path, "SELECT span_id FROM unfinished_spans ORDER BY span_id")]


def test_a_span_that_runs_is_kept_as_it_came(store: Store, path: Path) -> None:
    """An unfinished span is stored in its own table only, and counts in no trace, figure or account."""
    sender = Sender()
    span = make_open(
        3, parent_id=span_id(1), attributes={"user": "Zoë"}, links=[[trace_id(5), span_id(6)]], name="wait"
    )
    assert store.store([sender.open(span)]).acknowledgements == {sender.incarnation: 0}
    stored = row(path, "SELECT * FROM unfinished_spans")
    assert (stored["trace_id"], stored["span_id"], stored["parent_id"]) == span[:3]
    assert (stored["start_ns"], stored["seen_ns"], stored["attributes"]) == (
        EPOCH_NS,
        EPOCH_NS,
        '{"user":"Zoë"}',
    )
    shown = row(path, "SELECT * FROM unfinished_list")
    assert (shown["trace_id"], shown["service"], shown["name"]) == (span.trace_id.hex(), "billing", "wait")
    assert (shown["state"], shown["host"], shown["pid"]) == ("live", "desk", 42)
    assert span_id(6).hex() in shown["links"]
    for table in ("spans", "traces", "method_figures"):
        assert row(path, f"SELECT count(*) AS n FROM {table}")["n"] == 0
    assert is_balanced(row(path, "SELECT * FROM publishers"))


def test_a_span_that_is_told_of_again_is_brought_up_to_date(path: Path) -> None:
    """A later report updates the time and attributes of an unfinished span, across restarts too."""
    sender = Sender()
    for at_ns, attributes in ((EPOCH_NS, None), (EPOCH_NS + 9, {"step": 2})):
        with Store(path, clock_ns=lambda at_ns=at_ns: at_ns) as store:  # type: ignore[misc]
            store.store([sender.open(make_open(attributes=attributes))] * 2)
    stored = row(path, "SELECT * FROM unfinished_spans")
    assert (stored["seen_ns"], stored["attributes"]) == (EPOCH_NS + 9, '{"step":2}')


@pytest.mark.parametrize("together", [True, False])
def test_the_end_makes_it_a_finished_span(path: Path, together: bool) -> None:
    """The end of a span removes its unfinished row, in the same transaction or after a restart."""
    sender = Sender()
    messages = [sender.open(make_open(0), make_open(1)), sender.data(make_span(1))]
    for some in [messages] if together else [[each] for each in messages]:
        with Store(path) as store:
            store.store(some)
    assert open_ids(path) == [span_id(0)]
    assert row(path, "SELECT span_id FROM spans")["span_id"] == span_id(1)


@pytest.mark.parametrize("together", [True, False])
def test_what_comes_after_the_end_is_too_late(path: Path, together: bool) -> None:
    """A report after the end of its span is ignored, known by its sequence number or by the stored span."""
    sender = Sender()
    overtaken = sender.open(make_open(0))
    messages = [sender.data(make_span(0), make_span(1)), overtaken, sender.open(make_open(1), make_open(2))]
    for some in [messages] if together else [[each] for each in messages]:
        with Store(path) as store:
            store.store(some)
    assert open_ids(path) == [span_id(2)]


def test_spans_with_one_id_in_two_traces_are_two(store: Store, path: Path) -> None:
    """Spans with the same id in two traces are separate."""
    sender = Sender()
    twins = [make_open(number, span_id=span_id(0)) for number in (0, 1)]
    store.store([sender.open(*twins)])
    store.store([sender.data(make_span(1, span_id=span_id(0)))])
    assert row(path, "SELECT trace_id FROM unfinished_spans")["trace_id"] == trace_id(0)


def test_a_span_is_its_own_processs(store: Store, path: Path) -> None:
    """A report from another publisher does not change an unfinished span."""
    store.store([Sender(0).open(make_open(attributes={"mine": 1}))])
    store.store([Sender(1).open(make_open(attributes={"mine": 0}))])
    assert row(path, "SELECT attributes FROM unfinished_spans")["attributes"] == '{"mine":1}'


def test_a_failed_transaction_changes_nothing(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed transaction neither adds nor removes unfinished spans."""
    sender = Sender()
    store.store([sender.open(make_open(0))])
    message, another = sender.data(make_span(0)), sender.open(make_open(1))

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(store._contents._figures, "write", fail)
        with pytest.raises(Exception, match="disk I/O"):
            store.store([message, another])
    assert open_ids(path) == [span_id(0)]
    store.store([message, another])
    assert open_ids(path) == [span_id(1)]


def test_rows_that_were_deleted_are_forgotten(store: Store, path: Path) -> None:
    """Rows deleted with their traces are forgotten, so later reports add them again."""
    sender = Sender()
    store.store([sender.open(make_open(0), make_open(1))])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM unfinished_spans WHERE trace_id = ?", (trace_id(0),))
    store.forget_traces([trace_id(0), trace_id(9)])
    store.store([sender.open(make_open(0), make_open(1))])
    assert open_ids(path) == [span_id(0), span_id(1)]
    store.store([sender.data(make_span(0), make_span(1))])
    assert open_ids(path) == []


def test_a_flood_of_them_is_bounded(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished spans are limited per publisher and in total, and ended ones make room."""
    monkeypatch.setattr(unfinished, "MAX_OF_INSTANCE", 3)
    monkeypatch.setattr(unfinished, "MAX_ROWS", 5)
    first, second = Sender(0), Sender(1)
    store.store([first.open(*map(make_open, range(5))), second.open(*map(make_open, range(10, 14)))])
    assert open_ids(path) == [span_id(number) for number in (0, 1, 2, 10, 11)]
    assert refusals(path) == {"unfinished": 4}
    store.store([first.data(make_span(0)), second.open(make_open(13))])
    assert span_id(13) in open_ids(path)


def test_a_span_travels_in_the_kind_of_its_own(store: Store, path: Path) -> None:
    """Ended spans in OPEN and unfinished ones in DATA are refused, in OPEN without effect on the account."""
    sender = Sender()
    store.store([sender.open(make_span(0), make_open(1)), sender.data(make_open(2), make_span(3))])
    assert refusals(path) == {"status": 2}
    assert open_ids(path) == [span_id(1)]
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["spans_stored"], publisher["spans_refused"]) == (1, 1)
    assert is_balanced(publisher)
    broken = sender.open(make_open(4))
    store.store([[*broken[:2], b"\xc1"], [broken[0], pack_header(sender.header(OPEN, covered=1)), broken[2]]])
    assert refusals(path) == {"status": 2, "undecodable": 1, "header": 1}


def test_refused_spans_are_known_by_their_ids(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused spans are recorded by their ids if readable, the newest ones only."""
    monkeypatch.setattr("ztrace_collector.refusals.MAX_SPANS", 3)
    sender = Sender()
    store.store([sender.data(make_span(0, kind=9), make_span(1, start_ns=-1), make_span(2, span_id=b"x"))])
    store.store([sender.open(make_span(3))])
    found = rows(path, "SELECT span_id, reason FROM refused_spans ORDER BY id")
    assert [tuple(one.values()) for one in found] == [(span_id(0), "kind"), (span_id(1), "time")]
    store.store([sender.data(*(make_span(number, name=7) for number in range(5, 8)))])
    found = rows(path, "SELECT span_id FROM refused_spans ORDER BY id")
    assert [one["span_id"] for one in found] == [span_id(number) for number in range(5, 8)]


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_only_what_has_not_ended_is_left(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Only spans without an end remain, for any repetition, order and restarts."""
    path = tmp_path_factory.mktemp("unfinished") / "traces.db"
    sender = Sender()
    running: set[int] = set()
    messages: list[list[bytes]] = []
    for number in range(data.draw(st.integers(1, 8))):
        running.add(number)
        if data.draw(st.booleans()):
            messages.append(sender.open(*map(make_open, sorted(running))))
        ended = data.draw(st.sets(st.sampled_from(sorted(running)))) if running else set()
        if ended:
            messages.append(sender.data(*map(make_span, sorted(ended))))
            running -= ended
    Store(path).close()
    arriving: list[list[bytes]] = [*data.draw(st.permutations(messages * 2)), *messages]
    while arriving:
        count = data.draw(st.integers(1, 8))
        with Store(path) as store:
            store.store(arriving[:count])
        arriving = arriving[count:]
    left = [span_id(number) for number in sorted(running)]
    assert set(open_ids(path)) <= set(left)
    with Store(path) as store:
        store.store([sender.open(*map(make_open, sorted(running)))])
    assert open_ids(path) == left


def test_a_long_trace_does_not_hold_up_the_collector(store: Store, path: Path) -> None:
    """A report of a span is checked against the newest spans of a very large trace only."""
    sender = Sender()
    trace = trace_id(0)
    for first in range(0, 12_000, 3_000):
        spans = [make_span(number, trace_id=trace) for number in range(first, first + 3_000)]
        store.store([sender.data(*spans)])
    store.store([sender.open(make_open(11_000, trace_id=trace), make_open(20_000, trace_id=trace))])
    assert open_ids(path) == [span_id(20_000)]
    assert row(path, "SELECT duration_ms FROM trace_list")["duration_ms"] == 10 * MS / 1e6
