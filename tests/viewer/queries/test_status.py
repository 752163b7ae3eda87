"""Status: stored, lost and refused spans, equal to their sources."""

from collections.abc import Mapping
from pathlib import Path

from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, Sampled, header, message, open_message, span, trace_id
from tests.viewer.stored import store as stored
from ztrace import wire
from ztrace.records import RUN
from ztrace_collector.layout import SILENT_AFTER_NS
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree


def test_the_status_adds_up(path: Path) -> None:
    """Totals, losses, refusals, corrections and unfinished spans add up."""
    spans = [span(trace_id(1), 1), span(trace_id(1), 2, 1)]
    running = [span(trace_id(1), 3, 1, duration_ms=None)]
    bad = [*message("shop", spans, 3)[:2], b"\xc1"]
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", spans, 1, created=12, dropped=10, mended={"attributes": 4})])
        store.store([open_message("shop", running, 1, sequence=1, created=12, dropped=10)])
        store.store([message("bank", spans[:1], 2, mended={"attributes": 1})])
        store.store([bad, [b"other", b"", b""]])
        bye = header("bank", [], 2, kind=wire.BYE, sequence=1, floor=1, created=1, retired=1)
        store.store([[wire.TOPIC, wire.pack_header(bye), b"\x90"]])
    with open_file(path) as db:
        status = read_status(db, NOON)
    assert status["spans_stored"] == 3
    assert status["traces_stored"] == 1
    assert status["unfinished"] == 1
    by_service = {(each["service"], each["pid"]): each for each in status["publishers"]}
    shop, bank, broken = by_service["shop", 1001], by_service["bank", 1002], by_service["shop", 1003]
    assert (shop["state"], shop["spans_created"], shop["spans_stored"]) == ("live", 12, 2)
    assert (shop["spans_lost"], shop["spans_dropped"]) == (10, 10)
    assert (bank["state"], bank["spans_lost"]) == ("ended", 0)
    assert (broken["spans_refused"], broken["spans_lost"]) == (2, 2)
    assert status["spans_lost"] == 12
    assert status["rejected"]["attributes"] == 5
    assert sum(status["rejected"].values()) == 5 + 2
    assert {each["reason"]: each["count"] for each in status["refusals"]} == {"foreign": 1, "undecodable": 1}
    assert all(each["last_ns"] == NOON and each["detail"] for each in status["refusals"])
    assert shop["host"] == "box"


def test_samples_are_accounted_for(run: Run, path: Path) -> None:
    """Samples have an account of each publisher and of all, and a line where any were taken."""
    sampled = Sampled("shop")
    sampled.add("buy", "main:1", RUN, 20)
    topic, head, body = sampled.message()
    taken = wire.unpack_header(head)._replace(sampled=7)
    bye = taken._replace(kind=wire.BYE, sequence=1)
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("bank", [span(trace_id(1), 1)], 2)])
        assert "samples" not in run("status", "--db", str(path)).stdout
        store.store([[topic, wire.pack_header(taken), body]])
        assert "samples     7 of code: 1 stored, 6 in flight" in run("status", "--db", str(path)).stdout
        store.store([[wire.TOPIC, wire.pack_header(bye), b"\x90"]])
    with open_file(path) as db:
        status = read_status(db, NOON)
    names = ("samples_created", "samples_stored", "samples_lost", "samples_elsewhere")
    shop = next(each for each in status["publishers"] if each["service"] == "shop")
    accounts: tuple[Mapping[str, object], ...] = (status, shop)
    for account in accounts:
        assert [account[name] for name in names] == [7, 1, 6, 0]
    assert "samples     7 of code: 1 stored, 6 lost" in run("status", "--db", str(path)).stdout


def test_a_live_publisher_falls_silent(path: Path) -> None:
    """A live publisher is silent after five seconds without a message."""
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", [span(trace_id(1), 1)])])
    with open_file(path) as db:
        assert read_status(db, NOON + SILENT_AFTER_NS)["publishers"][0]["state"] == "live"
        assert read_status(db, NOON + SILENT_AFTER_NS + 1)["publishers"][0]["state"] == "silent"


def test_an_empty_database_has_a_status(path: Path) -> None:
    """An empty database has a status with every field."""
    Store(path).close()
    with open_file(path) as db:
        status: Mapping[str, object] = read_status(db, NOON)
    assert {name: value for name, value in status.items() if value != 0 and name != "database_bytes"} == {
        "destinations": [],
        "losses": [],
        "publishers": [],
        "rejected": {},
        "refusals": [],
        "services": [],
    }
    assert status["database_bytes"] == path.stat().st_size
    counts = {"spans_created", "spans_expired", "spans_elsewhere", "spans_waiting", "unfinished_running"}
    assert counts < status.keys()


def test_many_publishers_are_paged_and_added_up(path: Path) -> None:
    """Of many dead processes, one page is listed, and the sums of each service cover all."""
    with Store(path, clock_ns=lambda: NOON) as store:
        for number in range(60):
            service = ("shop", "bank", "bank")[number % 3]
            sent = message(service, [span(trace_id(number), 1)], number + 1, created=3, dropped=2)
            store.store([sent])
    now_ns = NOON + SILENT_AFTER_NS + 1
    with open_file(path) as db:
        pages = [read_status(db, now_ns, 25, skip) for skip in (0, 25, 50, 75)]
    assert [len(page["publishers"]) for page in pages] == [25, 25, 10, 0]
    assert [len(page["losses"]) for page in pages] == [25, 25, 10, 0]
    pids = [each["pid"] for page in pages for each in page["publishers"]]
    assert len(set(pids)) == pages[0]["publisher_count"] == pages[0]["loss_count"] == 60
    for page in pages:
        assert (page["spans_created"], page["spans_lost"]) == (180, 120)
        sums = [(each["service"], each["publishers"], each["silent"]) for each in page["services"]]
        assert sums == [("bank", 40, 40), ("shop", 20, 20)]
        assert (page["services"][0]["spans_created"], page["services"][0]["spans_lost"]) == (120, 80)


def test_a_list_counts_spans_as_sql_does(path: Path) -> None:
    """The spans of a trace with unfinished ones are as many in a list, in a tree and in the view."""
    running = [span(trace_id(1), number, 1, duration_ms=None) for number in (3, 4)]
    stored(path, {"shop": [span(trace_id(1), 1), span(trace_id(1), 2, 1), *running]}, at_ns=NOON)
    with open_file(path) as db:
        ((of_view, unfinished),) = db.db.execute("SELECT span_count, unfinished_count FROM trace_list")
        ((of_table,),) = db.db.execute("SELECT span_count FROM traces")
        (listed,) = list_slowest(db, now_ns=NOON)["traces"]
        tree = read_tree(db, trace_id(1), NOON)
    assert (listed["span_count"], listed["unfinished_count"]) == (of_view, unfinished) == (4, 2)
    assert listed["span_count"] - listed["unfinished_count"] == of_table
    assert tree["span_count"] == 4
