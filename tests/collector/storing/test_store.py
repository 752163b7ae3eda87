"""Storing of messages as rows, and acknowledgements."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

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
from ztrace.errors import DatabaseError
from ztrace.records import ERROR
from ztrace.wire import pack_stretch
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.histogram import bucket_of


def test_a_span_is_stored_as_it_came(store: Store, path: Path) -> None:
    """A span's fields are all in its row and in the readable view."""
    sender = Sender()
    span = make_span(
        parent_id=span_id(9),
        cpu_ns=3 * MS,
        self_ns=4 * MS,
        attributes={"user": "Zoë", "amount": 12, "list": [1, None, True, 2.5]},
        links=[[trace_id(5), span_id(6)]],
    )
    assert store.store([sender.data(span)]).acknowledgements == {sender.incarnation: 1}
    stored = row(path, "SELECT * FROM spans")
    assert (stored["trace_id"], stored["span_id"], stored["parent_id"]) == span[:3]
    assert (stored["start_ns"], stored["duration_ns"], stored["self_ns"], stored["cpu_ns"]) == span[5:9]
    assert json.loads(stored["attributes"]) == span.attributes
    assert json.loads(stored["links"]) == [{"trace_id": trace_id(5).hex(), "span_id": span_id(6).hex()}]
    shown = row(path, "SELECT * FROM span_list")
    assert (shown["service"], shown["name"], shown["kind"]) == ("billing", "charge", "server")
    assert (shown["trace_id"], shown["host"], shown["pid"]) == (span.trace_id.hex(), "desk", 42)


def test_attributes_of_many_spans_stay_with_their_spans(store: Store, path: Path) -> None:
    """Spans with, without and with nested attributes in one batch keep their own."""
    attributes: list[Any] = [
        None,
        {},
        {"a": '},\n{"', "b": "\0"},
        {"c": [{"d": 1}, {"e": "},{"}]},
        {"f": {"g": {}}},
        {"h": "},{", "i": "\n"},
        None,
    ]
    spans = [make_span(number, attributes=one) for number, one in enumerate(attributes)]
    for batch in (spans, spans[2:3], spans[3:5]):
        store.store([Sender(len(batch)).data(*batch)])
    stored = [one["attributes"] for one in rows(path, "SELECT attributes FROM spans ORDER BY id")]
    assert [json.loads(text) if text else None for text in stored] == [
        one or None for one in (*attributes, attributes[2], *attributes[3:5])
    ]


def test_a_duplicate_is_acknowledged_and_not_stored(store: Store, path: Path) -> None:
    """A batch received twice, in one transaction or two, is stored once and acknowledged."""
    sender = Sender()
    message = sender.data(make_span())
    assert store.store([message, message]).acknowledgements == {sender.incarnation: 1}
    assert store.store([message]).acknowledgements == {sender.incarnation: 1}
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1
    assert row(path, "SELECT value FROM totals WHERE name = 'spans'")["value"] == 1


def test_batches_out_of_order_are_asked_for_again(store: Store, path: Path) -> None:
    """A batch beyond the expected number is answered with that number, and stored in its turn."""
    sender = Sender()
    first, second = sender.data(make_span(0)), sender.data(make_span(1))
    assert store.store([second]).acknowledgements == {sender.incarnation: 0}
    assert store.store([first, second]).acknowledgements == {sender.incarnation: 2}
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 2


def test_accounts_survive_a_restart(path: Path) -> None:
    """A new store continues the accounts of the previous one."""
    sender = Sender()
    first = sender.data(make_span(0))
    with Store(path) as store:
        store.store([first])
    with Store(path) as store:
        assert store.store([first]).acknowledgements == {sender.incarnation: 1}
        assert store.store([sender.data(make_span(1))]).acknowledgements == {sender.incarnation: 2}
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["spans_stored"], publisher["next_sequence"]) == (2, 2)
    assert is_balanced(publisher)


def test_the_account_of_a_publisher_is_kept(store: Store, path: Path) -> None:
    """A publisher's account of stored, elsewhere and lost spans adds up, and losses have their times."""
    sender = Sender()
    sender.sequence, sender.floor, sender.created, sender.retired = 3, 3, 7, 7
    sender.mended = {"attribute_cut": 4}
    messages = [sender.data(make_span(1), make_span(2, kind=9))]
    messages.append(sender.tombstone(2, 5, pack_stretch(EPOCH_NS - 9, EPOCH_NS - 4)))
    sender.created, sender.dropped = sender.created + 3, 3
    messages.append(sender.bye())
    assert store.store(messages).acknowledgements == {sender.incarnation: 7}
    publisher = row(path, "SELECT * FROM publishers")
    assert {name: publisher[f"spans_{name}"] for name in ("stored", "dropped", "tombstoned", "refused")} == {
        "stored": 1,
        "dropped": 3,
        "tombstoned": 5,
        "refused": 1,
    }
    assert (publisher["spans_elsewhere"], publisher["state"]) == (7, "ended")
    assert is_balanced(publisher)
    assert json.loads(publisher["mended"]) == {"attribute_cut": 4}
    lost = rows(path, "SELECT reason, span_count, first_ns, last_ns, first_sequence FROM losses ORDER BY id")
    assert [tuple(one.values()) for one in lost] == [
        ("refused", 1, EPOCH_NS, EPOCH_NS, None),
        ("window full", 5, EPOCH_NS - 9, EPOCH_NS - 4, 4),
        ("queue full", 3, EPOCH_NS, EPOCH_NS, None),
    ]
    shown = row(path, "SELECT * FROM loss_list WHERE reason = 'refused'")
    assert (shown["service"], shown["pid"], shown["last"]) == ("billing", 42, "2024-01-01 00:00:00")
    instance = row(path, "SELECT * FROM instances")
    assert (instance["instance_id"], instance["pid"]) == (sender.incarnation.hex(), 42)


def test_a_crash_report_ends_an_account(store: Store, path: Path) -> None:
    """A crash message ends an account, and undelivered spans count as crashed."""
    sender = Sender()
    store.store([sender.data(make_span())])
    sender.created += 4
    store.store([sender.crash()])
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["state"], publisher["spans_crashed"]) == ("crashed", 4)
    assert is_balanced(publisher)


def test_a_beat_makes_a_publisher_known_and_is_answered(store: Store, path: Path) -> None:
    """A heartbeat creates a publisher's row and is answered with its floor."""
    sender = Sender()
    sender.sequence = sender.floor = 6
    assert store.store([sender.beat()]).acknowledgements == {sender.incarnation: 6}
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["state"], publisher["last_seen_ns"]) == ("live", EPOCH_NS)


def test_figures_count_finished_spans_where_they_ended(store: Store, path: Path) -> None:
    """A span counts in the minute, hour and day of its end."""
    minute_ns = 60_000 * MS
    spans = [
        make_span(0, start_ns=EPOCH_NS + minute_ns - MS, duration_ns=2 * MS, self_ns=MS, status=ERROR),
        make_span(1, start_ns=EPOCH_NS, duration_ns=3 * MS, self_ns=None),
    ]
    store.store([Sender().data(*spans)])
    figures = rows(path, "SELECT * FROM method_figures ORDER BY resolution_s, bucket")
    minute = EPOCH_NS // minute_ns
    assert [(one["resolution_s"], one["bucket"], one["calls"], one["errors"]) for one in figures] == [
        (60, minute, 1, 0),
        (60, minute + 1, 1, 1),
        (3600, minute // 60, 2, 1),
        (86400, minute // 1440, 2, 1),
    ]
    assert (figures[2]["total_ns"], figures[2]["self_ns"]) == (5 * MS, MS)
    assert json.loads(figures[2]["histogram"]) == {str(bucket_of(2 * MS)): 1, str(bucket_of(3 * MS)): 1}


def test_sums_of_hostile_durations_end_at_the_largest_integer(store: Store, path: Path) -> None:
    """Sums of extreme durations saturate at the largest integer."""
    spans = [make_span(n, start_ns=0, duration_ns=(1 << 63) - 1, self_ns=(1 << 63) - 1) for n in range(3)]
    store.store([Sender().data(*spans)])
    assert (
        row(path, "SELECT total_ns FROM method_figures WHERE resolution_s = 60")["total_ns"] == (1 << 63) - 1
    )


def test_a_failed_transaction_leaves_nothing_behind(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed transaction leaves nothing stored or remembered, and its messages can be stored again."""
    first, second = Sender(0), Sender(1)
    store.store([first.data(make_span(0))])
    messages = [first.data(make_span(0, name="new")), second.data(make_span(7))]

    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(store._contents._figures, "write", fail)
        with pytest.raises(DatabaseError, match="disk I/O error"):
            store.store(messages)
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1
    assert row(path, "SELECT count(*) AS n FROM methods")["n"] == 1
    assert store.store(messages).acknowledgements == {first.incarnation: 2, second.incarnation: 1}
    assert row(path, "SELECT count(*) AS n FROM span_list")["n"] == 3
    assert row(path, "SELECT span_count FROM traces WHERE trace_id = ?", trace_id(0))["span_count"] == 2
    assert row(path, "SELECT sum(calls) AS n FROM method_figures WHERE resolution_s = 60")["n"] == 3
    counts = {one["name"]: one["value"] for one in rows(path, "SELECT * FROM totals") if one["value"]}
    assert counts == {"spans": 3, "traces": 2}


def test_a_full_disk_is_one_clear_error_and_not_the_end(store: Store, path: Path) -> None:
    """A full file raises a clear error, and with space again the store continues."""
    sender = Sender()
    store.store([sender.data(make_span())])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    message = sender.data(*(make_span(n, attributes={"text": "x" * 2000}) for n in range(100)))
    with pytest.raises(DatabaseError, match="no space") as raised:
        store.store([message])
    assert raised.value.hint
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert store.store([message]).acknowledgements == {sender.incarnation: 2}
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 101


def test_a_loss_that_goes_on_is_one_row(path: Path) -> None:
    """A continuing loss is one row, even across a restart, and a later one another row."""
    sender, now_ns = Sender(), EPOCH_NS

    def drop(store: Store) -> None:
        sender.created, sender.dropped = sender.created + 2, sender.dropped + 2
        store.store([sender.beat()])

    def clock_ns() -> int:
        return now_ns

    for _ in range(2):
        with Store(path, clock_ns=clock_ns) as store:
            for _ in range(3):
                now_ns += 1_000 * MS
                drop(store)
    now_ns += 600_000 * MS
    with Store(path, clock_ns=clock_ns) as store:
        store.store([sender.beat()])
        now_ns += MS
        drop(store)
    found = rows(path, "SELECT span_count, first_ns, last_ns FROM losses ORDER BY id")
    assert [tuple(one.values()) for one in found] == [
        (12, EPOCH_NS, EPOCH_NS + 6_000 * MS),
        (2, EPOCH_NS + 606_000 * MS, now_ns),
    ]
    assert is_balanced(row(path, "SELECT * FROM publishers"))


def test_losses_of_one_publisher_have_few_rows(store: Store, path: Path) -> None:
    """The rows of one publisher's losses are limited, and their sum stays exact."""
    sender, hour_ns = Sender(), 3_600_000 * MS
    for number in range(3):
        stretches = [pack_stretch(at_ns, at_ns) for at_ns in range(number, 700 * hour_ns, hour_ns)]
        store.store([sender.tombstone(1, 1, stretch) for stretch in stretches])
    found = row(path, "SELECT count(*) AS n, sum(span_count) AS total FROM losses")
    assert (found["n"], found["total"]) == (1000, 2100)
    assert is_balanced(row(path, "SELECT * FROM publishers"))


def test_refusals_from_outside_are_counted_with_the_next_transaction(store: Store, path: Path) -> None:
    """Refusals noted from outside are written with the next transaction or on request, each once."""
    store.noted.note("body", "at the door", 3)
    assert refusals(path) == {}
    store.store([Sender().data(make_span(), make_span(1, kind=9))])
    assert refusals(path) == {"body": 3, "kind": 1}
    store.noted.note("body", "again")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        store._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(DatabaseError):
            store.store()
    store.store()
    store.store()
    assert refusals(path) == {"body": 4, "kind": 1}
    assert row(path, "SELECT detail FROM refusals WHERE reason = 'body'")["detail"] == "again"
    assert store.refused_count == 5


def test_a_trace_that_was_deleted_begins_again(store: Store, path: Path) -> None:
    """A trace forgotten after its deletion starts a new row with its next spans."""
    sender = Sender()
    store.store([sender.data(make_span(0), make_span(1))])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM traces WHERE trace_id = ?", (trace_id(1),))
    store.forget_traces([trace_id(1), trace_id(77)])
    store.store([sender.data(make_span(0), make_span(1))])
    found = rows(path, "SELECT id, span_count FROM traces ORDER BY trace_id")
    assert [tuple(one.values()) for one in found] == [(1, 2), (3, 1)]


def test_an_incarnation_is_one_services_for_good(path: Path) -> None:
    """An incarnation belongs to one service, across restarts too."""
    own, other = Sender(), Sender(service="shop")
    message = own.data(make_span())
    for _ in range(2):
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            store.store([message])
            assert store.store([other.bye(), other.data(make_span(1), sequence=1)]).acknowledgements == {}
    assert refusals(path) == {"incarnation": 4}
    publisher = row(path, "SELECT * FROM publishers JOIN instances ON instances.id = instance")
    assert (publisher["service"], publisher["state"], publisher["next_sequence"]) == ("billing", "live", 1)
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1


def test_an_id_is_given_once(path: Path) -> None:
    """Row ids are not reused after deletions, within a run or across runs."""
    first, second = Sender(), Sender(1)
    with Store(path) as store:
        store.store([first.data(make_span(0), make_span(1))])
        with store.transaction() as db:
            db.execute("DELETE FROM spans WHERE id = 2")
            db.execute("UPDATE totals SET value = value - 1 WHERE name = 'spans'")
            db.execute("UPDATE totals SET value = value + 1 WHERE name = 'spans_expired'")
        store.store([first.beat()])
        assert [one["id"] for one in rows(path, "SELECT id FROM spans")] == [1]
        store.store([first.data(make_span(2)), second.data(make_span(3, details={"kind": 0}))])
        with store.transaction() as db:
            db.execute("DELETE FROM spans")
            db.execute("UPDATE totals SET value = 0 WHERE name = 'spans'")
            db.execute("UPDATE totals SET value = 4 WHERE name = 'spans_expired'")
    with Store(path) as store:
        store.store([first.data(make_span(4))])
    assert rows(path, "SELECT id, trace_id FROM spans") == [{"id": 5, "trace_id": trace_id(4)}]
    assert row(path, "SELECT count(*) AS n FROM spans") == row(
        path, "SELECT value AS n FROM totals WHERE name = 'spans'"
    )


def test_a_clock_that_jumps_moves_what_was_seen(path: Path) -> None:
    """After a jump of the clock, processes and spans were seen as long ago as before, by the new time."""
    wall_ns, steady_ns = EPOCH_NS, 0
    dead, alive = Sender(0), Sender(1)
    seen = "SELECT last_seen_ns FROM publishers ORDER BY instance"

    def pass_by(seconds: int, jump_s: int = 0) -> None:
        nonlocal wall_ns, steady_ns
        wall_ns += (seconds + jump_s) * SECOND_NS
        steady_ns += seconds * SECOND_NS

    def ago() -> list[int]:
        return [(wall_ns - each["last_seen_ns"]) // SECOND_NS for each in rows(path, seen)]

    with Store(path, clock_ns=lambda: wall_ns, steady_ns=lambda: steady_ns) as store:
        store.store([dead.data(make_span(0)), dead.open(make_open(1)), alive.beat()])
        for jump_s in (3600, -3600, -86_400 * 10_000, 86_400 * 10_000):
            pass_by(10, jump_s)
            store.keep_time()
            assert sum(store.publishers.values()) == 0
            store.store([alive.beat()])
            assert sum(store.publishers.values()) == 1
        assert ago() == [40, 0]
        assert row(path, "SELECT seen_ns FROM unfinished_spans")["seen_ns"] == EPOCH_NS
        # A jump that nobody noticed before the next message.
        pass_by(10, 3600)
        store.store([alive.beat()])
        assert ago() == [50, 0]
    pass_by(10, -3600)
    with Store(path, clock_ns=lambda: wall_ns, steady_ns=lambda: steady_ns) as store:
        assert ago() == [0, 0]
        pass_by(10)
        store.store([alive.beat()])
        assert ago() == [10, 0]


def test_a_small_step_of_the_clock_is_no_jump(path: Path) -> None:
    """A clock that is adjusted by less than a second changes no row."""
    wall_ns = EPOCH_NS
    with Store(path, clock_ns=lambda: wall_ns, steady_ns=lambda: 0) as store:
        store.store([Sender().beat()])
        wall_ns -= SECOND_NS - 1
        store.keep_time()
        assert row(path, "SELECT last_seen_ns FROM publishers")["last_seen_ns"] == EPOCH_NS
