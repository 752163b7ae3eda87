"""Resolving of exception groups, and their regression."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, row, span_id, trace_id
from ztrace.errors import (
    DatabaseBlocked,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseMissing,
    DatabaseNewer,
    NotFoundError,
    ZtraceError,
)
from ztrace.records import ERROR, Span
from ztrace_collector.layout import SCHEMA_VERSION
from ztrace_collector.storing import existing
from ztrace_collector.storing.resolving import resolve
from ztrace_collector.storing.store import Store


def failed(number: int, at_ns: int) -> Span:
    """Return a span that failed at the given time, always with the same exception."""
    record = ["E", "no", [], [], "raised", trace_id(number), span_id(number), [], []]
    return make_span(number, status=ERROR, exception=record, start_ns=at_ns, duration_ns=0)


def state(path: Path) -> tuple[str, int | None, int]:
    """Return the only group's state, time of resolution and count."""
    group = row(path, "SELECT state, resolved_ns, count FROM exception_groups")
    return group["state"], group["resolved_ns"], group["count"]


def group_id(path: Path) -> str:
    """Return the only group's id."""
    return str(row(path, "SELECT fingerprint FROM exception_groups")["fingerprint"])


def test_a_resolved_group_comes_back_as_regressed(store: Store, path: Path) -> None:
    """A resolved group regresses by later occurrences only, until it is resolved again."""
    sender = Sender()
    store.store([sender.data(failed(0, EPOCH_NS))])
    assert state(path) == ("open", None, 1)
    at_ns = EPOCH_NS + 10 * MS
    resolve(path, group_id(path), at_ns)
    assert state(path) == ("resolved", at_ns, 1)
    store.store([sender.data(failed(1, at_ns), failed(2, EPOCH_NS))])
    assert state(path) == ("resolved", at_ns, 3)
    store.store([sender.data(failed(3, EPOCH_NS), failed(4, at_ns + 1), failed(5, EPOCH_NS))])
    assert state(path) == ("regressed", at_ns, 6)
    store.store([sender.data(failed(6, at_ns + 2))])
    assert state(path) == ("regressed", at_ns, 7)
    resolve(path, group_id(path), at_ns + 3)
    assert state(path) == ("resolved", at_ns + 3, 7)
    resolve(path, group_id(path), at_ns + 4, reopen=True)
    store.store([sender.data(failed(7, at_ns + 9))])
    assert state(path) == ("open", None, 8)


def test_it_needs_no_collector(path: Path) -> None:
    """Resolving needs no running collector, and the next collector finds the state."""
    with Store(path) as store:
        store.store([Sender().data(failed(0, EPOCH_NS))])
    resolve(path, group_id(path), EPOCH_NS + 1)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with Store(path) as store:
        store.store([Sender(1).data(failed(1, EPOCH_NS + 2))])
    assert state(path) == ("regressed", EPOCH_NS + 1, 2)


def test_an_unknown_group_is_not_found(store: Store, path: Path) -> None:
    """An unknown group raises an error and leaves nothing locked."""
    store.store([Sender().data(failed(0, EPOCH_NS))])
    with pytest.raises(NotFoundError, match="0123456789abcdef") as raised:
        resolve(path, "0123456789abcdef", EPOCH_NS)
    assert raised.value.hint
    assert state(path) == ("open", None, 1)
    store.store([Sender(1).data(failed(1, EPOCH_NS))])


def refusal_of(path: Path, kind: type[ZtraceError]) -> str:
    """Return the one-line error for a file, which must stay unchanged."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind) as raised:
        resolve(path, "0123456789abcdef", EPOCH_NS)
    assert type(raised.value) is kind
    assert raised.value.hint
    assert "\n" not in str(raised.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    return raised.value.message


def test_files_that_are_none_of_ours_are_left_alone(path: Path) -> None:
    """Missing files and files that are no ztrace database are neither created nor changed."""
    assert "no database" in refusal_of(path, DatabaseMissing)
    assert not path.exists()
    assert "folder" in refusal_of(path.parent, DatabaseError)
    path.write_text("dear diary, " * 500)
    refusal_of(path, DatabaseCorrupt)
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    assert "not a ztrace database" in refusal_of(path, DatabaseForeign)
    refusal_of(path / "below", DatabaseMissing)


@pytest.mark.parametrize(
    ("version", "kind"), [(SCHEMA_VERSION + 1, DatabaseNewer), (SCHEMA_VERSION - 1, DatabaseError)]
)
def test_files_of_other_versions_are_left_alone(path: Path, version: int, kind: type[ZtraceError]) -> None:
    """Files of older and newer versions are left unchanged."""
    with Store(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    assert ("newer" if version > SCHEMA_VERSION else "older") in refusal_of(path, kind)


def test_a_file_with_other_tables_is_left_alone(path: Path) -> None:
    """A file that lacks a table is left unchanged, whichever table a command needs."""
    with Store(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE sealed_traces")
    assert "another version of ztrace" in refusal_of(path, DatabaseCorrupt)


def test_a_writer_is_waited_for(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving waits for a writer, and raises an error when the lock persists."""
    store.store([Sender().data(failed(0, EPOCH_NS))])
    with store.transaction() as db:
        monkeypatch.setattr(existing, "BUSY_TIMEOUT_S", 0.05)
        with pytest.raises(DatabaseBlocked, match="another program"):
            resolve(path, group_id(path), EPOCH_NS)
        monkeypatch.setattr(existing, "BUSY_TIMEOUT_S", 30.0)
        thread = threading.Thread(target=resolve, args=(path, group_id(path), EPOCH_NS))
        thread.start()
        time.sleep(0.05)  # Usually starts the thread before the update; the result is right in either order.
        db.execute("UPDATE exception_groups SET count = count + 1")
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert state(path) == ("resolved", EPOCH_NS, 2)
