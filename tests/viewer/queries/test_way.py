"""Path of an exception, from the incoming call to its origin."""

import sqlite3
from pathlib import Path

import pytest

from tests.viewer.stored import (
    CHARGE_CALL,
    MINUTE,
    NOON,
    QUERY_FRAMES,
    RESERVE_CALL,
    checkout,
    raised,
    span,
    span_id,
    store,
    trace_id,
    travelled,
)
from ztrace import records
from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.documents.errors import ErrorDocument
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.way import FIRST, read_error


def read(path: Path, text: str = "", sample: str = "latest", now_ns: int = NOON) -> ErrorDocument:
    """Return the group whose message contains a text."""
    with open_file(path) as db:
        (group,) = [each["group"] for each in list_groups(db)["groups"] if text in each["message"]]
        return read_error(db, group, sample, now_ns)


def test_the_way_is_told_from_the_caller_to_the_origin(shop: Path) -> None:
    """Each hop has the exception as seen by its span, from the caller to the origin."""
    with open_file(shop) as db:
        document = read_error(db, list_groups(db)["groups"][0]["group"])
    assert [
        (hop["service"], hop["name"], hop["kind"], hop["how"], hop["type"]) for hop in document["hops"]
    ] == [
        ("shop", "checkout", "server", None, None),
        ("shop", "charge", "client", "passed", "billing.PaymentError"),
        ("billing", "charge", "server", "wrapped", "billing.PaymentError"),
        ("billing", "reserve", "client", "passed", "ZeroDivisionError"),
        ("stock", "reserve", "server", "raised", "ZeroDivisionError"),
    ]
    assert document["exception"] is not None
    assert document["exception"]["origin"]
    assert len(document["exception"]["frames"]) == len(QUERY_FRAMES)


def test_a_circle_of_parents_ends_the_way(path: Path) -> None:
    """A circle of parents ends the path, with each span once."""
    spans = [span(trace_id(1), 1, 2), span(trace_id(1), 2, 1, exception=raised("ValueError", "no"))]
    store(path, {"shop": spans})
    with open_file(path) as db:
        document = read_error(db, list_groups(db)["groups"][0]["group"])
    assert [hop["span_id"] for hop in document["hops"]] == [span_id(1).hex(), span_id(2).hex()]


def test_a_group_whose_spans_are_gone_can_be_read(path: Path) -> None:
    """A group whose spans are deleted has no exception and no hops."""
    store(path, checkout(trace_id(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM spans")
        db.execute("DELETE FROM exceptions")
    db.close()
    with open_file(path) as reader:
        document = read_error(reader, list_groups(reader)["groups"][0]["group"])
    assert (document["exception"], document["hops"]) == (None, [])


def test_each_hop_has_the_line_that_made_the_call(shop: Path) -> None:
    """Each hop has the frame of its call, its process and its status."""
    root, call, server, reserve, origin = read(shop)["hops"]
    assert [hop["frames"][-1]["line"] for hop in (call, reserve)] == [CHARGE_CALL[1], RESERVE_CALL[1]]
    assert [len(hop["frames"]) for hop in (root, server, origin)] == [0, 1, len(QUERY_FRAMES)]
    assert [hop["status"] for hop in (root, call)] == ["ok", "error"]
    assert call["instance"] == root["instance"]
    assert call["instance"]["id"] != server["instance"]["id"]


def test_another_occurrence_can_be_shown(shop: Path) -> None:
    """A sample is chosen as the first or by trace id, and an unknown or ambiguous one raises an error."""
    first, second = trace_id(1).hex(), trace_id(2, NOON + MINUTE).hex()
    assert read(shop)["shown"]["trace_id"] == second
    assert read(shop, sample=FIRST)["shown"]["trace_id"] == first
    assert read(shop, sample=second[:12].upper())["shown"]["trace_id"] == second
    assert read(shop, sample=FIRST)["exception"] is not None
    with pytest.raises(NotFoundError, match="no sample 'ffff'"):
        read(shop, sample="ffff")
    with pytest.raises(SettingsError, match="ambiguous"):
        read(shop, sample=first[:4])


def test_an_exception_of_another_origin_is_not_on_the_way(path: Path) -> None:
    """A span above that failed with another exception has no part in the path."""
    trace = trace_id(1)
    other, inner = raised("OtherError", "other"), raised("ValueError", "this")
    store(path, {"shop": [span(trace, 1, exception=other), span(trace, 2, 1, exception=inner)]})
    above, below = read(path, "this")["hops"]
    assert (above["how"], above["type"], above["status"]) == (None, None, "error")
    assert below["how"] == "raised"


def test_a_way_that_begins_at_an_orphan_says_why(path: Path) -> None:
    """A path that starts at an orphan has the reason of the missing parent."""
    spans = [span(trace_id(1), 2, 1), span(trace_id(1), 3, 2, exception=raised("ValueError", "no"))]
    store(path, {"shop": spans}, at_ns=NOON + MINUTE)
    document = read(path, now_ns=NOON + MINUTE)
    assert document["missing"] is not None
    assert document["missing"]["span_id"] == span_id(2).hex()
    assert len(document["hops"]) == 2


def test_a_root_that_has_not_ended_is_on_the_way(path: Path) -> None:
    """An unfinished root is on the path, with its status."""
    trace = trace_id(1)
    spans = [span(trace, 1, duration_ms=None), span(trace, 2, 1, exception=raised("ValueError", "no"))]
    store(path, {"shop": spans}, at_ns=NOON)
    document = read(path)
    assert [(hop["status"], hop["how"]) for hop in document["hops"]] == [
        ("unfinished", None),
        ("error", "raised"),
    ]
    assert document["missing"] is None


@pytest.mark.parametrize("ends_ms", [600, None])
def test_a_timeout_tells_what_the_other_side_was_doing(path: Path, ends_ms: float | None) -> None:
    """A timeout's document has the callee's span, ended or not."""
    trace = trace_id(1)
    late = raised("zerorpc.exceptions.TimeoutExpired", "timeout after 0.25s")
    call = span(trace, 2, 1, kind="client", duration_ms=250, exception=late)
    callee = span(trace, 3, 2, name="date", start_ms=5, duration_ms=ends_ms)
    store(
        path,
        {
            "front": [span(trace, 1, duration_ms=400), call],
            "stock": [callee, span(trace, 4, 2, kind="internal")],
        },
        at_ns=NOON,
    )
    document = read(path)
    assert document["failed_ns"] == NOON + 250_000_000
    assert document["callee"] is not None
    assert (document["callee"]["service"], document["callee"]["name"]) == ("stock", "date")
    assert document["callee"]["status"] == ("unfinished" if ends_ms is None else "ok")
    assert (document["callee"]["unfinished"] is None) is (ends_ms is not None)


def test_a_server_without_ztrace_has_its_say(path: Path) -> None:
    """An untraced server's traceback is kept with the call, and other origins have no callee."""
    trace = trace_id(1)
    error = raised("zerorpc.exceptions.RemoteError", "KeyError: 'x'")
    text = {"zerorpc.remote_traceback": "Traceback …"}
    store(path, {"front": [span(trace, 1, kind="client", exception=error, attributes=text)]})
    document = read(path)
    assert (document["remote_traceback"], document["callee"]) == ("Traceback …", None)
    store(path, {"front": [span(trace_id(2), 1, exception=raised("ValueError", "own"))]})
    assert (read(path, "own")["failed_ns"], read(path, "own")["remote_traceback"]) == (None, None)


def test_a_very_long_way_is_read(path: Path) -> None:
    """A path of five thousand calls is read."""
    trace = trace_id(1)
    spans = [span(trace, n, n - 1 or None) for n in range(1, 5000)]
    spans.append(span(trace, 5000, 4999, exception=raised("ValueError", "deep")))
    store(path, {"shop": spans})
    assert len(read(path)["hops"]) == 5000


def test_a_wrapped_and_grouped_exception_stays_on_the_way(path: Path) -> None:
    """Each member of an exception group has its own path through the group."""
    trace = trace_id(1)
    one, two = raised("KeyError", "one"), raised("OSError", "two")
    members = [
        travelled("RemoteError", text, records.PASSED, (trace, n)) for n, text in ((3, "one"), (5, "two"))
    ]
    group = travelled("ExceptionGroup", "both", records.GROUPED, (trace, 3))._replace(members=members)
    spans = [span(trace, 1, exception=group), span(trace, 2, 1), span(trace, 4, 1)]
    store(path, {"front": spans, "geo": [span(trace, 3, 2, exception=one), span(trace, 5, 4, exception=two)]})
    for text in ("one", "two"):
        top = read(path, text)["hops"][0]
        assert (top["how"], top["type"], len(top["members"])) == ("grouped", "ExceptionGroup", 2)
