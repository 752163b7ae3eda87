"""Rows of the journal, as blocks for ClickHouse.

One idea: methods and instances have numbers of their own in each journal, and hashes in ClickHouse, where
rows of several journals are joined. Everything else is sent as it is.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from ztrace_collector.clickhouse.mirrored import MIRRORED, Mirrored
from ztrace_collector.clickhouse.native import FIXED, empty_row, encode, make_block, transport_type
from ztrace_collector.sealing.reading import read_ids

#: Spans of a block, at most, and rows of other tables that are read at a time: larger blocks cost the engine
#: less, and the process memory.
MAX_SPANS, MAX_CHANGES = 65_536, 4_000
#: Bytes of text after which a block ends.
MAX_BYTES = 32_000_000

#: Columns of ``spans``, in the order of both SELECT and INSERT, with the types in which they are sent.
SPAN_COLUMNS = (
    ("trace_id", "FixedString(16)"),
    ("span_id", "FixedString(8)"),
    ("parent_id", "FixedString(8)"),
    ("method", "UInt64"),
    ("instance", "UInt64"),
    ("start_ns", "Int64"),
    ("duration_ns", "Int64"),
    ("self_ns", "Nullable(Int64)"),
    ("cpu_ns", "Nullable(Int64)"),
    ("lane", "Nullable(Int64)"),
    ("status", "UInt8"),
    ("attributes", "String"),
    ("links", "String"),
    ("details", "String"),
)
_SPANS = f"SELECT id, {', '.join(name for name, _ in SPAN_COLUMNS)} FROM {{}} AS spans"
#: Positions of columns behind the id, and of texts among those that are sent.
_METHOD, _INSTANCE, _TEXTS = 4, 5, (11, 12, 13)
_CHANGES = "SELECT id, source, key, deleted FROM changes WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_TABLES = {table.name: table for table in MIRRORED}
#: Columns with numbers of methods and of instances, beside ``id`` of ``instances``.
_OF_METHODS, _OF_INSTANCES = ("method",), ("instance",)


def hash_id(*parts: str) -> int:
    """Return the number in ClickHouse of a method (service, name, kind) or an instance (its id)."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


class _Hashes(dict[int, int]):
    """Hashes by number, read from the journal as they are needed; 0 for a number without a row."""

    def __init__(self, db: sqlite3.Connection, query: str) -> None:
        super().__init__()
        self._db = db
        self._query = query

    def __missing__(self, number: int) -> int:
        row = self._db.execute(self._query, (number,)).fetchone()
        self[number] = 0 if row is None else hash_id(*row)
        return self[number]


class Block(NamedTuple):
    """Rows for one table.

    Attributes:
        table: name of the table.
        columns: names of the block's columns.
        data: the block in the format Native.
    """

    table: str
    columns: Sequence[str]
    data: bytes


class Spans(NamedTuple):
    """Encoded spans, whose time of arrival is decided later.

    Attributes:
        columns: name, type and parts of each column.
        number: number of spans.
        last: id of the last one.
    """

    columns: Sequence[tuple[str, str, Sequence[bytes]]]
    number: int
    last: int

    def arrive(self, journal: str, arrived_ms: int) -> Block:
        """Return the block of spans that arrive from a journal at a time, Unix."""
        kind = "DateTime64(3, 'UTC')"
        columns = [
            *self.columns,
            ("journal", "String", [encode("String", [journal])[0] * self.number]),
            ("arrived", kind, encode(kind, [arrived_ms] * self.number)),
        ]
        return Block("spans", [name for name, _, _ in columns], make_block(columns, self.number))


class Journal:
    """The collector's file, for reading.

    Every method reads one state of the file if the caller has begun a transaction.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._methods = _Hashes(db, "SELECT service, name, kind FROM methods WHERE id = ?")
        self._instances = _Hashes(db, "SELECT instance_id FROM instances WHERE id = ?")
        self._selects = {table.name: _select(table) for table in MIRRORED}

    def read_methods(self, after: int) -> tuple[Block | None, int]:
        """Return the methods after a number, and the last number."""
        query = "SELECT id, service, name, kind FROM methods WHERE id > ? ORDER BY id"
        rows = self._db.execute(query, (after,)).fetchall()
        if not rows:
            return None, after
        numbers, services, names, kinds = zip(*rows, strict=True)
        hashes = [self._methods[number] for number in numbers]
        columns = (("id", "UInt64", hashes), *_as_texts(service=services, name=names, kind=kinds))
        return _make("methods", columns), numbers[-1]

    def read_spans(self, place: int, last_id: int, *, is_bounded: bool) -> Spans | None:
        """Return the spans after a position, up to an id; None if there are none.

        Args:
            place: the position.
            last_id: id of the last span to return.
            is_bounded: end earlier if there are too many for a block, or if they are too large.
        """
        # Numbers of instances are given again after a deletion.
        self._instances.clear()
        limit = MAX_SPANS if is_bounded else last_id - place
        found = read_ids(self._db, lambda source: _SPANS.format(source), place, last_id, limit)
        pieces: list[list[tuple[bytes, ...]]] = [[] for _ in SPAN_COLUMNS]
        count = size = last = 0
        # Piece by piece, so that the next one reuses the memory while it is in the processor's cache.
        for rows in found:
            values: list[Sequence[Any]] = list(zip(*rows, strict=True))
            values[_METHOD] = [self._methods[number] for number in values[_METHOD]]
            values[_INSTANCE] = [self._instances[number] for number in values[_INSTANCE]]
            for (_, kind), column, parts in zip(SPAN_COLUMNS, values[1:], pieces, strict=True):
                parts.append(encode(kind, column))
            count, last = count + len(rows), rows[-1][0]
            size += sum([len(pieces[at][-1][0]) for at in _TEXTS])
            if is_bounded and size > MAX_BYTES:
                break
        if not count:
            return None
        columns = [
            (name, kind, [b"".join(each) for each in zip(*parts, strict=True)])
            for (name, kind), parts in zip(SPAN_COLUMNS, pieces, strict=True)
        ]
        return Spans(columns, count, last)

    def read_changes(self, after: int, last: int, journal: str, now_s: int) -> tuple[list[Block], int]:
        """Return the rows that changed, by table, and the id of the last change among them.

        Args:
            after: id of the last change that was read before.
            last: id of the last change to read.
            journal: the journal's own id.
            now_s: the time of sending, Unix.
        """
        self._instances.clear()
        changes = self._db.execute(_CHANGES, (after, last, MAX_CHANGES)).fetchall()
        rows: dict[str, list[tuple[Any, ...]]] = {}
        for revision, source, key, deleted in changes:
            table = _TABLES.get(source)
            if table is None:
                continue  # Noted by another version of ztrace.
            row = self._delete(table, key) if deleted else self._read(table, key)
            if row is not None:
                rows.setdefault(source, []).append((*row, journal, revision, deleted, now_s))
        blocks = [self._make_copies(_TABLES[source], found) for source, found in rows.items()]
        return blocks, changes[-1][0] if changes else last

    def _read(self, table: Mirrored, key: object) -> tuple[Any, ...] | None:
        """Return a row as it is now, None if retention has deleted it."""
        row: tuple[Any, ...] | None = self._db.execute(
            self._selects[table.name], _split_key(table, key)
        ).fetchone()
        return row

    def _delete(self, table: Mirrored, key: object) -> tuple[Any, ...]:
        """Return a row that deletes another: only its key matters."""
        row = empty_row({name: transport_type(kind) for name, kind in table.columns})
        if table.deleted_key:
            return tuple(
                (row | dict(zip(dict(table.deleted_key), json.loads(str(key)), strict=True))).values()
            )
        row |= dict(zip(table.key, _split_key(table, key), strict=True))
        row |= {name: row[source[2:]] for name, source in table.sources if source[2:] in table.key}
        return tuple(row.values())

    def _make_copies(self, table: Mirrored, rows: list[tuple[Any, ...]]) -> Block:
        columns: list[tuple[str, str, Sequence[Any]]] = []
        kinds = (
            *table.columns,
            ("journal", "String"),
            ("revision", "UInt64"),
            ("deleted", "UInt8"),
            ("arrived", "DateTime"),
        )
        for (name, kind), values in zip(kinds, zip(*rows, strict=True), strict=True):
            of: Callable[[int], int] | None = None
            if name in _OF_METHODS:
                of = self._methods.__getitem__
            elif name in _OF_INSTANCES or (table.name, name) == ("instances", "id"):
                of = self._instances.__getitem__
            columns.append((name, transport_type(kind), values if of is None else list(map(of, values))))
        return _make(table.name, columns)


def _make(table: str, columns: Sequence[tuple[str, str, Sequence[Any]]]) -> Block:
    encoded = [(name, kind, encode(kind, values)) for name, kind, values in columns]
    return Block(table, [name for name, _, _ in columns], make_block(encoded, len(columns[0][2])))


def _as_texts(**columns: Iterable[str]) -> list[tuple[str, str, Sequence[str]]]:
    return [(name, "String", list(values)) for name, values in columns.items()]


def _select(table: Mirrored) -> str:
    sources = dict(table.sources)
    columns = ", ".join(sources.get(name, f"t.{name}") for name, _ in table.columns)
    condition = " AND ".join(f"t.{name} = ?" for name in table.key)
    return f"SELECT {columns} FROM {table.source} AS t {table.joined} WHERE {condition}"


def _split_key(table: Mirrored, key: object) -> list[object]:
    """Return the values of a key as `ztrace_collector.clickhouse.changes` notes it."""
    if len(table.key) == 1:
        return [key]
    kinds = dict(table.columns)
    parts = json.loads(str(key))
    return [
        bytes.fromhex(part) if kinds[name] in FIXED else part
        for name, part in zip(table.key, parts, strict=True)
    ]
