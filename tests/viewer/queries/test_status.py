"""Status: stored, lost and refused spans, equal to their sources."""

from collections.abc import Mapping
from pathlib import Path

from tests.viewer.stored import NOON, header, message, open_message, span, trace_id
from ztrace import wire
from ztrace_collector.layout import SILENT_AFTER_NS
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.status import read_status


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
    with open_database(path) as db:
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


def test_a_live_publisher_falls_silent(path: Path) -> None:
    """A live publisher is silent after five seconds without a message."""
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", [span(trace_id(1), 1)])])
    with open_database(path) as db:
        assert read_status(db, NOON + SILENT_AFTER_NS)["publishers"][0]["state"] == "live"
        assert read_status(db, NOON + SILENT_AFTER_NS + 1)["publishers"][0]["state"] == "silent"


def test_an_empty_database_has_a_status(path: Path) -> None:
    """An empty database has a status with every field."""
    Store(path).close()
    with open_database(path) as db:
        status: Mapping[str, object] = read_status(db, NOON)
    assert {name: value for name, value in status.items() if value != 0 and name != "database_bytes"} == {
        "destinations": [],
        "losses": [],
        "publishers": [],
        "rejected": {},
        "refusals": [],
    }
    assert status["database_bytes"] == path.stat().st_size
    counts = {"spans_created", "spans_expired", "spans_elsewhere", "spans_waiting", "unfinished_running"}
    assert counts < status.keys()
