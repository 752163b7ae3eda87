"""Accounts beyond the bound, folded into those of their services without losing a figure."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import Sender, make_span
from ztrace.wire import BEAT
from ztrace_collector.storing import folding
from ztrace_collector.storing.folding import OTHERS, fold_accounts
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.accounts import MAX_REASONS, OTHER_REASONS


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Yield a store that keeps few accounts."""
    monkeypatch.setattr(folding, "MAX_ACCOUNTS", 10)
    monkeypatch.setattr(folding, "PIECE_ACCOUNTS", 7)
    store = Store(tmp_path / "traces.db")
    yield store
    store.close()


def fold_all(store: Store) -> None:
    """Fold until there are few accounts."""
    while fold_accounts(store) == 0:
        pass


def accounts(store: Store) -> dict[str, list[tuple[int, int, int]]]:
    """Return processes, spans created and dropped of each account, by service."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for service, *figures in store.read(
        "SELECT service, processes, spans_created, spans_dropped FROM publishers JOIN instances"
        " ON instances.id = instance ORDER BY instance"
    ):
        found.setdefault(service, []).append((figures[0], figures[1], figures[2]))
    return found


def beat(number: int, service: str, **fields: Any) -> list[bytes]:
    """Return a message without spans."""
    return Sender(number, service).message(BEAT, **fields)


def test_the_service_with_the_most_accounts_folds(store: Store) -> None:
    """Accounts of one service are added up exactly, and others keep theirs."""
    store.store([beat(n, "shop", created=3, dropped=3) for n in range(3)])
    store.store([beat(100 + n, "evil", created=2, dropped=1) for n in range(100)])
    fold_all(store)
    left = accounts(store)
    assert left["shop"] == [(1, 3, 3)] * 3
    assert sum(map(len, left.values())) <= 10
    assert [sum(column) for column in zip(*left["evil"], strict=True)] == [100, 200, 100]
    ((losses,),) = store.read("SELECT sum(span_count) FROM losses")
    assert losses == 109
    assert store.read("SELECT count(*) FROM losses WHERE instance NOT IN (SELECT id FROM instances)") == [
        (0,)
    ]


def test_services_of_one_account_fold_together(store: Store) -> None:
    """Where each account has a service of its own, the oldest are added up under one name."""
    store.store([beat(n, f"service {n}", created=1) for n in range(60)])
    fold_all(store)
    left = accounts(store)
    assert len(left) <= 10
    assert "service 59" in left
    ((processes, created, _),) = left[OTHERS]
    assert processes == created == 61 - len(left)


def test_accounts_with_stored_spans_stay(store: Store) -> None:
    """A process of which a span is stored keeps its account, however many there are."""
    store.store(
        [Sender(number=n, service="shop").data(make_span(span_id=(n + 1).to_bytes(8))) for n in range(30)]
    )
    assert fold_accounts(store) == folding.FULL_S
    assert len(accounts(store)["shop"]) == 30


def test_a_folded_process_goes_on(store: Store) -> None:
    """A process that was folded and sends again has a new account."""
    store.store([beat(n, "shop", created=1) for n in range(30)])
    fold_all(store)
    sender = Sender(number=0, service="shop")
    store.store([sender.data(make_span())])
    assert sum(figures[0] for figures in accounts(store)["shop"]) == 31


def test_reasons_are_bounded(store: Store) -> None:
    """Reasons that a publisher makes up share one count beyond the bound, and so they do when folded."""
    for turn in range(5):
        mended = {f"{turn} {number}": 2 for number in range(60)}
        store.store([beat(n, "evil", mended=mended) for n in range(30)])
    for (text,) in store.read("SELECT mended FROM publishers"):
        assert len(json.loads(text)) == MAX_REASONS + 1
        assert json.loads(text)[OTHER_REASONS] >= 2 * (60 - MAX_REASONS)
    fold_all(store)
    assert (
        max(len(json.loads(text)) for (text,) in store.read("SELECT mended FROM publishers"))
        <= MAX_REASONS + 1
    )


def test_folded_accounts_fold_again(tmp_path: Path, store: Store) -> None:
    """Folded accounts take up later ones, and no row refers to one that is gone."""
    for turn in range(2):
        store.store([beat(100 * turn + n, "evil", created=1) for n in range(60)])
        fold_all(store)
    assert [sum(column) for column in zip(*accounts(store)["evil"], strict=True)] == [120, 120, 0]
    with closing(sqlite3.connect(tmp_path / "traces.db")) as db:
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
