"""Destinations in ``status``, from the collector's reports."""

from pathlib import Path

from rich.console import Console

from tests.viewer.stored import NOON, SECOND, checkout, store, trace_id
from ztrace_collector.otlp.forwarding.messages import Report
from ztrace_collector.otlp.forwarding.rows import register, write_reports
from ztrace_collector.otlp.sending.destinations import read_destinations as name_destinations
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.status import Destination
from ztrace_viewer.queries.destinations import read_destinations
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.render.destinations import draw_destinations


def send_on(path: Path, *urls: str) -> None:
    """Register destinations and store some spans; the destinations' keys start at 1."""
    with Store(path, clock_ns=lambda: NOON) as opened, opened.transaction() as db:
        register(db, name_destinations(urls, [], {}), NOON)
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)


def report(path: Path, *reports: Report) -> list[Destination]:
    """Write reports, and return the destinations."""
    with Store(path, clock_ns=lambda: NOON) as opened, opened.transaction() as db:
        write_reports(db, reports)
    with open_file(path) as db:
        return read_destinations(db)


def draw(destinations: list[Destination], width: int = 120) -> str:
    """Return the drawn destinations as text."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(*draw_destinations(destinations, width, NOON + 90 * SECOND), sep="\n")
    return capture.get()


def test_every_state(path: Path) -> None:
    """Each state is derived from the destination's position, error and refusals."""
    send_on(path, *(f"http://{host}:4318" for host in ("even", "behind", "refusing", "failing", "new")))
    with open_file(path) as db:
        total = read_destinations(db)[0]["spans_waiting"]
    assert total > 3
    even, behind, refusing, failing, new = report(
        path,
        Report(1, NOON + 1, total, sent=total),
        Report(2, NOON + 1, 1, sent=1),
        Report(3, NOON + 1, 1, sent=1),
        Report(3, NOON + 2, total, skipped=total - 3, refused={"HTTP 400": (2, "no")}),
        Report(4, NOON + 3, error="connection refused"),
        Report(4, NOON + 4, error="timed out"),
    )
    states = [each["state"] for each in (even, behind, refusing, failing, new)]
    assert states == ["up to date", "behind", "refusing", "failing", "behind"]
    assert (even["spans_waiting"], even["waiting_since_ns"]) == (0, None)
    assert behind["spans_waiting"] == total - 1
    assert behind["waiting_since_ns"] is not None
    assert (refusing["spans_sent"], refusing["spans_refused"], refusing["spans_skipped"]) == (1, 2, total - 3)
    assert refusing["refusals"] == [{"reason": "HTTP 400", "count": 2, "last_ns": NOON + 2, "detail": "no"}]
    assert (failing["failing_since_ns"], failing["error"]) == (NOON + 3, "timed out")
    assert (new["spans_sent"], new["success_ns"]) == (0, None)
    assert report(path, Report(4, NOON + 5, 1, sent=1))[3]["state"] == "behind"
    assert report(path, Report(3, NOON + 5, total, sent=1))[2]["state"] == "up to date"


def test_one_that_is_named_no_more_is_off(path: Path) -> None:
    """A destination no longer named is off, keeps its position, and is listed last."""
    send_on(path, "http://a:1", "http://b:1")
    report(path, Report(1, NOON, 2, sent=2))
    with Store(path) as opened, opened.transaction() as db:
        assert register(db, name_destinations(["http://b:1"], [], {}), NOON) == [2]
    b, a = report(path)
    assert [(each["url"], each["state"]) for each in (b, a)] == [
        ("http://b:1/v1/traces", "behind"),
        ("http://a:1/v1/traces", "off"),
    ]
    assert (a["spans_sent"], a["since_ns"]) == (2, NOON)


def test_what_people_see(path: Path) -> None:
    """Duration of a failure and last answer are printed, and digits are kept on a narrow screen."""
    send_on(path, "http://a:1", "http://b:1")
    destinations = report(
        path,
        Report(1, NOON + 60 * SECOND, error="connection\x1b[2J refused"),
        Report(2, NOON, 3, sent=1, refused={"partial success": (2, "too old")}),
    )
    text = draw(destinations)
    assert "failing for 30.0s" in text
    assert "http://a:1/v1/traces: connection" in text
    assert "\x1b" not in text
    assert "partial success  http://b:1/v1/traces  1m ago  too old" in text
    assert "too old" in draw(destinations, 60)


def test_the_whole_error_is_seen(path: Path) -> None:
    """An error takes as many lines as needed, as it ends with what to do, and names its destination once."""
    send_on(path, "http://a:1")
    error = "http://a:1/v1/traces cannot be reached, which may have many reasons; run 'a command --to help'"
    text = draw(report(path, Report(1, NOON, error=error)), 50)
    assert error in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 50
