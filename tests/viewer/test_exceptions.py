"""Exceptions count at their origin, and the way they travelled is told from the caller down."""

import sqlite3
from pathlib import Path

from tests.viewer.stored import (
    HOUR,
    MINUTE,
    NOON,
    QUERY_FRAMES,
    checkout,
    raised,
    span,
    span_id,
    store,
    trace_id,
    travelled,
)
from ztrace import wire
from ztrace_viewer.database import open_database
from ztrace_viewer.exceptions import list_groups, read_error, read_exceptions
from ztrace_viewer.selection import Selection


def test_a_group_counts_origins(shop: Path) -> None:
    """Not the spans its exceptions passed; the latest occurrence is the example."""
    with open_database(shop) as db:
        [group] = list_groups(db)["groups"]
    assert group["count"] == 2
    assert (group["type"], group["message"]) == ("ZeroDivisionError", "division by zero")
    assert (group["service"], group["name"]) == ("stock", "reserve")
    assert group["trace_id"] == trace_id(2, NOON + MINUTE).hex()
    assert group["origin_span_id"] == span_id(9).hex()
    assert group["first_ns"] < group["last_ns"]
    assert group["frames"][-1] == {
        "file": "/srv/shop/stock.py",
        "line": 12,
        "function": "Stock._ratio",
        "code": "return wanted / left",
        "in_app": True,
    }


def test_a_stretch_of_time_counts_its_minutes(path: Path) -> None:
    """And the newest group comes first."""
    old, new = raised("OldError", "no"), raised("NewError", "no")
    moments = [NOON, NOON + MINUTE, NOON + 10 * MINUTE, NOON + 2 * HOUR]
    spans = [span(trace_id(n), n, at_ns=at_ns, exception=old) for n, at_ns in enumerate(moments, 1)]
    spans.append(span(trace_id(9), 9, at_ns=NOON + 11 * MINUTE, exception=new, name="other"))
    store(path, {"shop": spans})
    with open_database(path) as db:

        def counts(selection: Selection, limit: int | None = None) -> dict[str, int]:
            return {group["type"]: group["count"] for group in list_groups(db, selection, limit)["groups"]}

        assert list(counts(Selection())) == ["OldError", "NewError"]
        assert counts(Selection()) == {"OldError": 4, "NewError": 1}
        assert counts(Selection(since_ns=NOON + MINUTE)) == {"OldError": 3, "NewError": 1}
        assert counts(Selection(since_ns=NOON, until_ns=NOON + 2 * MINUTE)) == {"OldError": 2}
        assert counts(Selection(since_ns=NOON + 20 * MINUTE, until_ns=NOON + HOUR)) == {}
        assert counts(Selection(method="other")) == {"NewError": 1}
        assert counts(Selection(service="bank")) == {}
        assert counts(Selection(), 1) == {"OldError": 4}


def test_the_way_is_told_from_the_caller_to_the_origin(shop: Path) -> None:
    """With what became of the exception in each span."""
    with open_database(shop) as db:
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


def test_causes_have_the_shape_of_exceptions(path: Path) -> None:
    """With the origin and the group of the one they caused."""
    inner = wire.ExceptionRecord("KeyError", "'x'", [], [], wire.REPLACED, None, None)
    cause = wire.ExceptionRecord("OSError", "gone", [], [list(inner)], wire.WRAPPED, None, None)
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("AppError", "no", causes=[cause]))]})
    with open_database(path) as db:
        top = read_exceptions(db, trace_id(1))[span_id(1)]
    [first] = top["causes"]
    [second] = first["causes"]
    assert (first["type"], first["how"], second["type"], second["how"]) == (
        "OSError",
        "wrapped",
        "KeyError",
        "replaced",
    )
    assert not first["origin"]
    assert first["group"] == second["group"] == top["group"] != ""
    assert second["origin_span_id"] == span_id(1).hex()
    assert set(second) == set(top)


def test_an_exception_whose_origin_is_not_stored_has_no_group(path: Path) -> None:
    """And is no origin itself."""
    lost = travelled("ValueError", "no", wire.PASSED, (trace_id(1), 99))
    store(path, {"shop": [span(trace_id(1), 1, exception=lost)]})
    with open_database(path) as db:
        exception = read_exceptions(db, trace_id(1))[span_id(1)]
        assert list_groups(db) == {"groups": []}
    assert (exception["origin"], exception["group"], exception["origin_span_id"]) == (
        False,
        "",
        span_id(99).hex(),
    )


def test_a_circle_of_parents_ends_the_way(path: Path) -> None:
    """Each span is told once."""
    spans = [span(trace_id(1), 1, 2), span(trace_id(1), 2, 1, exception=raised("ValueError", "no"))]
    store(path, {"shop": spans})
    with open_database(path) as db:
        document = read_error(db, list_groups(db)["groups"][0]["group"])
    assert [hop["span_id"] for hop in document["hops"]] == [span_id(1).hex(), span_id(2).hex()]


def test_a_group_whose_spans_are_gone_can_be_read(path: Path) -> None:
    """Its exception is null, and it has no hops."""
    store(path, checkout(trace_id(1)))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM spans")
        db.execute("DELETE FROM exceptions")
    db.close()
    with open_database(path) as reader:
        document = read_error(reader, list_groups(reader)["groups"][0]["group"])
    assert (document["exception"], document["hops"]) == (None, [])
