"""Spans of one service that carry the ids of another's, as any service that a call reaches knows them."""

from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_open, refusals, row, rows, span_id
from ztrace.records import KIND_NUMBERS
from ztrace_collector.checking.parcels import ForeignBatch, Resource, pack
from ztrace_collector.storing.store import Store
from ztrace_viewer.documents.traces import TraceSummary
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree

#: Open spans of one service: a root, and a span below it.
ROOT, CHILD = make_open(0, name="pay"), make_open(0, name="ask", span_id=span_id(7), parent_id=span_id(0))


@pytest.fixture
def shop() -> Sender:
    """Return the service whose spans are attacked."""
    return Sender(0, "shop")


@pytest.fixture
def evil() -> Sender:
    """Return the service that attacks."""
    return Sender(1, "evil")


def ended(span: Any, **changes: Any) -> Any:
    """Return a span as its end reports it."""
    return span._replace(**{"duration_ns": 10 * MS, "self_ns": MS, "status": 0, **changes})


def unfinished(path: Path) -> set[tuple[str, bytes]]:
    """Return the services and ids of the unfinished spans."""
    sql = "SELECT service, span_id FROM unfinished_spans JOIN instances ON instances.id = instance"
    return {(each["service"], each["span_id"]) for each in rows(path, sql)}


def shown(path: Path) -> tuple[TraceSummary, TreeDocument]:
    """Return the only trace as in a list, and its tree."""
    with open_file(path) as db:
        (trace,) = list_slowest(db, now_ns=EPOCH_NS)["traces"]
        return trace, read_tree(db, ROOT.trace_id, EPOCH_NS)


@pytest.mark.parametrize("by_restart", [False, True])
def test_no_service_ends_anothers_span(path: Path, shop: Sender, evil: Sender, by_restart: bool) -> None:
    """An ended span of another service leaves an unfinished one with the same ids."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([shop.open(ROOT, CHILD)])
        if not by_restart:
            store.store([evil.data(ended(ROOT), ended(CHILD))])
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        if by_restart:
            store.store([evil.data(ended(ROOT), ended(CHILD))])
        assert unfinished(path) == {("shop", ROOT.span_id), ("shop", CHILD.span_id)}
        trace, tree = shown(path)
        assert (trace["service"], trace["unfinished_count"], trace["state"]) == ("shop", 2, "running")
        assert tree["span_count"] == 4
        store.store([shop.data(ended(CHILD))])
        assert unfinished(path) == {("shop", ROOT.span_id)}
        store.store([shop.data(ended(ROOT))])
        assert unfinished(path) == set()


def test_no_service_hides_anothers_span(path: Path, shop: Sender, evil: Sender) -> None:
    """Spans of another service, ended or not, do not keep one with the same ids from being recorded."""
    own = {("shop", ROOT.span_id), ("shop", CHILD.span_id)}
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([evil.data(ended(ROOT)), evil.open(CHILD)])
        store.store([shop.open(ROOT, CHILD)])
        assert unfinished(path) == own | {("evil", CHILD.span_id)}
        store.store([evil.data(ended(CHILD))])
        store.store([shop.open(ROOT, CHILD)])
        assert unfinished(path) == own


def test_spans_that_came_by_otlp_change_none_of_a_publisher(path: Path, shop: Sender) -> None:
    """A client's half of a call that claims the id of a publisher's span is refused and counted."""
    resource = Resource(bytes(15) + b"\x09", "evil", "box", 1, EPOCH_NS, None)
    forged = ended(ROOT, kind=KIND_NUMBERS["client"], parent_id=None)
    (parcel,) = pack(ForeignBatch(resource, [forged]))
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([shop.data(ended(ROOT, kind=KIND_NUMBERS["server"]))])
        store.store(parcels=[parcel])
        trace, tree = shown(path)
    assert (trace["service"], trace["span_count"]) == ("shop", 1)
    assert tree["roots"][0]["parent_id"] is None
    assert refusals(path) == {"repeated_id": 1}


@pytest.mark.parametrize("is_open", [False, True])
def test_no_service_becomes_the_root_of_anothers_trace(
    path: Path, shop: Sender, evil: Sender, is_open: bool
) -> None:
    """A root of another service that started earlier, ended or not, is not the root of the trace."""
    forged = make_open(0, name="evil", span_id=span_id(66), start_ns=EPOCH_NS - 1000 * MS)
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([shop.data(ended(ROOT))])
        store.store([evil.open(forged) if is_open else evil.data(ended(forged, duration_ns=MS))])
    for _ in range(2):
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            trace, tree = shown(path)
            assert (trace["service"], trace["name"], trace["duration_ns"]) == ("shop", "pay", 10 * MS)
            assert tree["duration_ns"] == 10 * MS
            assert tree["start_ns"] == trace["start_ns"] == EPOCH_NS
            # After a restart as well.
            store.store([evil.data(ended(forged, span_id=span_id(67)))])


@pytest.mark.parametrize("is_open", [False, True])
def test_no_service_becomes_the_root_of_a_trace_whose_root_runs(
    path: Path, shop: Sender, evil: Sender, is_open: bool
) -> None:
    """While the root of one service runs, a root of another is none, and stays none once the first ends."""
    forged = make_open(0, name="evil", span_id=span_id(66), start_ns=EPOCH_NS - 1000 * MS)
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        store.store([shop.open(ROOT)])
        store.store([evil.open(forged) if is_open else evil.data(ended(forged))])
        trace, tree = shown(path)
        assert (trace["service"], trace["name"], trace["state"]) == ("shop", "pay", "running")
        assert tree["duration_ns"] is None
        store.store([shop.data(ended(ROOT))])
        trace, tree = shown(path)
        assert (trace["service"], trace["name"], trace["duration_ns"]) == ("shop", "pay", 10 * MS)
        assert tree["duration_ns"] == 10 * MS
    assert row(path, "SELECT root_span_id FROM traces")["root_span_id"] == ROOT.span_id
