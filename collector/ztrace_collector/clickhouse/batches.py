"""Batches of a task: each step's outcome, written ahead as one row and carried out afterwards.

One idea: a batch is inserted with a deduplication token that is its number. Of two processes that insert the
same number, the engine takes the first one's row, so all agree what a batch is, however they overlap. Its
outcome is carried out by inserts whose tokens name the batch, so carrying it out again changes nothing; a
process begins with that for the last batch, which another one may have left halfway.
"""

import uuid
from typing import TYPE_CHECKING, NamedTuple

from ztrace_collector.clickhouse.engine import insert_block
from ztrace_collector.clickhouse.native import encode, make_block

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Table of batches: it keeps the last one of each task.
BATCHES = "batches"
_COLUMNS = (("task", "String"), ("number", "UInt64"), ("id", "String"), ("content", "String"))
_LAST = f"SELECT number, id, content FROM {BATCHES} WHERE task = {{task:String}} ORDER BY number DESC LIMIT 1"


class Batch(NamedTuple):
    """Outcome of a step.

    Attributes:
        number: 1 for the first of a task.
        id: random, for the tokens of what is inserted because of it.
        content: the outcome, as the task writes it.
    """

    number: int
    id: str
    content: str


def read_last(client: "Client", task: str) -> Batch | None:
    """Return the last batch of a task, None before the first."""
    rows = client.query(_LAST, {"task": task}).result_rows
    return Batch(*rows[0]) if rows else None


def write_ahead(client: "Client", task: str, number: int, content: str) -> Batch | None:
    """Write the batch with a number; return None if it is another process's.

    The caller must have carried out the batch before this one. After None it starts over from `read_last`.
    """
    batch = Batch(number, uuid.uuid4().hex, content)
    values = (task, *batch)
    columns = [
        (name, kind, encode(kind, [value])) for (name, kind), value in zip(_COLUMNS, values, strict=True)
    ]
    names = [name for name, _, _ in columns]
    insert_block(client, BATCHES, names, make_block(columns, 1), f"{task}:{number}")
    # Another process may have written this one, or have gone on to the next.
    found = read_last(client, task)
    return batch if found is not None and found.id == batch.id else None
