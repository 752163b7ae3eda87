"""Selection of a time, a service and a method, shared by all queries."""

import sqlite3
from dataclasses import dataclass

from ztrace.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Selection:
    """Part of the database that a query reads; None selects everything.

    Attributes:
        since_ns: Unix, inclusive.
        until_ns: Unix, exclusive.
        service: a service's exact name.
        method: a span's exact name.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    service: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.since_ns is not None and self.until_ns is not None and self.since_ns >= self.until_ns:
            raise SettingsError("--since is not before --until", hint="5m for --since means five minutes ago")

    @property
    def in_time(self) -> bool:
        """Presence of a bound in time."""
        return self.since_ns is not None or self.until_ns is not None


#: Selection of everything.
EVERYTHING = Selection()


def match_names(selection: Selection, service: str, name: str) -> tuple[list[str], list[object]]:
    """Return SQL conditions on two columns for the selected service and method, and their values."""
    wanted = [(service, selection.service), (name, selection.method)]
    conditions = [f"{column} = ?" for column, value in wanted if value is not None]
    return conditions, [value for _, value in wanted if value is not None]


def find_methods(db: sqlite3.Connection, selection: Selection) -> list[int] | None:
    """Return the ids of the selected methods, None if neither service nor method is selected."""
    conditions, values = match_names(selection, "service", "name")
    if not conditions:
        return None
    return [
        method for (method,) in db.execute(f"SELECT id FROM methods WHERE {' AND '.join(conditions)}", values)
    ]
