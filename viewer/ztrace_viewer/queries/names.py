"""Names of services and methods.

One idea: ``methods`` holds every name that ever occurred, once for each kind, so no span is read.
"""

import sqlite3
from collections.abc import Collection
from typing import NamedTuple

from ztrace.errors import quote
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.selection import Selection


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


#: Names listed in a message.
_NAMED = 5


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


def explain_unknown(db: sqlite3.Connection, selection: Selection) -> tuple[str, str] | None:
    """Return what is wrong with a selected service or method, and a hint; None if both are known."""
    methods = read_methods(db).values()
    services = {method.service for method in methods}
    if selection.service is not None and selection.service not in services:
        return f"no service {quote(selection.service)}", suggest(selection.service, services)
    names = {each.name for each in methods if selection.service in (None, each.service)}
    if selection.method is not None and selection.method not in names:
        whose = "" if selection.service is None else f" of {selection.service}"
        return f"no method {quote(selection.method)}{whose}", suggest(selection.method, names)
    return None


def suggest(name: str, known: Collection[str]) -> str:
    """Return a hint with the names nearest to an unknown one, or with the first ones if none is near."""
    from difflib import get_close_matches

    folded = {each.casefold(): each for each in sorted(known)}
    if near := [folded[each] for each in get_close_matches(name.casefold(), folded, _NAMED)]:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"there are {', '.join(sorted(known)[:_NAMED])}{more}" if known else ""
