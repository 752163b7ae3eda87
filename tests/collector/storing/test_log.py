"""Size of the log beside a database, with readers that stay and without."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, Sender, make_span
from ztrace_collector.layout import LOG_BYTES
from ztrace_collector.storing import log as module
from ztrace_collector.storing import retention
from ztrace_collector.storing import writer as writing
from ztrace_collector.storing.log import REST_S, Log
from ztrace_collector.storing.retention import NO_LIMITS, Limits
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer

#: Limit on the size of the tests' databases, and the bytes by which one transaction may exceed a size.
MAX_BYTES, ONE_BYTES = 4_000_000, 600_000
#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry after a moment what a reader prevents."""
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    monkeypatch.setattr(writing, "RETRY_S", 0.01)


def log_bytes(path: Path) -> int:
    """Return the size of a database's log."""
    return Path(f"{path}-wal").stat().st_size


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Hold a snapshot of a database throughout the block, as a long query of another program does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM spans").fetchone()
        yield


def store_some(writer: Writer, sender: Sender, turn: int) -> None:
    """Store some spans, whose pages are about 50 kB of the log, and do the work beside."""
    spans = [make_span(100 * turn + n, attributes={"note": "x" * 300}) for n in range(100)]
    writer.write([sender.data(*spans)])
    writer.tend()


def test_the_log_of_a_limited_file_is_part_of_the_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without readers that stay, a file and its log take the limit, and what one transaction adds."""
    for name, value in {"LOOK_S": 0.0, "SHARE": 1.0, "LATE_SHARE": 1.0}.items():
        monkeypatch.setattr(retention, name, value)  # However slow the machine is, deletion keeps up.
    sender = Sender()
    with Writer(path, Limits(max_bytes=MAX_BYTES), say=pytest.fail) as writer:
        for turn in range(200):
            store_some(writer, sender, turn)
            assert log_bytes(path) <= 0.125 * MAX_BYTES + ONE_BYTES
        assert path.stat().st_size + log_bytes(path) <= MAX_BYTES + ONE_BYTES
        assert writer.span_count == 20_000


def test_a_reader_that_stays_holds_the_writer_of_a_limited_file(path: Path) -> None:
    """Beyond its share of the limit the log grows no more; storing resumes when the reader ends."""
    sender, lines, turn = Sender(), list[str](), 0
    with Writer(path, Limits(max_bytes=MAX_BYTES), say=lines.append) as writer:
        store_some(writer, sender, turn)
        with reading(path):
            while not writer.holding:
                turn += 1
                assert turn < 200, log_bytes(path)
                store_some(writer, sender, turn)
            for _ in range(10):
                writer.write()
                writer.tend()
            assert log_bytes(path) <= 0.25 * MAX_BYTES + ONE_BYTES
            assert "a program has been reading" in lines[0]
        deadline_s = time.monotonic() + DEADLINE_S
        while writer.holding:
            assert time.monotonic() < deadline_s, "timed out"
            writer.write()
        writer.tend()
        assert log_bytes(path) <= 0.125 * MAX_BYTES + ONE_BYTES
        assert writer.span_count == 100 * (turn + 1)
    assert len(lines) == 2


def test_a_log_without_a_limit_is_told_of_and_shrinks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a limit everything is stored; the user is told once, and the log shrinks after the reader."""
    monkeypatch.setattr(module, "LOG_BYTES", 300_000)
    monkeypatch.setattr(module, "LARGE_BYTES", 1_000_000)
    sender, lines = Sender(), list[str]()
    with Writer(path, NO_LIMITS, say=lines.append) as writer:
        with reading(path):
            for turn in range(40):
                store_some(writer, sender, turn)
            assert log_bytes(path) > 1_000_000
        (line,) = lines
        assert "the log shrinks once that program or its query ends" in line
        deadline_s = time.monotonic() + DEADLINE_S
        while log_bytes(path) > 300_000:
            assert time.monotonic() < deadline_s, "timed out"
            writer.tend()
        assert writer.span_count == 4_000


def test_a_log_at_rest_is_emptied(path: Path) -> None:
    """A log below its size is emptied once a minute, so that an idle collector leaves none."""
    now_s = 1000.0
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        log = Log(path, None, say=pytest.fail, clock_s=lambda: now_s)
        log.tend(store)
        for round_ in range(2):
            first = 2000 * round_
            spans = [make_span(n, attributes={"note": "x" * 600}) for n in range(first, first + 2000)]
            store.store([Sender(round_).data(*spans)])
            assert log.size() > module.REST_BYTES
            now_s += REST_S
            log.tend(store)
            assert log.size() == 0


def test_a_limit_is_divided(path: Path) -> None:
    """The log has a quarter of a small limit, and no more of a large one than is of use."""
    small, large = (Log(path, limit, say=pytest.fail) for limit in (100_000_000, 100_000_000_000))
    assert (small.file_bytes, small.max_bytes, small.empty_bytes) == (75_000_000, 25_000_000, 12_500_000)
    assert (large.max_bytes, large.empty_bytes) == (256 << 20, LOG_BYTES)
    assert Log(path, None, say=pytest.fail).max_bytes is None
