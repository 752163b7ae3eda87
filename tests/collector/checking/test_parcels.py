"""Spans received other than from publishers: stored once, accounted for, and checked like all spans."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import (
    EPOCH_NS,
    MS,
    Sender,
    is_balanced,
    make_span,
    refusals,
    row,
    rows,
    span_id,
    trace_id,
)
from ztrace.errors import DatabaseBlocked
from ztrace.records import ERROR, ExceptionRecord, FrameRecord, Span
from ztrace_collector.checking.parcels import (
    PARCEL_BYTES,
    PARCEL_SPANS,
    ForeignBatch,
    Outcome,
    Resource,
    add_up,
    pack,
)
from ztrace_collector.storing import writer as storing_writer
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer
from ztrace_collector.tables import known

ATTRIBUTES = {"service.name": "cart", "blob": b"\0", "ratio": float("nan"), "one": 1.0}
CART = Resource(b"c" * 16, "cart", "box", 7, EPOCH_NS, ATTRIBUTES)


def take(store: Store, *spans: Any, resource: Resource = CART, **changes: Any) -> Outcome:
    """Store a batch in one transaction, and return its outcome."""
    outcomes = store.store((), list(pack(ForeignBatch(resource, spans, **changes)))).outcomes
    assert outcomes is not None
    return add_up(outcomes)


def publisher(path: Path) -> dict[str, Any]:
    """Return the only publisher's row, after checking that its account balances."""
    only = row(path, "SELECT * FROM publishers JOIN instances ON id = instance")
    assert is_balanced(only)
    return only


def test_everything_that_a_publisher_brings_about_comes_of_them_too(store: Store, path: Path) -> None:
    """Foreign spans have rows, a trace, figures, an exception group, an account and their resource."""
    frames = [FrameRecord("/srv/cart.py", 3, "add", "cart", "return 1 / 0", True)]
    record = ExceptionRecord("ZeroDivisionError", "division by zero", frames, [], "raised", None, None)
    details = {"scope": {"name": "lib"}, "events": [{"name": "e", "time_ns": 5, "attributes": {"b": b"x"}}]}
    failed = make_span(1, self_ns=None, status=ERROR, exception=record, details=details)
    assert take(store, make_span(0, self_ns=None), failed) == Outcome(2, 0, {})
    first, second = rows(path, "SELECT * FROM spans ORDER BY id")
    assert (first["self_ns"], first["details"]) == (None, None)
    details["events"] = [{"name": "e", "time_ns": 5, "attributes": {"b": {"$bytes": "eA=="}}}]
    assert json.loads(second["details"]) == details
    assert row(path, "SELECT count(*) AS n FROM traces")["n"] == 2
    figures = row(path, "SELECT * FROM method_figures WHERE resolution_s = 60")
    assert (figures["calls"], figures["errors"], figures["total_ns"], figures["self_ns"]) == (
        2,
        1,
        20 * MS,
        0,
    )
    assert row(path, "SELECT type, service FROM group_list") == {
        "type": "ZeroDivisionError",
        "service": "cart",
    }
    account = publisher(path)
    assert (account["service"], account["host"], account["pid"]) == ("cart", "box", 7)
    assert (account["state"], account["spans_created"], account["spans_stored"]) == ("live", 2, 2)
    assert account["last_seen_ns"] == EPOCH_NS
    typed = {"blob": {"$bytes": "AA=="}, "ratio": {"$double": "NaN"}}
    assert json.loads(account["resource"]) == ATTRIBUTES | typed
    assert '"one":1.0' in account["resource"]
    assert (store.span_count, refusals(path)) == (2, {})


def test_each_is_stored_once(store: Store, path: Path) -> None:
    """A span already stored, by whatever batch or publisher, is a duplicate and accepted."""
    store.store([Sender(8, CART.service).data(make_span(5))])
    assert take(store, make_span(0), make_span(1), make_span(0)) == Outcome(2, 1, {})
    rounded = make_span(1, start_ns=EPOCH_NS + 999)
    assert take(store, rounded, make_span(5), make_span(2)) == Outcome(1, 2, {})
    other_trace = make_span(0, trace_id=trace_id(9))
    assert take(store, other_trace, resource=CART._replace(incarnation=b"d" * 16)) == Outcome(1, 0, {})
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 5}
    assert row(path, "SELECT sum(span_count) AS n FROM traces") == {"n": 5}
    assert all(is_balanced(one) for one in rows(path, "SELECT * FROM publishers"))


def test_the_spans_of_a_large_trace_are_remembered(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates in large traces are found from memory, which failures and deletions invalidate."""
    monkeypatch.setattr(known, "MAX_READ", 3)

    def spans(*numbers: int) -> list[Span]:
        return [make_span(number, trace_id=trace_id(0)) for number in numbers]

    sender = Sender(service=CART.service)
    assert take(store, *spans(0, 1, 2, 3)) == Outcome(4, 0, {})
    assert take(store, *spans(3, 4)) == Outcome(1, 1, {})
    store.store([sender.data(*spans(5))])
    assert take(store, *spans(4, 5, 6, 6)) == Outcome(1, 3, {})
    monkeypatch.setattr(known, "MAX_REMEMBERED", 6)
    assert take(store, *spans(7)) == Outcome(1, 0, {})  # Exceeds the limit of remembered spans by one.
    assert take(store, *spans(0, 2, 7)) == Outcome(1, 2, {})  # The oldest spans are beyond the limit.
    monkeypatch.undo()
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM spans")
    db.close()
    store.forget_traces([trace_id(0)])
    assert take(store, *spans(0)) == Outcome(1, 0, {})


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (make_span(trace_id=bytes(16)), "trace_id"),
        (make_span(duration_ns=-1), "time"),
        (make_span(attributes={"n": 1 << 70}), "fields"),
        (make_span(kind=99), "kind"),
    ],
)
def test_what_is_wrong_is_refused_and_the_others_are_taken(
    store: Store, path: Path, broken: Any, reason: str
) -> None:
    """An invalid span is refused by reason and counted in the account, and the others are stored."""
    told = take(store, broken, make_span(1), make_span(2), refused={"span_id": 3})
    assert told == Outcome(2, 0, {reason: 1, "span_id": 3})
    assert refusals(path) == {reason: 1, "span_id": 3}
    account = publisher(path)
    assert (account["spans_created"], account["spans_refused"]) == (6, 4)
    assert row(path, "SELECT reason, span_count FROM losses") == {"reason": "refused", "span_count": 4}


def test_text_that_is_no_unicode_costs_the_characters_only(store: Store, path: Path) -> None:
    """Lone surrogates, which JSON can contain, are replaced in spans and in the resource."""
    resource = CART._replace(service="ca\ud800rt", host="\udc00", attributes={"k\ud800": "v\ud800"})
    for number in range(2):
        span = make_span(number, name="n\ud800", attributes={"a": "\udfff"})
        assert take(store, span, resource=resource) == Outcome(1, 0, {})
    account = publisher(path)
    assert "\ud800" not in account["service"] + account["resource"]
    assert account["service"].startswith("ca")
    assert row(path, "SELECT DISTINCT service FROM methods")["service"] == account["service"]


def test_an_incarnation_stays_with_its_service(store: Store, path: Path) -> None:
    """Spans under the incarnation of another service's publisher are refused."""
    sender = Sender(service="billing")
    store.store([sender.data(make_span(0))])
    resource = CART._replace(incarnation=sender.incarnation)
    assert take(store, make_span(1), make_span(2), resource=resource) == Outcome(0, 0, {"incarnation": 2})
    assert refusals(path) == {"incarnation": 2}
    assert publisher(path)["spans_stored"] == 1


@pytest.mark.parametrize("reopened", [False, True])
def test_a_publisher_is_not_disturbed_by_spans_of_its_own(path: Path, reopened: bool) -> None:
    """A publisher's spans that first arrived by another way do not disturb its later batches."""
    sender = Sender()
    own = Resource(sender.incarnation, "billing", "desk", 42, EPOCH_NS, None)
    first, second = (sender.data(make_span(number)) for number in range(2))
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        assert take(store, make_span(0), resource=own) == Outcome(1, 0, {})
        assert publisher(path)["resource"] is None
        if not reopened:
            sender.floor = sender.retired = 1
            assert store.store([sender.data(make_span(2))]).acknowledgements[sender.incarnation] == 1
    if reopened:
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            sender.floor = sender.retired = 2
            assert store.store([sender.data(make_span(2))]).acknowledgements[sender.incarnation] == 3
            account = publisher(path)
            assert (account["spans_created"], account["spans_stored"], account["spans_elsewhere"]) == (
                3,
                2,
                1,
            )
            assert take(store, make_span(1), resource=own) == Outcome(1, 0, {})
            account = publisher(path)
            assert (account["spans_stored"], account["spans_elsewhere"]) == (3, 0)
            assert store.store([sender.data(make_span(3))]).acknowledgements[sender.incarnation] == 4
            assert publisher(path)["spans_missing"] == 0
    assert first != second


def test_nothing_is_acknowledged_to_who_did_not_send(store: Store) -> None:
    """Acknowledgements name publishers only."""
    sender = Sender()
    written = store.store([sender.data(make_span(0))], list(pack(ForeignBatch(CART, [make_span(1)]))))
    assert written.acknowledgements == {sender.incarnation: 1}
    assert written.outcomes == [Outcome(1, 0, {})]


def sizes(spans: Sequence[Any]) -> list[int]:
    """Return the number of spans in each parcel of a batch."""
    return [parcel.span_count for parcel in pack(ForeignBatch(CART, spans))]


def test_parcels_are_small() -> None:
    """Parcels are bounded in spans and bytes, except for a single large span."""
    assert sizes([]) == [0]
    assert sizes([make_span(number) for number in range(PARCEL_SPANS + 1)]) == [PARCEL_SPANS, 1]
    large = make_span(attributes={"text": "x" * (PARCEL_BYTES // 3)})
    assert sizes([large] * 4) == [2, 2]
    assert sizes([make_span(attributes={"text": "x" * (2 * PARCEL_BYTES)})]) == [1]


def test_what_cannot_be_stored_now_is_not_held(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the disk is full, foreign batches are rejected instead of held, and stored on a later attempt."""
    parcels = list(pack(ForeignBatch(CART, [make_span(0)])))
    said: list[str] = []
    with Writer(path, say=said.append) as writer:
        with monkeypatch.context() as patch:

            def fail(self: object, *brought: object) -> Any:
                raise DatabaseBlocked("no space left")

            patch.setattr(Store, "store", fail)
            patch.setattr(storing_writer, "RETRY_S", 0.0)
            assert writer.write(parcels=parcels).outcomes is None
            assert writer.holding
            assert writer.write(parcels=parcels).outcomes is None
        assert writer.write(parcels=[*parcels, *parcels]).outcomes == [Outcome(1, 0, {}), Outcome(0, 1, {})]
        assert not writer.holding
    assert len(said) == 2
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 1}


def test_a_damaged_file_does_not_cost_them(path: Path) -> None:
    """Foreign batches for a damaged file are stored in the new file that replaces it."""
    with Writer(path, say=lambda line: None) as writer:
        writer.write(parcels=list(pack(ForeignBatch(CART, [make_span(0)]))))
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 65536)
    with Writer(path, say=lambda line: None) as writer:
        written = writer.write(parcels=list(pack(ForeignBatch(CART, [make_span(1)]))))
        assert written.outcomes == [Outcome(1, 0, {})]
    assert row(path, "SELECT span_id FROM spans") == {"span_id": span_id(1)}
