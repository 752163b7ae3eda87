"""Rows of ClickHouse as the rows of the answers.

One idea: ids of the store itself go into a statement as numbers and hexadecimal texts, and everything that
people or programs wrote goes into parameters, which the server binds.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.answers import Method

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Characters of a query up to which the server accepts all; it refuses longer ones by default.
_LONG = 100_000

#: Ids that are listed one by one.
FEW = 16

_R = TypeVar("_R", bound=NamedTuple)


class Reader:
    """Connection of a store, for reading.

    Attributes:
        client: the connection.
        methods: methods by their ids, as far as they were read. An id is a hash of what it stands for, so
            they stay true for as long as the connection is kept.
        deadline: end of the time that questions may take; None for the server's own limit.
    """

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.methods: dict[int, Method] = {}
        self.deadline: Deadline | None = None

    def query(self, text: str, values: Mapping[str, object] | None = None) -> Sequence[tuple[Any, ...]]:
        """Run a query and return its rows.

        Raises:
            TooLong: the deadline has passed.
        """
        settings = {}
        if len(text) > _LONG:
            settings["max_query_size"] = 2 * len(text)
        if self.deadline is not None:
            if self.deadline.is_over():
                raise self.deadline.explain()
            settings["max_execution_time"] = ceil(self.deadline.left_s)
        try:
            rows: Sequence[Any] = self.client.query(
                text, parameters=dict(values or {}), settings=settings
            ).result_rows
        except Exception as error:
            if self.deadline is not None and self.deadline.is_over():
                raise self.deadline.explain() from error
            raise
        return rows

    def stream(self, text: str) -> Iterator[tuple[Any, ...]]:
        """Run a query and yield its rows block by block, without those of the whole answer in memory."""
        with self.client.query_rows_stream(text) as rows:
            yield from rows

    def rows(
        self, row: type[_R], source: str, values: Mapping[str, object] | None = None, /, **columns: str
    ) -> list[_R]:
        """Return rows of a type.

        Args:
            row: the type.
            source: the statement behind the columns, from FROM on.
            values: parameters of the statement.
            columns: expressions of fields that are not columns of the same name.
        """
        named = ", ".join(columns.get(name, name) for name in row._fields)
        return [row._make(each) for each in self.query(f"SELECT {named} {source}", values)]


def write_id(value: bytes) -> str:
    """Return the SQL of a trace id or a span id."""
    return f"x'{value.hex()}'"


def write_ids(values: Iterable[bytes]) -> str:
    """Return the SQL behind IN for ids of one kind, of which there may be none."""
    ids = [*values]
    if len(ids) <= FEW:
        return f"({', '.join(map(write_id, ids)) or 'NULL'})"
    # As one text, since the server takes up to half a millisecond for each call of a function in a list.
    among = ",".join([each.hex() for each in ids])
    return f"(SELECT toFixedString(unhex(arrayJoin(splitByChar(',', '{among}'))), {len(ids[0])}))"


def write_numbers(values: Collection[int]) -> str:
    """Return the SQL of a list of numbers, which may be empty."""
    return f"({', '.join(map(str, sorted(values))) or 'NULL'})"


def or_none(value: bytes) -> bytes | None:
    """Return an id, None for zeros."""
    return value if any(value) else None
