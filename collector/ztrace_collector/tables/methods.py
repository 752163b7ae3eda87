"""Names, services and kinds as numbers: the table ``methods``, which is bounded.

One idea: a dictionary that queries the database only for missing keys, so a known method costs one lookup.
Beyond a thousand names, those of a service share one number, and each such span keeps its own name as an
attribute: a new name for every call would make a row for every span in each of the summary tables.
"""

import json
import sqlite3
from itertools import repeat

from ztrace.records import KIND_NAMES
from ztrace_collector.checking.columns import Columns
from ztrace_collector.refusals import TOO_MANY_NAMES, Refusals

#: Maximum of names of a service, and of services: more than anyone reads, and each costs a row a minute.
MAX_METHODS, MAX_SERVICES = 1_000, 1_000
#: Name, or service, that all others share.
OTHER = "(other)"
#: Attributes with the own name and service of a span whose method is shared.
NAME_ATTRIBUTE, SERVICE_ATTRIBUTE = "ztrace.name", "ztrace.service"
#: Methods kept in memory, and services whose names are kept.
SIZE, MAX_NAMED = 50_000, 64


class Methods(dict[tuple[str, str, int], int]):
    """Ids of methods by (service, name, number of the kind); looking up a missing one inserts its row."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db
        #: Services in the table, and names of the services that had a new one lately.
        self._services: set[str] = set()
        self._names: dict[str, set[str]] = {}
        #: A method looked up since the last `number` has a shared id.
        self._has_shared = False
        self.forget()

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self.clear()
        self._names.clear()
        self._services = {service for (service,) in self._db.execute("SELECT DISTINCT service FROM methods")}

    def trim(self) -> None:
        """Bound the memory: methods are read again as they are used."""
        if len(self) > SIZE:
            self.clear()
        if len(self._names) > MAX_NAMED:
            self._names.clear()

    def number(self, service: str, columns: Columns, refusals: Refusals) -> list[int]:
        """Return the ids of a batch's methods.

        Spans whose name or service exceeds the limits get a shared id, and keep their own as an attribute.
        """
        self._has_shared = False
        methods = list(map(self.__getitem__, zip(repeat(service), columns.name, columns.kind, strict=False)))
        if self._has_shared:
            self._keep_names(service, columns, refusals)
        return methods

    def __missing__(self, key: tuple[str, str, int]) -> int:
        service, name, kind = key
        row = *self._admit(service, name), kind
        if row == key:
            self[key] = self._insert(*row)
            return self[key]
        # Not kept under its own name, of which there may be any number.
        self._has_shared = True
        method = self.get(row)
        if method is None:
            method = self[row] = self._insert(*row)
        return method

    def _admit(self, service: str, name: str) -> tuple[str, str]:
        """Return the service and name under which a span is counted, and record both as used."""
        if service not in self._services:
            if len(self._services) >= MAX_SERVICES:
                service = OTHER
            self._services.add(service)
        names = self._names.get(service)
        if names is None:
            rows = self._db.execute("SELECT DISTINCT name FROM methods WHERE service = ?", (service,))
            names = self._names[service] = {row[0] for row in rows} - {OTHER}
        if name not in names:
            if len(names) >= MAX_METHODS:
                return service, OTHER
            names.add(name)
        return service, name

    def _insert(self, service: str, name: str, kind: int) -> int:
        row = (service, name, KIND_NAMES[kind])
        self._db.execute("INSERT OR IGNORE INTO methods (service, name, kind) VALUES (?, ?, ?)", row)
        (method,) = self._db.execute(
            "SELECT id FROM methods WHERE service = ? AND name = ? AND kind = ?", row
        ).fetchone()
        return int(method)

    def _keep_names(self, service: str, columns: Columns, refusals: Refusals) -> None:
        """Add the own names to the attributes of spans with a shared method."""
        attributes = list(columns.attributes)
        for position, name in enumerate(columns.name):
            counted_service, counted_name = self._admit(service, name)
            own = {}
            if counted_name != name:
                own[NAME_ATTRIBUTE] = name
                refusals.note(TOO_MANY_NAMES, f"{service} has more than {MAX_METHODS:,} names: {name}")
            if counted_service != service:
                own[SERVICE_ATTRIBUTE] = service
                refusals.note(TOO_MANY_NAMES, f"more than {MAX_SERVICES:,} services: {service}")
            if own:
                attributes[position] = _with(attributes[position], own)
        columns.attributes = attributes


def _with(attributes: str | None, own: dict[str, str]) -> str:
    """Return a JSON object of attributes with others inserted at its start."""
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    return text if attributes in (None, "{}") else f"{text[:-1]},{attributes[1:]}"
