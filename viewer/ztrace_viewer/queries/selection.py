"""What a question is about: a stretch of time, a service, a method.

One idea: every query takes the same `Selection`, so an option means the same everywhere.
"""

import sqlite3
from dataclasses import dataclass

from ztrace.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of the database that is asked about; None means all.

    Attributes:
        since_ns: Unix, included.
        until_ns: Unix, excluded.
        service: a service's exact name.
        method: a span's exact name.
    """

    since_ns: int | None = None
    until_ns: int | None = None
    service: str | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.since_ns is not None and self.until_ns is not None and self.since_ns >= self.until_ns:
            raise SettingsError("--since is not before --until", hint="5m as --since is five minutes ago")

    @property
    def in_time(self) -> bool:
        """Whether a stretch of time was asked for."""
        return self.since_ns is not None or self.until_ns is not None


#: Everything stored.
EVERYTHING = Selection()


def match_names(selection: Selection, service: str, name: str) -> tuple[list[str], list[object]]:
    """Return SQL conditions and their values that hold two columns to the selection's service and method."""
    wanted = [(service, selection.service), (name, selection.method)]
    conditions = [f"{column} = ?" for column, value in wanted if value is not None]
    return conditions, [value for _, value in wanted if value is not None]


def find_methods(db: sqlite3.Connection, selection: Selection) -> list[int] | None:
    """Return the ids of the methods that match, or None when the selection leaves them open."""
    conditions, values = match_names(selection, "service", "name")
    if not conditions:
        return None
    return [
        method for (method,) in db.execute(f"SELECT id FROM methods WHERE {' AND '.join(conditions)}", values)
    ]
