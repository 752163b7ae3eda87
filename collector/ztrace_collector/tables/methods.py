"""Names, services and kinds as numbers: the table ``methods``, which has a bound.

One idea: a dictionary that asks the database only for what it does not hold, so that a known method costs one
look-up. What a service makes up beyond a thousand names shares one, and each such span keeps its own name as
an attribute: a name for every call would make a row of every span in each of the tables that sum up.
"""

import json
import sqlite3
from itertools import repeat

from ztrace.records import KIND_NAMES
from ztrace_collector.checking.columns import Columns
from ztrace_collector.refusals import TOO_MANY_NAMES, Refusals

#: Names of a service, and services: more than a person reads, and what each costs is a row a minute.
MAX_METHODS, MAX_SERVICES = 1_000, 1_000
#: The name, or the service, that all others share.
OTHER = "(other)"
#: The attributes that keep a span's own name and service then.
NAME_ATTRIBUTE, SERVICE_ATTRIBUTE = "ztrace.name", "ztrace.service"
#: Methods kept in memory, and services whose names are.
SIZE, MAX_NAMED = 50_000, 64


class Methods(dict[tuple[str, str, int], int]):
    """Ids of methods by (service, name, kind's number); a new one gets its row when it is first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db
        #: Services in the table, and the names of those that had a new one lately.
        self._services: set[str] = set()
        self._names: dict[str, set[str]] = {}
        #: Some methods asked for since the last `number` have another's id.
        self._has_shared = False
        self.forget()

    def forget(self) -> None:
        """Drop what is in memory: the transaction it belongs to is rolled back."""
        self.clear()
        self._names.clear()
        self._services = {service for (service,) in self._db.execute("SELECT DISTINCT service FROM methods")}

    def trim(self) -> None:
        """Start over if there are too many: they come back as they are used."""
        if len(self) > SIZE:
            self.clear()
        if len(self._names) > MAX_NAMED:
            self._names.clear()

    def number(self, service: str, columns: Columns, refusals: Refusals) -> list[int]:
        """Return the ids of a batch's methods.

        Spans with a name, or a service, too many get a shared id, and their own as an attribute.
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
        # Not kept under its own name: there is no end of those.
        self._has_shared = True
        method = self.get(row)
        if method is None:
            method = self[row] = self._insert(*row)
        return method

    def _admit(self, service: str, name: str) -> tuple[str, str]:
        """Return under which service and name a span is counted; they count as used from now on."""
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
        """Put their own names into the attributes of the spans that have a shared method."""
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
    """Return a JSON object of attributes with some more at its beginning."""
    text = json.dumps(own, ensure_ascii=False, separators=(",", ":"))
    return text if attributes in (None, "{}") else f"{text[:-1]},{attributes[1:]}"
