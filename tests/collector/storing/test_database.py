"""Opening of database files: creation, migration and refusal."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from tests.collector.messages import Sender, make_span, row
from ztrace.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseInUse,
    DatabaseNewer,
)
from ztrace_collector.layout import APPLICATION_ID, SCHEMA_VERSION
from ztrace_collector.storing import database
from ztrace_collector.storing.database import Lock
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.migrations import create_tables


def execute(path: Path, sql: str) -> None:
    """Run statements over a separate connection."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(sql)


def test_a_new_file_is_ours(path: Path) -> None:
    """A new file has ztrace's application id and the schema version, and no other file is left."""
    with Store(path):
        assert Path(f"{path}.lock").exists()
    assert row(path, "PRAGMA application_id")["application_id"] == APPLICATION_ID
    assert row(path, "PRAGMA user_version")["user_version"] == SCHEMA_VERSION
    assert sorted(os.listdir(path.parent)) == ["traces.db"]


def test_what_is_written_is_safe_from_a_power_cut(store: Store) -> None:
    """The writing connection synchronizes with the disk."""
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_an_empty_file_is_taken(path: Path) -> None:
    """An empty file becomes a database."""
    path.touch()
    with Store(path) as store:
        store.store([Sender().data(make_span())])
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1


def refusal_of(path: Path, kind: type[DatabaseError]) -> str:
    """Return the one-line error for a file, which must stay unchanged and unlocked."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind) as raised:
        Store(path)
    assert type(raised.value) is kind
    assert raised.value.hint
    assert "\n" not in str(raised.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert not Path(f"{path}.lock").exists()
    return raised.value.message


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    """A text file is refused."""
    path.write_text("dear diary, " * 500)
    assert "not an SQLite database" in refusal_of(path, DatabaseCorrupt)


def test_another_programs_database_is_refused(path: Path) -> None:
    """A database with other tables or another application id is refused."""
    execute(path, "CREATE TABLE recipes (name TEXT)")
    assert "another program's" in refusal_of(path, DatabaseForeign)
    other = path.with_name("other.db")
    execute(other, "PRAGMA application_id = 77; CREATE TABLE a (b); DROP TABLE a")
    refusal_of(other, DatabaseForeign)


def test_a_newer_version_is_refused(path: Path) -> None:
    """A file of a newer schema version is refused."""
    with Store(path):
        pass
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    assert "newer" in refusal_of(path, DatabaseNewer)


def test_an_unknown_migration_is_refused(path: Path) -> None:
    """A file with an unknown migration is refused."""
    with Store(path):
        pass
    execute(path, "INSERT INTO _sqlite_migrations VALUES (99, 'ztrace', 'from_the_future', '')")
    refusal_of(path, DatabaseNewer)


@pytest.mark.parametrize("change", ["DROP TABLE sealed_traces", "ALTER TABLE spans DROP COLUMN cpu_ns"])
def test_a_file_with_other_tables_is_refused(path: Path, change: str) -> None:
    """A file that lacks a table or a column is refused, as one of a version before the release."""
    with Store(path):
        pass
    execute(path, f"DROP VIEW span_list; {change}; CREATE TABLE notes (of_a_user)")
    assert "another version of ztrace, or is damaged: it has no s" in refusal_of(path, DatabaseCorrupt)


def test_a_truncated_file_is_refused(path: Path) -> None:
    """A truncated file is refused as damaged."""
    with Store(path) as store:
        store.store([Sender().data(*(make_span(number) for number in range(500)))])
    path.write_bytes(path.read_bytes()[: 3 * 4096])
    assert "damaged" in refusal_of(path, DatabaseCorrupt)


def test_a_file_damaged_in_the_middle_is_found_at_the_latest_when_writing(path: Path) -> None:
    """Overwritten pages raise an error on opening or on the first write."""
    with Store(path) as store:
        store.store([Sender().data(*(make_span(number) for number in range(500)))])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)

    def use() -> None:
        with Store(path) as store:
            store.store([Sender(1).data(make_span(1000))])

    with pytest.raises(DatabaseCorrupt):
        use()


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder in place of the file is named in the error."""
    assert "is a folder" in refusal_of(tmp_path, DatabaseError)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A missing parent folder is named in the error."""
    assert f"no folder {tmp_path / 'no'}" in refusal_of(tmp_path / "no" / "traces.db", DatabaseError)


def test_a_path_through_a_file_is_refused(path: Path) -> None:
    """A file in place of the parent folder is named in the error."""
    path.touch()
    assert "not a folder" in refusal_of(path / "traces.db", DatabaseError)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system nobody can write to")
def test_an_unwritable_folder_is_refused() -> None:
    """A folder that accepts no files is named in the error, even for root."""
    assert "cannot write beside" in refusal_of(Path("/proc/self/traces.db"), DatabaseError)


def test_a_second_writer_is_refused(store: Store, path: Path) -> None:
    """A file has one collector at a time, under any of its names."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(DatabaseInUse, match="another collector") as raised:
            Store(name)
        assert raised.value.hint
    store.store([Sender().data(make_span())])


@pytest.mark.process
def test_a_lock_goes_with_its_process(path: Path) -> None:
    """The lock of a killed process does not block the next one."""
    code = (
        "import os, sys; from pathlib import Path; from ztrace_collector.storing.store import Store;"
        "store = Store(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert Path(f"{path}.lock").exists()
    with Store(path):
        pass
    assert not Path(f"{path}.lock").exists()


def test_only_one_of_many_gets_the_lock(path: Path) -> None:
    """Competing threads never hold the lock at the same time."""
    holders: list[int] = []
    most: list[int] = []

    def compete(number: int) -> None:
        for _ in range(200):
            try:
                lock = Lock(path)
            except DatabaseInUse:
                continue
            holders.append(number)
            most.append(len(holders))
            holders.remove(number)
            lock.release()

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_readers_do_not_stop_the_writer(store: Store, path: Path) -> None:
    """A long read transaction and the writer do not block each other."""
    sender = Sender()
    store.store([sender.data(make_span(0))])
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)
        assert store.store([sender.data(make_span(1))]).acknowledgements == {sender.incarnation: 2}
        assert reader.execute("SELECT count(*) FROM spans").fetchone() == (1,)


def test_a_closed_file_stands_alone(path: Path) -> None:
    """A closed file has no log beside it."""
    with Store(path):
        assert row(path, "PRAGMA journal_mode")["journal_mode"] == "wal"
    assert row(path, "PRAGMA journal_mode")["journal_mode"] == "delete"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_reader_does_not_keep_a_file_from_being_closed(path: Path) -> None:
    """Closing while a reader is connected leaves the log for the next collector."""
    store = Store(path)
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM spans").fetchone()
        store.close()
    Store(path).close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that a file lacks runs once, when the file is opened, and keeps what is stored."""
    with Store(path) as store:
        store.store([Sender().data(make_span())])
    newer = Migrations("ztrace")
    newer()(create_tables)
    runs: list[str] = []

    @newer()
    def add_a_column(db: Database) -> None:
        runs.append("add_a_column")
        db.execute("ALTER TABLE spans ADD COLUMN extra INTEGER")

    monkeypatch.setattr(database, "migrations", newer)
    monkeypatch.setattr(database, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    for _ in range(2):
        with Store(path):
            pass
    assert runs == ["add_a_column"]
    assert row(path, "PRAGMA user_version")["user_version"] == SCHEMA_VERSION + 1
    assert row(path, "SELECT name, extra FROM spans JOIN methods ON methods.id = method") == {
        "name": "charge",
        "extra": None,
    }
    monkeypatch.undo()
    assert "newer" in refusal_of(path, DatabaseNewer)
