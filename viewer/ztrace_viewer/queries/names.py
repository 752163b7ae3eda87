"""Services and their operations.

One idea: ``methods`` has every name that ever occurred, once for each kind.
"""

import sqlite3
from typing import NamedTuple


class Operation(NamedTuple):
    """A name under which a service made spans."""

    name: str
    kind: str


def list_services(db: sqlite3.Connection) -> list[str]:
    """Return the services, sorted."""
    return [service for (service,) in db.execute("SELECT DISTINCT service FROM methods ORDER BY service")]


def list_operations(db: sqlite3.Connection, service: str, kind: str = "") -> list[Operation]:
    """Return a service's operations, sorted, all of them or those of one kind."""
    rows = db.execute(
        "SELECT name, kind FROM methods WHERE service = ? AND ? IN ('', kind) ORDER BY name, kind",
        (service, kind),
    )
    return [Operation(*row) for row in rows]
