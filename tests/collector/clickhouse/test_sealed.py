"""Blocks for ClickHouse from a journal whose traces are sealed."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.collector.messages import Sender
from tests.collector.sealed import seal_file
from tests.collector.storing.test_retention import Clock
from tests.collector.storing.test_sealing import fill, settle, tree
from ztrace_collector.clickhouse import reading
from ztrace_collector.clickhouse.reading import Journal, Spans
from ztrace_collector.sealing.reading import add_views
from ztrace_collector.storing.store import Store


def read_blocks(path: Path, ends: list[int]) -> list[Spans | None]:
    """Return the spans of a journal in bounded blocks, and up to some ids."""
    with closing(sqlite3.connect(path)) as db:
        add_views(db)
        journal, place = Journal(db), 0
        blocks: list[Spans | None] = []
        while spans := journal.read_spans(place, 1_000, is_bounded=True):
            blocks.append(spans)
            place = spans.last
        return [*blocks, *[journal.read_spans(7, end, is_bounded=False) for end in ends]]


def test_blocks_of_a_sealed_journal_are_the_same(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is filled later, or a repeated block, gets the same bytes from sealed spans."""
    monkeypatch.setattr(reading, "MAX_SPANS", 37)
    clock, sealed = Clock(), tmp_path / "sealed.db"
    with Store(path, clock_ns=clock.wall) as store:
        fill(store, clock, 100, attributes={"customer": "Ada"})
        late = [span for number in range(40, 160, 3) for span in tree(number, name="pay")]
        store.store([Sender(1, "shop").data(*late)])
        settle(store, clock)
        store.store([Sender(2, "shop").data(*tree(200))])  # It is not counted by path.
    shutil.copy(path, sealed)
    assert seal_file(sealed, clock.now_ns) == 120
    ends = [8, 100, 200, 1_000]
    blocks = read_blocks(path, ends)
    assert len(blocks) == 8 + len(ends)
    assert read_blocks(sealed, ends) == blocks
