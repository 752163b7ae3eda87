"""Opening of database files: creation, migration and refusal."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from tests.collector.messages import Sender, is_balanced, make_span, row, rows
from ztrace.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseForeign,
    DatabaseInUse,
    DatabaseNewer,
)
from ztrace_collector.layout import APPLICATION_ID, LOSS_COLUMNS, SCHEMA_VERSION
from ztrace_collector.storing.database import Lock
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.schema import migrations


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


#: Content of version 1 that version 2 changes, for a publisher of each state.
_VERSION_1 = """
INSERT INTO instances VALUES (1, 'aa', 'shop', 'box', 7, 5), (2, 'bb', 'bank', 'box', 8, 5);
INSERT INTO publishers VALUES
    (1, 'ended', 9, 100, 60, 4, 30, 6, 0, '{"attribute_cut": 2}', 1000, 2000),
    (2, 'live', 1, 7, 5, 0, 0, 0, 2, '{}', 1500, 2500);
INSERT INTO gaps VALUES (1, 1, 2, 3, 17, 'never received', 1100), (2, 1, 4, 4, 8, 'window full', 1200),
    (3, 1, 5, 6, 5, 'not delivered before the end', 1300), (4, 2, 0, 0, 0, 'never received', 1600);
"""


#: Content of version 2 that version 3 extends: two trees of three spans that one problem passed, in two
#: minutes, the second only with its origin and its healthy root; and one tree with a consumer as root.
_VERSION_2 = """
INSERT INTO methods VALUES (1, 'shop', 'order', 'server'), (2, 'bank', 'debit', 'server'),
    (3, 'bank', 'late', 'consumer');
INSERT INTO instances VALUES (1, 'aa', 'shop', 'box', 7, 5, 0);
INSERT INTO spans VALUES (1, x'01', x'a1', NULL, 1, 1, 0, 9, 9, 9, 1, NULL, NULL),
    (2, x'01', x'b1', x'a1', 2, 1, 0, 9, 9, 9, 1, NULL, NULL),
    (3, x'02', x'a2', NULL, 1, 1, 0, 9, 9, 9, 0, NULL, NULL),
    (4, x'02', x'b2', x'a2', 2, 1, 0, 9, 9, 9, 1, NULL, NULL),
    (5, x'03', x'a3', NULL, 1, 1, 0, 9, 9, 9, 0, NULL, NULL),
    (6, x'03', x'b3', x'a3', 3, 1, 0, 9, 9, 9, 1, NULL, NULL);
INSERT INTO traces VALUES (1, x'01', x'a1', 1, 0, 9, 9, 2, 2, '[]', 0),
    (2, x'02', x'a2', 1, 0, 9, 9, 2, 1, '[]', 0),
    (3, x'03', x'a3', 1, 0, 9, 9, 2, 1, '[]', 0);
INSERT INTO exceptions VALUES
    (1, x'01', x'a1', x'01', x'b1', 1, 'passed', 'E', 'no 1', '[]', '[]', 100),
    (2, x'01', x'b1', x'01', x'b1', 1, 'raised', 'E', 'no 1', '[]', '[]', 100),
    (3, x'02', x'b2', x'02', x'b2', 1, 'raised', 'E', 'no 2', '[]', '[]', 60000000000),
    (4, x'03', x'b3', x'03', x'b3', 2, 'raised', 'F', 'late', '[]', '[]', 200);
INSERT INTO exception_groups VALUES
    (1, 'aaaa', 'E', 'no 2', 'bank', 'debit', 'server', 2, 100, 60000000000, x'02', x'b2', '[]'),
    (2, 'bbbb', 'F', 'late', 'bank', 'late', 'consumer', 1, 200, 200, x'03', x'b3', '[]');
INSERT INTO exception_minutes VALUES (1, 0, 1), (1, 1, 1), (2, 0, 1);
"""

#: Content of version 3 that version 4 extends.
_VERSION_3 = """
INSERT INTO methods VALUES (1, 'shop', 'order', 'server');
INSERT INTO instances VALUES (1, 'aa', 'shop', 'box', 7, 5, 0);
INSERT INTO publishers VALUES (1, 'live', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, '{}', 1, 1);
INSERT INTO spans VALUES (1, x'01', x'a1', NULL, 1, 1, 0, 9, 9, 9, 1, '{"a":1}', NULL);
INSERT INTO unfinished_spans VALUES (1, x'01', x'a2', x'a1', 1, 1, 0, 9, NULL, '[]');
"""

#: First migration that a file of each version lacks, and the content of such a file.
_OLD = {
    1: ("add_unfinished_spans_and_losses", _VERSION_1),
    2: ("add_ways_of_exceptions", _VERSION_2),
    3: ("add_details", _VERSION_3),
}


def make_version(path: Path, version: int) -> None:
    """Create a file as left by that version."""
    stop, content = _OLD[version]
    with closing(sqlite3.connect(path)) as db:
        migrations.apply(Database(db), stop_before=stop)
        assert len(migrations.applied(Database(db))) == version
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
        db.executescript(content)


def test_a_file_of_version_1_is_brought_up_to_date(path: Path) -> None:
    """The migration from version 1 moves every count to its reason's column and creates its losses."""
    make_version(path, 1)
    with Store(path):
        pass
    assert row(path, "PRAGMA user_version")["user_version"] == SCHEMA_VERSION
    shop, bank = rows(path, "SELECT * FROM publishers ORDER BY instance")
    counted = {reason: shop[column] for reason, column in LOSS_COLUMNS.items()}
    assert counted == {
        "queue full": 4,
        "window full": 8,
        "never received": 17,
        "not delivered before the end": 5,
        "process crashed": 0,
        "refused": 6,
    }
    assert (bank["spans_stored"], bank["spans_elsewhere"], bank["last_seen_ns"]) == (5, 2, 2500)
    assert is_balanced(shop)
    assert is_balanced(bank)
    lost = rows(path, "SELECT reason, span_count, first_ns, last_ns, first_sequence FROM losses")
    assert sorted(tuple(one.values()) for one in lost) == [
        ("never received", 17, 1100, 1100, 2),
        ("not delivered before the end", 5, 1300, 1300, 5),
        ("queue full", 4, 1000, 2000, None),
        ("refused", 6, 1000, 2000, None),
        ("window full", 8, 1200, 1200, 4),
    ]


def test_a_file_of_version_2_is_brought_up_to_date(path: Path) -> None:
    """The migration from version 2 derives states, edges and samples from stored exceptions."""
    make_version(path, 2)
    with Store(path):
        pass
    assert row(path, "PRAGMA user_version")["user_version"] == SCHEMA_VERSION
    groups = rows(
        path, "SELECT template, services, state, resolved_ns, edge_count FROM exception_groups ORDER BY id"
    )
    assert [tuple(group.values()) for group in groups] == [
        ("no 2", '["bank","shop"]', "open", None, 1),
        ("late", '["bank"]', "open", None, 1),
    ]
    minutes = rows(path, "SELECT exception_group, minute, edge_count FROM exception_minutes ORDER BY 1, 2")
    assert [tuple(minute.values()) for minute in minutes] == [(1, 0, 1), (1, 1, 0), (2, 0, 1)]
    exceptions = rows(path, "SELECT is_root, service, notes, members FROM exceptions ORDER BY id")
    assert [tuple(one.values()) for one in exceptions] == [
        (1, "shop", "[]", "[]"),
        (0, "bank", "[]", "[]"),
        (0, "bank", "[]", "[]"),
        (0, "bank", "[]", "[]"),
    ]
    samples = rows(path, "SELECT exception_group, which, span_id, at_ns FROM exception_samples ORDER BY id")
    assert [tuple(sample.values()) for sample in samples] == [
        (1, "first", b"\xb1", 100),
        (2, "first", b"\xb3", 200),
        (1, "latest", b"\xb2", 60_000_000_000),
    ]


def test_a_file_of_version_3_is_brought_up_to_date(path: Path) -> None:
    """The migration from version 3 leaves stored spans without details."""
    make_version(path, 3)
    with Store(path):
        pass
    (span,) = rows(path, "SELECT span_id, attributes, links, details FROM span_list")
    assert span == {"span_id": "a1", "attributes": '{"a":1}', "links": None, "details": None}
    (opened,) = rows(path, "SELECT span_id, state, links, details FROM unfinished_list")
    assert opened == {"span_id": "a2", "state": "live", "links": "[]", "details": None}
    assert row(path, "SELECT service, resource FROM instances") == {"service": "shop", "resource": None}


@pytest.mark.parametrize("version", _OLD)
def test_an_old_file_has_the_tables_of_a_new_one(path: Path, version: int) -> None:
    """A migrated file has the same schema as a new one."""
    make_version(path, version)
    new = path.with_name("new.db")
    tables = []
    for each in (path, new):
        with Store(each):
            pass
        tables.append(rows(each, "SELECT type, name, sql FROM sqlite_master ORDER BY name"))
    assert tables[0] == tables[1]
