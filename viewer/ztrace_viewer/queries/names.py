"""Names of services and methods.

One idea: ``methods`` holds every name that ever occurred, once for each kind, so no span is read.
"""

import sqlite3
from typing import NamedTuple

from ztrace_viewer.queries.rows import name_columns, read


class Method(NamedTuple):
    """A row of ``methods``: a name under which a service made spans of one kind."""

    id: int
    service: str
    name: str
    kind: str


class Operation(NamedTuple):
    """A method of a service that is known from the context."""

    name: str
    kind: str


#: Producers and consumers are displayed with a verb before their name, and can be found by that text too.
_MATCHING = """
SELECT id FROM methods WHERE (:service IS NULL OR service = :service) AND (
    :name IS NULL OR name = :name OR (kind = 'producer' AND 'send ' || name = :name)
    OR (kind = 'consumer' AND 'process ' || name = :name))
"""


def read_methods(db: sqlite3.Connection) -> dict[int, Method]:
    """Return every method by its id."""
    return {method.id: method for method in read(db, Method, f"SELECT {name_columns(Method)} FROM methods")}


def find_operations(db: sqlite3.Connection, service: str | None, name: str | None) -> frozenset[int]:
    """Return the ids of the methods with a service and a displayed name; None matches any."""
    return frozenset(method for (method,) in db.execute(_MATCHING, {"service": service, "name": name}))


def list_services(db: sqlite3.Connection) -> list[str]:
    """Return the services, sorted."""
    return [service for (service,) in db.execute("SELECT DISTINCT service FROM methods ORDER BY service")]


def list_operations(db: sqlite3.Connection, service: str, kind: str = "") -> list[Operation]:
    """Return a service's operations, sorted: all, or those of one kind."""
    query = (
        f"SELECT {name_columns(Operation)} FROM methods"
        " WHERE service = ? AND ? IN ('', kind) ORDER BY name, kind"
    )
    return list(read(db, Operation, query, (service, kind)))
