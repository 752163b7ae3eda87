"""Retention: deleted and kept rows, exact counts, and its share of the writer's time."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.collector.messages import (
    EPOCH_NS,
    MS,
    Sender,
    is_balanced,
    make_profile,
    make_span,
    row,
    rows,
    span_id,
    trace_id,
)
from ztrace.records import ERROR, ExceptionRecord, FrameRecord, Profile
from ztrace_collector.layout import HOUR_NS, MINUTE_NS
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing import expiring, retention
from ztrace_collector.storing.expiring import delete_traces_before, sweep, used_bytes
from ztrace_collector.storing.pruning import prune_figures
from ztrace_collector.storing.retention import Calendar, Limits, Retention
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer

DAY_NS = 24 * HOUR_NS
#: Totals of a file that has not been thinned.
UNTHINNED = {"spans_thinned": 0, "traces_thinned": 0}


class Clock:
    """Wall clock and steady clock, both set by hand."""

    def __init__(self, now_ns: int = EPOCH_NS) -> None:
        self.now_ns = now_ns
        self.now_s = 100.0

    def wall(self) -> int:
        """Return the wall clock in nanoseconds."""
        return self.now_ns

    def steady(self) -> float:
        """Return the steady clock in seconds."""
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        """Advance both clocks by seconds."""
        self.now_ns += int(1e9 * seconds)
        self.now_s += seconds


def count(path: Path, table: str) -> int:
    """Return a table's number of rows."""
    return int(row(path, f"SELECT count(*) AS n FROM {table}")["n"])


def totals(path: Path) -> dict[str, int]:
    """Return the table of totals."""
    return {each["name"]: each["value"] for each in rows(path, "SELECT * FROM totals")}


def failure(number: int) -> tuple[Any, ...]:
    """Return an exception raised in the span with this number."""
    span = make_span(number)
    frames = [FrameRecord("/srv/a.py", 1, "f", "m", "f()", True)]
    return ExceptionRecord("Declined", "no", frames, [], "raised", span[0], span[1])


def run_until_done(deleting: Retention, store: Store, clock: Clock) -> int:
    """Run retention until it is done, and return the number of turns."""
    for turn in range(10_000):
        deleting.tend(store)
        if deleting.wait_s() == float("inf"):
            return turn
        clock.pass_by(0.1)
    raise AssertionError("there is no end to it")


def limited(clock: Clock, **limits: int) -> Retention:
    """Return retention with the given clock."""
    return Retention(Limits(**limits), clock_ns=clock.wall, clock_s=clock.steady)


@pytest.fixture
def clock() -> Clock:
    """Return a clock set to the base time."""
    return Clock()


def make_days(store: Store, sender: Sender, clock: Clock, days: int = 10, traces: int = 20) -> None:
    """Store a number of failed traces on each of several days, and a beat at the end of the last."""
    for day in range(days):
        spans = []
        for number in range(day * traces, (day + 1) * traces):
            start_ns = EPOCH_NS + day * DAY_NS + number * MS
            spans.append(make_span(number, start_ns=start_ns, status=ERROR, exception=failure(number)))
        store.store([sender.data(*spans)])
        clock.pass_by(86_400)
    store.store([sender.beat()])


def test_traces_that_are_too_old_go_with_all_that_is_theirs(path: Path, clock: Clock) -> None:
    """Traces beyond the age are deleted with their exceptions, minutes and figures, and totals stay exact."""
    sender = Sender()
    with Store(path, clock_ns=clock.wall) as store:
        make_days(store, sender, clock)
        store.store([sender.bye()])
        deleting = limited(clock, keep_ns=3 * DAY_NS)
        deleting.begin(store)
        run_until_done(deleting, store, clock)
    first_ns = EPOCH_NS + 7 * DAY_NS
    assert row(path, "SELECT min(start_ns) >= ? AS young FROM spans", first_ns)["young"]
    assert {table: count(path, table) for table in ("spans", "traces", "exceptions")} == {
        "spans": 60,
        "traces": 60,
        "exceptions": 60,
    }
    assert totals(path) == {"spans": 60, "traces": 60, "spans_expired": 140, **UNTHINNED}
    assert row(path, "SELECT sum(count) AS n FROM exception_minutes")["n"] == 60
    (group,) = rows(path, "SELECT count, uncaught_count FROM exception_groups")
    assert group == {"count": 60, "uncaught_count": 60}
    assert count(path, "uncaught_exceptions") == 60
    assert row(path, "SELECT min(at_ns) >= ? AS young FROM exception_samples", first_ns)["young"]
    figures = rows(path, "SELECT resolution_s, sum(calls) AS calls FROM method_figures GROUP BY 1 ORDER BY 1")
    assert [(each["resolution_s"], each["calls"]) for each in figures] == [(60, 60), (3600, 60), (86400, 60)]
    # Expired spans still count as stored in the publisher's account.
    publisher = row(path, "SELECT * FROM publishers")
    assert is_balanced(publisher)
    assert publisher["spans_stored"] == 200
    assert row(path, "SELECT spans_expired FROM instances")["spans_expired"] == 140


def test_a_group_goes_with_its_last_minute(path: Path, clock: Clock) -> None:
    """A group is deleted with its last minute."""
    with Store(path, clock_ns=clock.wall) as store:
        make_days(store, Sender(), clock, days=2)
        while delete_traces_before(store, store.age_ns + HOUR_NS, 1000):
            pass
        for _ in sweep(store, EPOCH_NS + 5 * DAY_NS):
            pass
    assert count(path, "exception_groups") == count(path, "exception_minutes") == 0
    assert count(path, "exception_samples") == 0


def test_what_reaches_the_edge_too_late_is_not_counted(path: Path, clock: Clock) -> None:
    """An origin deleted before its exception leaves the root is not counted as uncaught."""
    sender = Sender()
    origin = make_span(500, parent_id=make_span(501).span_id, status=ERROR, exception=failure(500))
    came = ("Declined", "no", (), (), "passed", origin.trace_id, origin.span_id, (), ())
    root = make_span(501, trace_id=origin.trace_id, status=ERROR, exception=came)
    with Store(path, clock_ns=clock.wall) as store:
        make_days(store, sender, clock, days=6, traces=1)
        while delete_traces_before(store, store.age_ns - DAY_NS, 1000):
            pass
        store.store([sender.data(origin)])
        with store.transaction() as db:  # As if the trace of the sample had been deleted.
            db.execute("DELETE FROM exception_samples")
        for _ in sweep(store, EPOCH_NS + 5 * DAY_NS):
            pass
        store.store([sender.data(root)])
    assert rows(path, "SELECT count, uncaught_count FROM exception_groups") == [
        {"count": 1, "uncaught_count": 1}
    ]
    assert row(path, "SELECT sum(uncaught_count) AS n FROM exception_minutes")["n"] == 1


def test_minutes_are_deleted_piece_by_piece(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes of many groups are deleted in pieces, with exact counts after each piece."""
    monkeypatch.setattr(expiring, "MAX_ROWS", 7)
    monkeypatch.setattr(expiring, "MAX_GROUPS", 2)
    sender = Sender()
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        for kind in range(5):
            spans = []
            for minute in range(20):
                number = 100 * kind + minute
                raised = (f"Kind{kind}", *failure(number)[1:])
                spans.append(
                    make_span(number, start_ns=EPOCH_NS + minute * MINUTE_NS, status=ERROR, exception=raised)
                )
            store.store([sender.data(*spans)])
        # As if the traces of the samples had been deleted.
        with store.transaction() as db:
            db.execute("DELETE FROM exception_samples")
        pieces = 0
        for _ in sweep(store, EPOCH_NS + 15 * MINUTE_NS):
            pieces += 1
            groups = rows(path, "SELECT id, count, uncaught_count FROM exception_groups")
            for group in groups:
                left = row(
                    path,
                    "SELECT sum(count) AS n, sum(uncaught_count) AS uncaught FROM exception_minutes"
                    " WHERE exception_group = ?",
                    group["id"],
                )
                assert (group["count"], group["uncaught_count"]) == (left["n"], left["uncaught"])
    assert pieces > 5
    assert [each["count"] for each in rows(path, "SELECT count FROM exception_groups")] == [5] * 5


def test_a_late_span_of_a_deleted_trace_begins_a_new_row(path: Path, clock: Clock) -> None:
    """A late span of a deleted trace starts new rows of the trace and its figures."""
    sender = Sender()
    late = make_span(3, span_id=b"latelate", parent_id=b"parent12", start_ns=EPOCH_NS)
    with Store(path, clock_ns=clock.wall) as store:
        make_days(store, sender, clock, days=2, traces=4)
        deleting = limited(clock, keep_ns=DAY_NS)
        deleting.begin(store)
        run_until_done(deleting, store, clock)
        clock.pass_by(2 * 86_400)
        store.store([sender.beat()])
        run_until_done(deleting, store, clock)
        assert count(path, "traces") == count(path, "method_figures") == 0
        store.store([sender.data(late)])
        trace = row(path, "SELECT * FROM traces")
        assert (trace["trace_id"], trace["span_count"], trace["root_span_id"]) == (trace_id(3), 1, None)
        assert row(path, "SELECT sum(calls) AS n FROM method_figures WHERE resolution_s = 60")["n"] == 1


def test_a_trace_that_is_larger_than_a_step_goes_in_several(path: Path, clock: Clock) -> None:
    """A trace larger than a step is deleted in steps, with exact counts in between."""
    sender = Sender()
    spans = [make_span(0, span_id=(n + 1).to_bytes(8, "big"), parent_id=None) for n in range(1000)]
    with Store(path, clock_ns=clock.wall) as store:
        store.store([sender.data(*spans)])
        before_ns = EPOCH_NS + DAY_NS
        assert delete_traces_before(store, EPOCH_NS, 300) == 0
        assert delete_traces_before(store, before_ns, 300) == 300
        assert row(path, "SELECT span_count FROM traces")["span_count"] == count(path, "spans") == 700
        store.store([sender.data(make_span(0, span_id=b"latelate", parent_id=b"parent12"))])
        assert row(path, "SELECT span_count FROM traces")["span_count"] == count(path, "spans") == 701
        steps = 0
        while delete_traces_before(store, before_ns, 300):
            steps += 1
        assert steps == 3
    assert count(path, "traces") == count(path, "spans") == 0
    assert totals(path) == {"spans": 0, "traces": 0, "spans_expired": 1001, **UNTHINNED}


def test_a_publisher_goes_when_nothing_of_it_is_left(path: Path, clock: Clock) -> None:
    """A publisher is deleted with its last span; if it returns, its earlier spans count as elsewhere."""
    gone, stays, back = Sender(), Sender(1), Sender(2)
    clock.now_ns = EPOCH_NS
    with Store(path, clock_ns=clock.wall) as store:
        store.store([gone.data(make_span(0)), gone.bye()])
        store.store([back.data(make_span(1))])
    # A collector that was off for most of ten days.
    clock.now_ns = EPOCH_NS + 10 * DAY_NS
    with Store(path, clock_ns=clock.wall) as store:
        late = make_span(2, start_ns=EPOCH_NS + 9 * DAY_NS)
        store.store([stays.data(late), stays.bye()])
        deleting = limited(clock, keep_ns=2 * DAY_NS)
        deleting.begin(store)
        run_until_done(deleting, store, clock)
        # For an hour the clock is not trusted.
        assert count(path, "spans") == 3
        clock.pass_by(3700)
        run_until_done(deleting, store, clock)
        assert [each["trace_id"] for each in rows(path, "SELECT trace_id FROM spans")] == [trace_id(2)]
        assert count(path, "publishers") == count(path, "instances") == 1
        back.floor, back.retired = back.sequence, back.created
        store.store([back.data(make_span(4, start_ns=clock.now_ns))])
        account = row(path, "SELECT * FROM publishers WHERE instance != 3 ORDER BY last_seen_ns DESC LIMIT 1")
    assert (account["spans_elsewhere"], account["spans_stored"]) == (1, 1)
    assert is_balanced(account)


def test_a_clock_that_jumps_deletes_nothing_while_running(path: Path, clock: Clock) -> None:
    """A jump of the clock, however long it lasts, deletes no trace: as much time has passed as has passed."""
    sender = Sender()
    with Store(path, clock_ns=clock.wall, steady_ns=lambda: int(1e9 * clock.now_s)) as store:
        store.store([sender.data(make_span(0))])
        deleting = limited(clock, keep_ns=DAY_NS)
        deleting.begin(store)
        for jump_days in (3650, -3650, -3650, 3650, 3650):
            clock.now_ns += jump_days * DAY_NS
            clock.pass_by(3 * 3600)
            store.store([sender.beat()])
            run_until_done(deleting, store, clock)
            assert count(path, "spans") == 1
        clock.pass_by(12 * 3600)
        store.store([sender.beat()])
        run_until_done(deleting, store, clock)
        assert count(path, "spans") == 0


@pytest.mark.parametrize("behind_days", [1 / 8, 15_000, -15_000])
def test_traces_of_a_clock_that_is_wrong_are_kept_as_long(
    path: Path, clock: Clock, behind_days: float
) -> None:
    """A service whose clock is hours or years off has its traces, and its errors, as long as the others."""
    wrong, right, number = Sender(0, "wrong"), Sender(1, "right"), 0
    with Store(path, clock_ns=clock.wall) as store:
        deleting = limited(clock, keep_ns=HOUR_NS)
        deleting.begin(store)
        for _ in range(20):
            for sender, behind_ns in ((wrong, int(behind_days * DAY_NS)), (right, 0)):
                number += 1
                span = make_span(
                    number, start_ns=clock.now_ns - behind_ns, status=ERROR, exception=failure(number)
                )
                store.store([sender.data(span)])
            clock.pass_by(900)
            run_until_done(deleting, store, clock)
        kept = Counter(
            each["service"]
            for each in rows(path, "SELECT service FROM traces JOIN methods ON methods.id = root_method")
        )
        assert kept["wrong"] == kept["right"]
        assert 4 <= kept["right"] <= 8
        groups = {
            each["service"]: each["count"]
            for each in rows(path, "SELECT service, count FROM exception_groups")
        }
        assert groups["wrong"] >= kept["wrong"]
        assert groups["right"] >= kept["right"]


def test_age_goes_on_over_a_restart(path: Path, clock: Clock) -> None:
    """A short time between two runs counts at once, a long one after an hour, one that is negative never."""
    sender = Sender()

    def run_for(seconds: float) -> int:
        with Store(path, clock_ns=clock.wall, steady_ns=lambda: int(1e9 * clock.now_s)) as store:
            store.store([sender.beat()])
            clock.pass_by(seconds)
            store.store([sender.beat()])
            return store.age_ns - EPOCH_NS

    assert run_for(3600) == HOUR_NS
    clock.pass_by(300)
    assert run_for(3600) == 2 * HOUR_NS + 5 * MINUTE_NS
    clock.now_ns -= 365 * DAY_NS
    assert run_for(3600) == 3 * HOUR_NS + 5 * MINUTE_NS
    clock.now_ns += 365 * DAY_NS
    assert run_for(1800) == 3 * HOUR_NS + 35 * MINUTE_NS
    assert run_for(3600) == 365 * DAY_NS + 4 * HOUR_NS + 35 * MINUTE_NS


def test_a_clock_that_goes_back_is_followed(clock: Clock) -> None:
    """A clock that is set back is trusted at once, since an earlier time deletes less."""
    calendar = Calendar(None, clock.wall, clock.steady)
    clock.now_ns -= DAY_NS
    assert calendar.now_ns() == clock.now_ns
    clock.pass_by(60)
    assert calendar.now_ns() == clock.now_ns


def test_traces_of_a_doubted_time_are_kept_long_enough(path: Path, clock: Clock) -> None:
    """Traces that arrive while the time between two runs is doubted expire neither early nor years late."""
    sender, hours = Sender(), "SELECT hour, first_trace FROM arrivals ORDER BY hour"

    def arrive(number: int) -> None:
        store.store([sender.data(make_span(number))])

    with Store(path, clock_ns=clock.wall, steady_ns=lambda: int(1e9 * clock.now_s)) as store:
        arrive(0)
    first = EPOCH_NS // HOUR_NS
    clock.now_ns += 1000 * HOUR_NS
    with Store(path, clock_ns=clock.wall, steady_ns=lambda: int(1e9 * clock.now_s)) as store:
        arrive(1)
        assert [*map(tuple, map(dict.values, rows(path, hours)))] == [(first, 1), (first + 1000, 2)]
        # Nothing is old yet, by the time that is believed.
        assert store.age_ns == EPOCH_NS
        clock.now_ns -= 990 * HOUR_NS
        clock.pass_by(3600)
        arrive(2)
        assert [*map(tuple, map(dict.values, rows(path, hours)))] == [(first, 1), (first + 11, 2)]
        assert store.age_ns == EPOCH_NS + 11 * HOUR_NS


def test_deleting_has_a_bounded_share_of_the_time(path: Path, clock: Clock, monkeypatch: Any) -> None:
    """Deleting takes a bounded share of the time, however large its backlog."""
    sender = Sender()
    step_s, deleted_s = 0.02, 0.0

    def delete(store: Store, start_ns: int, max_spans: int) -> int:
        nonlocal deleted_s
        clock.pass_by(step_s)
        deleted_s += step_s
        return max_spans

    monkeypatch.setattr(retention, "delete_traces_before", delete)
    with Store(path, clock_ns=clock.wall) as store:
        store.store([sender.data(make_span(0))])
        deleting = limited(clock, keep_ns=DAY_NS)
        deleting.begin(store)
        start_s = clock.now_s
        while clock.now_s < start_s + 60:
            deleting.tend(store)
            clock.pass_by(0.05)  # Time of a transaction.
        share = deleted_s / (clock.now_s - start_s)
    assert 0.2 < share <= retention.SHARE + 0.01


def fill_up(writer: Writer, sender: Sender, messages: int, each: Callable[[int], None]) -> None:
    """Write many traces, with retention between the transactions."""
    for number in range(messages):
        first = 200 * number
        batch = [
            make_span(n, start_ns=EPOCH_NS + n * MS, attributes={"note": "x" * 200})
            for n in range(first, first + 200)
        ]
        sender.floor, sender.retired = sender.sequence, sender.created
        assert writer.write([sender.data(*batch)])
        writer.tend()
        each(number)


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True])
def test_a_service_pushes_out_its_own_traces(path: Path, large: bool) -> None:
    """A service that fills the file makes room by its own traces, of many spans or few large ones."""
    limit = 4 << 20
    victim, evil = Sender(0, "shop"), Sender(1, "evil")
    size, number = (20_000, 10) if large else (200, 200)
    with Writer(path, Limits(max_bytes=limit), say=pytest.fail) as writer:
        batch = [make_span(n, start_ns=EPOCH_NS, attributes={"note": "x" * 100}) for n in range(2_000)]
        assert writer.write([victim.data(*batch)])
        for turn in range(120):
            spans = [
                make_span(10_000 + number * turn + n, start_ns=EPOCH_NS, attributes={"note": "x" * size})
                for n in range(number)
            ]
            evil.floor, evil.retired = evil.sequence, evil.created
            assert writer.write([evil.data(*spans)])
            store = writer._store
            assert store is not None
            deadline_s = time.monotonic() + 20
            while used_bytes(store) > limit:
                assert time.monotonic() < deadline_s
                time.sleep(min(writer.wait_s(), 0.02))
                writer.tend()
    assert totals(path)["spans_expired"] > 200
    kept = Counter(
        each["service"]
        for each in rows(path, "SELECT service FROM spans JOIN methods ON methods.id = spans.method")
    )
    assert kept["shop"] == 2_000
    assert kept["evil"]


def test_a_service_with_too_many_figures_loses_those(path: Path, clock: Clock) -> None:
    """A service that makes up times loses the oldest days of its figures, and no service its traces."""
    victim, evil = Sender(0, "shop"), Sender(1, "evil")
    with Store(path, clock_ns=clock.wall) as store:
        most = used_bytes(store) + 790_000
        store.store([victim.data(*(make_span(n, start_ns=EPOCH_NS) for n in range(500)))])
        for day in range(100):
            start_ns = EPOCH_NS - day * DAY_NS
            store.store(
                [evil.data(*(make_span(1_000 + n, start_ns=start_ns + n * MINUTE_NS) for n in range(60)))]
            )
        # Half of it are figures of one service, in about a hundred days of 62 rows.
        deleting = limited(clock, max_bytes=most)
        assert used_bytes(store) > most
        deleting.begin(store)
        run_until_done(deleting, store, clock)
        assert used_bytes(store) <= most
        # In memory as well: a late span of a deleted day counts alone.
        store.store([evil.data(make_span(9, start_ns=EPOCH_NS - 99 * DAY_NS))])
    by_service = {
        each["service"]: each["days"]
        for each in rows(
            path,
            "SELECT service, count(DISTINCT bucket) AS days FROM method_figures"
            " JOIN methods ON methods.id = method WHERE resolution_s = 86400 GROUP BY service",
        )
    }
    assert by_service["shop"] == 1
    assert 10 < by_service["evil"] < 40
    for service in ("shop", "evil"):
        sums = rows(
            path,
            "SELECT resolution_s, sum(calls) AS n, min(bucket * resolution_s) / 86400 AS day"
            " FROM method_figures JOIN methods ON methods.id = method WHERE service = ? GROUP BY 1",
            service,
        )
        assert len({each["n"] for each in sums}) == len({each["day"] for each in sums}) == 1
    of_shop = "SELECT count(*) AS n FROM spans JOIN methods ON methods.id = method WHERE service = 'shop'"
    assert row(path, of_shop)["n"] == 500


def test_a_service_with_too_many_path_figures_loses_those(path: Path, clock: Clock) -> None:
    """Of figures by path, the oldest days go of the service that has far too many rows, and no others."""
    with Store(path, clock_ns=clock.wall) as store:
        names = [make_span(n, trace_id=trace_id(n), name=name) for n, name in enumerate(("pay", "make up"))]
        for sender, span in zip((Sender(0, "shop"), Sender(1, "evil")), names, strict=True):
            store.store([sender.data(span)])
        list(settle_all(store, clock_ns=clock.wall))
        with store.transaction() as db:
            for resolution_s in (3600, 86400):
                db.execute(
                    "INSERT OR IGNORE INTO path_figures"
                    " WITH RECURSIVE each (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < 100)"
                    " SELECT resolution_s, bucket - n, path, version, own_version, failed, root_calls, calls,"
                    " errors, total_ns, self_ns, critical_ns, cpu_ns, timed_ns, histogram FROM path_figures"
                    " JOIN paths ON paths.id = path JOIN methods ON methods.id = method JOIN each"
                    " WHERE service = 'evil' AND resolution_s = ?",
                    (resolution_s,),
                )
        # A quarter of it has room for 100 rows, and half of these stay.
        for _ in prune_figures(store, 40_000):
            pass
    left = {
        each["service"]: each["n"]
        for each in rows(
            path,
            "SELECT service, count(*) AS n FROM path_figures JOIN paths ON paths.id = path"
            " JOIN methods ON methods.id = method GROUP BY service",
        )
    }
    assert left["shop"] == 3
    assert 20 < left["evil"] <= 50


@pytest.mark.slow
def test_a_file_stays_at_about_its_size(path: Path) -> None:
    """A file stays near its size limit while many times that size is written, and keeps the newest traces."""
    limit = 8 << 20
    sender = Sender()

    def wait_until_below(most: float) -> None:
        store = writer._store
        assert store is not None
        deadline_s = time.monotonic() + 20
        while used_bytes(store) > most:
            assert time.monotonic() < deadline_s
            time.sleep(min(writer.wait_s(), 0.05))
            writer.tend()

    with Writer(path, Limits(max_bytes=limit), say=pytest.fail) as writer:
        # No faster than retention deletes in its share of the time, on any machine.
        fill_up(writer, sender, 600, lambda number: wait_until_below(1.2 * limit))
        wait_until_below(limit)
    written = totals(path)["spans"] + totals(path)["spans_expired"]
    assert written == 120_000
    assert totals(path)["spans_expired"] > 60_000
    assert path.stat().st_size < 1.5 * limit
    numbers = [
        int.from_bytes(each["trace_id"], "big") - 1 for each in rows(path, "SELECT trace_id FROM traces")
    ]
    assert sorted(numbers) == list(range(120_000 - len(numbers), 120_000))
    assert count(path, "spans") == len(numbers) == totals(path)["spans"] > 10_000


def test_without_limits_nothing_is_ever_deleted(path: Path, clock: Clock) -> None:
    """Without limits nothing is deleted."""
    clock.now_ns += 1000 * DAY_NS
    with Store(path, clock_ns=clock.wall) as store:
        make_days(store, Sender(), clock)
        deleting = limited(clock)
        deleting.begin(store)
        for _ in range(100):
            clock.pass_by(3600)
            deleting.tend(store)
    assert count(path, "spans") == 200


def test_old_code_is_deleted_with_its_time(path: Path, clock: Clock) -> None:
    """Sampled time expires with the age limit, then the code that nothing refers to; what is used stays."""
    old, new = Sender(0, "shop"), Sender(1, "bank")
    unused = make_profile(texts=["shop.py", "main", "gone", "render", "charge"])

    def at(profile: Profile) -> Profile:
        return profile._replace(start_ns=clock.wall(), end_ns=clock.wall())

    with Store(path, clock_ns=clock.wall) as store:
        spans = [[trace_id(1), span_id(1), 0, [1, 0, 5, 0]], [trace_id(2), span_id(2), 0, [1, 0, 5, 0]]]
        store.store([old.profile(at(unused._replace(spans=spans))), old.data(make_span(1))])
        deleting = limited(clock, keep_ns=DAY_NS)
        deleting.begin(store)
        clock.pass_by(3 * 86_400)
        store.store([new.profile(at(make_profile())), new.data(make_span(2, start_ns=clock.wall()))])
        run_until_done(deleting, store, clock)
        functions = {each["function"] for each in rows(path, "SELECT function FROM frames")}
        assert functions == {"main", "load", "render"}
        # Code that is deleted is not known from memory either.
        store.store([new.profile(at(unused))])
    assert rows(path, "SELECT id FROM span_stacks") == []
    assert {each["hour"] for each in rows(path, "SELECT hour FROM stack_hours")} == {clock.wall() // HOUR_NS}
    orphans = "SELECT id FROM stacks WHERE parent NOT IN (SELECT id FROM stacks) AND parent <> 0"
    assert rows(path, orphans) == []
    known = {each["id"] for each in rows(path, "SELECT id FROM stacks")}
    for each in rows(path, "SELECT sums FROM stack_hours"):
        assert set(msgpack.unpackb(each["sums"])[::3]) <= known


def test_code_that_fills_the_file_costs_no_traces(path: Path, clock: Clock) -> None:
    """In a full file, the oldest minutes of sampled code are deleted, and not the traces of services."""
    sender = Sender()
    with Store(path, clock_ns=clock.wall) as store:
        store.store([sender.data(*(make_span(number) for number in range(500)))])
        most = used_bytes(store) + 300_000
        frames = [each for line in range(300) for each in (0, 1, line)]
        stacks = [each for line in range(300) for each in (0, line)]
        for minute in range(300):
            sums = [each for stack in range(300) for each in (0, 1 + stack, 0, 20_000 + minute)]
            at_ns = EPOCH_NS + minute * MINUTE_NS
            code = make_profile(start_ns=at_ns, end_ns=at_ns, frames=frames, stacks=stacks, sums=sums)
            store.store([sender.profile(code)])
        assert used_bytes(store) > most
        deleting = limited(clock, max_bytes=most)
        deleting.begin(store)
        run_until_done(deleting, store, clock)
        assert used_bytes(store) <= most
    assert count(path, "traces") == 500
    last = EPOCH_NS // MINUTE_NS + 299
    kept = [each["minute"] for each in rows(path, "SELECT minute FROM stack_minutes ORDER BY minute")]
    assert 20 < len(kept) < 200
    assert kept == list(range(last - len(kept) + 1, last + 1))
