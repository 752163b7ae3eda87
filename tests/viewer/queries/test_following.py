"""Following new traces and errors, each reported once and when complete enough."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.viewer.stored import NOON, SECOND, message, raised, span, trace_id
from ztrace import records
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries import following
from ztrace_viewer.queries.following import Follower
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Yield a store with one earlier trace."""
    with Store(path) as opened:
        opened.store(
            [message("old", [span(trace_id(1), 1, name="before", exception=raised("OldError", "no"))], 1)]
        )
        yield opened


def look(follower: Follower) -> list[tuple[str, str, int]]:
    """Return the (event, name, span count) of each new event."""
    return [
        (event["event"], event["name"], event["span_count"] if event["event"] == "trace" else 0)
        for event in follower.look()
    ]


def test_a_tree_is_told_once_its_spans_have_stopped_coming(store: Store, path: Path) -> None:
    """A new tree is reported once its spans have stopped arriving, and earlier trees are not."""
    trace = trace_id(2)
    with open_file(path, snapshot=False) as db:
        follower = Follower(db, EVERYTHING)
        assert look(follower) == []
        store.store([message("shop", [span(trace, 2, 1)], 2)])
        assert look(follower) == look(follower) == []
        store.store([message("gate", [span(trace, 1, name="buy")], 3)])
        assert look(follower) == []
        store.store([message("bank", [span(trace, 3, 1)], 4)])
        assert look(follower) == []
        assert look(follower) == [("trace", "buy", 3)]
        assert look(follower) == []


def test_an_error_is_told_at_once_and_only_at_its_origin(store: Store, path: Path) -> None:
    """An error is reported before its tree, at its origin only."""
    trace = trace_id(2)
    passed = records.ExceptionRecord(
        "ValueError", "no", [], [], records.PASSED, trace, (2).to_bytes(8, "big")
    )
    with open_file(path, snapshot=False) as db:
        follower = Follower(db, EVERYTHING)
        spans = [
            span(trace, 1, name="buy", exception=passed),
            span(trace, 2, 1, exception=raised("ValueError", "no")),
        ]
        store.store([message("shop", spans, 2)])
        [event] = follower.look()
        assert event["event"] == "error"
        assert (event["type"], event["service"], event["name"]) == ("ValueError", "shop", "work")
        assert event["group"] != ""
        assert event["frames"][-1]["line"] == 42
        assert look(follower) == [("trace", "buy", 2)]


def test_earlier_ones_are_told_first_if_asked(store: Store, path: Path) -> None:
    """Events since a given time are reported first on request."""
    store.store([message("shop", [span(trace_id(2), 2, name="late", at_ns=NOON + 9 * SECOND)], 2)])
    with open_file(path, snapshot=False) as db:
        follower = Follower(db, Selection(since_ns=NOON))
        assert look(follower) == [("error", "before", 0)]
        assert look(follower) == [("trace", "before", 1), ("trace", "late", 1)]
        follower = Follower(db, Selection(since_ns=NOON + SECOND))
        assert look(follower) + look(follower) == [("trace", "late", 1)]


def test_a_selection_leaves_out_the_rest(store: Store, path: Path) -> None:
    """A selection applies to the root of a tree and to the origin of an error."""
    with open_file(path, snapshot=False) as db:
        shop = Follower(db, Selection(service="shop", method="buy"))
        store.store(
            [message("shop", [span(trace_id(2), 2, name="buy"), span(trace_id(3), 3, name="look")], 2)]
        )
        store.store([message("bank", [span(trace_id(4), 4, name="buy", exception=raised("E", "no"))], 3)])
        assert look(shop) + look(shop) == [("trace", "buy", 1)]


def test_what_was_running_at_the_start_is_told_when_it_ends(store: Store, path: Path) -> None:
    """A trace that started earlier is reported when its root arrives."""
    store.store([message("shop", [span(trace_id(2), 2, 1)], 2)])
    with open_file(path, snapshot=False) as db:
        follower = Follower(db, EVERYTHING)
        store.store([message("gate", [span(trace_id(2), 1, name="buy")], 3)])
        assert look(follower) + look(follower) == [("trace", "buy", 2)]


def test_roots_that_never_come_are_given_up(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces waiting for a root are limited in number, oldest dropped first."""
    monkeypatch.setattr(following, "MAX_WAITING", 2)
    with open_file(path, snapshot=False) as db:
        follower = Follower(db, EVERYTHING)
        store.store([message("shop", [span(trace_id(n), n, 1) for n in range(2, 6)], 2)])
        assert look(follower) == []
        store.store([message("gate", [span(trace_id(n), 1, name=f"buy{n}") for n in range(2, 6)], 3)])
        assert look(follower) + look(follower) == [("trace", "buy4", 2), ("trace", "buy5", 2)]
