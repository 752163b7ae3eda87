"""Unfinished spans received other than from publishers."""

from pathlib import Path

from tests.viewer.stored import NOON, SECOND, span, trace_id
from ztrace.records import Span
from ztrace_collector.checking.parcels import ForeignBatch, Outcome, Resource, add_up, pack
from ztrace_collector.storing.store import Store

SHOP = Resource(b"s" * 16, "shop", "box", 7, NOON, None)


def store(path: Path, *spans: Span, at_ns: int = NOON + 5 * SECOND) -> Outcome:
    """Store spans of the shop, and return the outcome."""
    with Store(path, clock_ns=lambda: at_ns) as opened:
        outcomes = opened.store((), list(pack(ForeignBatch(SHOP, spans)))).outcomes
        assert outcomes is not None
        return add_up(outcomes)


def count(path: Path, query: str) -> int:
    """Return the number that a query selects."""
    with Store(path) as opened:
        ((found,),) = opened.read(query)
        return int(found)


def test_they_are_kept_apart_from_those_that_have(tmp_path: Path) -> None:
    """Ended and unfinished spans in one batch are stored in their own tables."""
    path, trace = tmp_path / "db", trace_id(1)
    told = store(path, span(trace, 1, duration_ms=None), span(trace, 2, 1))
    assert told == Outcome(2, 0, {})
    assert count(path, "SELECT count(*) FROM spans") == 1
    assert count(path, "SELECT value FROM totals WHERE name = 'spans'") == 1
    assert count(path, "SELECT spans_created FROM publishers") == 1
    assert count(path, "SELECT seen_ns FROM unfinished_spans") == NOON + 5 * SECOND


def test_each_is_new_once_and_goes_when_it_ends(tmp_path: Path) -> None:
    """A repeated report is a duplicate, the end removes the row, and later reports are ignored."""
    path, opened, ended = tmp_path / "db", span(trace_id(1), 1, duration_ms=None), span(trace_id(1), 1)
    assert store(path, opened) == Outcome(1, 0, {})
    assert store(path, opened) == Outcome(0, 1, {})
    assert store(path, ended) == Outcome(1, 0, {})
    assert store(path, opened) == Outcome(0, 1, {})
    assert count(path, "SELECT count(*) FROM unfinished_spans") == 0
    assert count(path, "SELECT count(*) FROM spans") == 1


def test_what_is_wrong_with_one_is_told(tmp_path: Path) -> None:
    """An unfinished span with a duration is refused."""
    path, wrong = tmp_path / "db", span(trace_id(1), 1, duration_ms=None)._replace(duration_ns=5)
    assert store(path, wrong, span(trace_id(1), 2, duration_ms=None)) == Outcome(1, 0, {"status": 1})
