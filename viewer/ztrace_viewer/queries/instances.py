"""Processes that made spans."""

import sqlite3
from typing import NamedTuple

from ztrace_viewer.queries.rows import name_columns, read_one


class Instance(NamedTuple):
    """A row of ``instances``: one process of a service."""

    service: str
    host: str
    pid: int


_INSTANCE = f"SELECT {name_columns(Instance)} FROM instances WHERE id = ?"


def read_instance(db: sqlite3.Connection, key: int) -> Instance | None:
    """Return a process by its key in ``spans.instance``, None if it has expired."""
    return read_one(db, Instance, _INSTANCE, (key,))
