"""Unusable database files, refused in one line with a reason and a remedy."""

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, message, span, trace_id
from ztrace.errors import DatabaseCorrupt, DatabaseError, DatabaseForeign, DatabaseMissing, DatabaseNewer
from ztrace_collector.layout import APPLICATION_ID, SCHEMA_VERSION
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.database import open_database, read_sizes
from ztrace_viewer.queries.pieces import read_pieces
from ztrace_viewer.queries.stores.conditions import TreeFilter
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore
from ztrace_viewer.queries.traces import read_tree

QUERIES = (
    ("slow",),
    ("errors",),
    ("error", "abcdef"),
    ("show", "abcdef"),
    ("stats",),
    ("status",),
    ("tail",),
)


def make_folder(path: Path) -> None:
    """Create a folder at the path."""
    path.mkdir()


def make_text(path: Path) -> None:
    """Create a file that is no SQLite database."""
    path.write_text("not a database\n" * 1000)


def make_empty(path: Path) -> None:
    """Create an empty file."""
    path.touch()


def make_foreign(path: Path) -> None:
    """Create another program's database."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE traces (id)")


def make_newer(path: Path) -> None:
    """Create a database of a newer ztrace."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def make_older(path: Path) -> None:
    """Create a database without tables."""
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def make_other_tables(path: Path) -> None:
    """Create a database without one of its tables, as of a version before the release."""
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE sealed_traces")


def make_corrupt(path: Path) -> None:
    """Create a ztrace database whose pages after the first are noise."""
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


BROKEN = [
    (make_folder, DatabaseError, "is a folder"),
    (make_text, DatabaseForeign, "is not a database"),
    (make_empty, DatabaseForeign, "is not a ztrace database"),
    (make_foreign, DatabaseForeign, "is not a ztrace database"),
    (make_newer, DatabaseNewer, "pip install --upgrade"),
    (make_older, DatabaseError, "upgrade it with"),
    (make_other_tables, DatabaseCorrupt, "another version of ztrace"),
    (make_corrupt, DatabaseCorrupt, "is damaged"),
    (lambda path: None, DatabaseMissing, "create one with 'ztrace up'"),
]


@pytest.mark.parametrize(("make", "kind", "text"), BROKEN)
def test_the_error_is_of_the_right_class(
    path: Path, make: Callable[[Path], None], kind: type[DatabaseError], text: str
) -> None:
    """Each unusable file raises its own error class with the file's name."""
    make(path)
    with pytest.raises(DatabaseError, match=text) as caught, open_database(path) as db:
        db.execute("SELECT * FROM traces ORDER BY hour").fetchall()
    assert type(caught.value) is kind
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(("make", "kind", "text"), BROKEN)
def test_every_query_tells_it_on_one_line(
    run: Run,
    path: Path,
    make: Callable[[Path], None],
    kind: type[DatabaseError],
    text: str,
    query: tuple[str, ...],
) -> None:
    """Every query reports an unusable file in one line on stderr, with exit status 2."""
    make(path)
    result = run(*query, "--db", path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("ztrace: ")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unreadable_file_is_told() -> None:
    """An unreadable file is reported as a matter of permissions."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "traces.db"
        Store(path).close()
        path.chmod(0)
        if user == 0:  # Root can read everything.
            os.seteuid(65534)
        try:
            with pytest.raises(DatabaseError, match="cannot read"), open_database(path):
                pass
        finally:
            os.seteuid(user)


def test_nothing_can_be_written(shop: Path) -> None:
    """The connection is read-only."""
    with open_database(shop) as db:
        assert db.execute("PRAGMA query_only").fetchone() == (1,)
    with pytest.raises(DatabaseError, match="readonly"), open_database(shop) as db:
        db.execute("DELETE FROM traces")


def test_a_document_is_of_one_moment(path: Path) -> None:
    """A document is read from one snapshot, and does not block writers."""
    with Store(path), open_database(path) as db:
        assert db.execute("SELECT count(*) FROM refusals").fetchone() == (0,)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("INSERT INTO refusals VALUES ('version', 1, 1, '')")
        assert db.execute("SELECT count(*) FROM refusals").fetchone() == (0,)
    with open_database(path, snapshot=False) as db:
        assert db.execute("SELECT count(*) FROM refusals").fetchone() == (1,)


def test_a_folder_that_cannot_be_written_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database in a read-only folder is read without creating files."""
    Store(path).close()
    before = sorted(path.parent.iterdir())
    connect = sqlite3.connect

    def refuse(place: str, **options: Any) -> sqlite3.Connection:
        if "immutable" not in place:
            raise sqlite3.OperationalError("unable to open database file")
        opened: sqlite3.Connection = connect(place, **options)
        return opened

    monkeypatch.setattr(sqlite3, "connect", refuse)
    monkeypatch.setattr(os, "access", lambda place, mode, **options: mode != os.W_OK)
    with open_database(path) as db:
        assert db.execute("SELECT count(*) FROM traces").fetchone() == (0,)
    assert sorted(path.parent.iterdir()) == before


def test_a_name_with_special_characters_is_a_name(tmp_path: Path) -> None:
    """Special characters of URIs in a file's name are part of the name."""
    path = tmp_path / "a?b#c%20 d.db"
    Store(path).close()
    with open_database(path) as db:
        assert db.execute("SELECT count(*) FROM traces").fetchone() == (0,)


def test_an_export_that_waits_holds_no_snapshot(path: Path) -> None:
    """While the reader of an export does not read on, the log beside the file can be emptied."""
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", [span(trace_id(number), 1) for number in range(20)])])
        with open_database(path, snapshot=False) as db:
            pieces = read_pieces(SqliteStore(db), TreeFilter())
            next(pieces)
            store.store([message("bank", [span(trace_id(99), 1)], 2)])
            store.checkpoint(0)
            assert read_sizes(db)[1] == 0
            assert len(list(pieces)) == 19


def test_a_tree_is_drawn_without_a_snapshot(path: Path) -> None:
    """Once a tree is read, the log beside the file can be emptied."""
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", [span(trace_id(1), 1)])])
        with open_database(path) as db:
            read_tree(SqliteStore(db), trace_id(1), NOON)
            store.store([message("bank", [span(trace_id(99), 1)], 2)])
            store.checkpoint(0)
            assert read_sizes(db)[1] == 0


def test_a_snapshot_keeps_the_log(path: Path) -> None:
    """While a snapshot is held, the log cannot be emptied, and its size is told."""
    with Store(path, clock_ns=lambda: NOON) as store, open_database(path) as db:
        assert db.execute("SELECT count(*) FROM spans").fetchone() == (0,)
        store.store([message("shop", [span(trace_id(1), 1)])])
        store.checkpoint(0)
        file_bytes, log_bytes = read_sizes(db)
        assert file_bytes > 4096
        assert log_bytes == Path(f"{path}-wal").stat().st_size > 0
