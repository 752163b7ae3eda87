"""Rows of queries as named tuples.

One idea: a row type names its columns once. The statement's columns derive from the type, and a result is
compared with it by name before the first row is read, so no value lands in another column's field.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

#: Parameters of a statement, by position or by name.
Values: TypeAlias = Sequence[object] | Mapping[str, object]


_R = TypeVar("_R", bound=NamedTuple)
_S = TypeVar("_S", bound=NamedTuple)


def name_columns(row: type[NamedTuple], **sources: str) -> str:
    """Return the columns of a row type, as they stand after SELECT.

    Args:
        row: the type; a field without a source is read from the column of the same name.
        sources: SQL expressions of fields.
    """
    return ", ".join(f"{sources[name]} AS {name}" if name in sources else name for name in row._fields)


def read(db: sqlite3.Connection, row: type[_R], query: str, values: Values = ()) -> Iterator[_R]:
    """Execute a query and return its rows, read while they are iterated."""
    cursor = db.execute(query, values)
    _check(cursor, row._fields)
    # As `_make`, whose check of the length is done, in a third of its time.
    make: Callable[[Iterable[Any]], _R] = partial(tuple.__new__, row)
    return map(make, cursor)


def read_one(db: sqlite3.Connection, row: type[_R], query: str, values: Values = ()) -> _R | None:
    """Execute a query and return its first row, None if it has none."""
    return next(read(db, row, query, values), None)


def read_pairs(
    db: sqlite3.Connection, left: type[_R], right: type[_S], query: str, values: Values = ()
) -> Iterator[tuple[_R, _S]]:
    """Execute a query with the columns of two row types, one after the other, and yield both rows."""
    cursor = db.execute(query, values)
    _check(cursor, left._fields + right._fields)
    width = len(left._fields)
    for row in cursor:
        yield left._make(row[:width]), right._make(row[width:])


def _check(cursor: sqlite3.Cursor, fields: tuple[str, ...]) -> None:
    columns = tuple(column[0] for column in cursor.description)
    assert columns == fields, f"columns {columns} for the fields {fields}"
