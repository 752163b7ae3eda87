"""Processes that made spans."""

from typing import NamedTuple

from ztrace_viewer.queries.rows import name_columns, read_one
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore


class Instance(NamedTuple):
    """A row of ``instances``: one process of a service.

    Attributes:
        instance_id: its incarnation, in hex.
        version: version of its service; empty if it is unknown.
        resource: JSON object with the attributes of an OpenTelemetry resource; None for ztrace's own.
    """

    instance_id: str
    service: str
    host: str
    pid: int
    version: str
    resource: str | None


_INSTANCE = f"SELECT {name_columns(Instance)} FROM instances WHERE id = ?"


def read_instance(store: SqliteStore, key: int) -> Instance | None:
    """Return a process by its key in ``spans.instance``, None if it has expired."""
    return read_one(store.db, Instance, _INSTANCE, (key,))
