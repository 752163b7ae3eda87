"""Figures of a service that take more than their share of a file that is full.

One idea: figures outlive the traces that they were counted from, and a service that makes up times makes rows
for each span. Deleting traces would not make room then, but take those of all other services. So the rows are
counted by service, and the service that has the most loses its oldest days, if these are far too many.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.retired import retire_figures

#: Bytes of a row of figures, most of which have few durations; and the part of a size limit above which a
#: service's rows are deleted, down to half of it.
ROW_BYTES, SHARE = 100, 0.25
#: Rows counted, and rows deleted, in one piece.
COUNTED, DELETED = 20_000, 5_000


class _Table(NamedTuple):
    """Table of figures.

    Attributes:
        name: of the table.
        column: third of its key, behind resolution and bucket: what the figures are of.
        more: further columns of the key.
        services: query of all values of the column, each with its service.
    """

    name: str
    column: str
    more: tuple[str, ...]
    services: str

    @property
    def key(self) -> str:
        """Columns of the primary key."""
        return ", ".join(("resolution_s", "bucket", self.column, *self.more))

    @property
    def following(self) -> str:
        """Query of the next keys behind one."""
        marks = ", ".join("?" * (3 + len(self.more)))
        return (
            f"SELECT {self.key} FROM {self.name} WHERE ({self.key}) > ({marks}) ORDER BY {self.key} LIMIT ?"
        )

    @property
    def of_service(self) -> str:
        """Condition of a service."""
        return f"{self.column} IN (SELECT id FROM ({self.services}) WHERE service = ?)"

    @property
    def days(self) -> str:
        """Query of the days in which a service has figures."""
        return (
            f"SELECT DISTINCT bucket FROM {self.name} WHERE resolution_s = ? AND {self.of_service}"
            " ORDER BY bucket LIMIT 1000"
        )

    @property
    def old(self) -> str:
        """Condition of some figures of a service, the same ones for each statement."""
        return (
            f"WHERE resolution_s = ? AND bucket >= ? AND bucket < ? AND {self.of_service}"
            f" ORDER BY {self.key} LIMIT ?"
        )

    @property
    def deletion(self) -> str:
        """Statement that deletes them."""
        return (
            f"DELETE FROM {self.name} WHERE ({self.key}) IN (SELECT {self.key} FROM {self.name} {self.old})"
        )


_OF_METHODS = _Table("method_figures", "method", (), "SELECT id, service FROM methods")
#: A path's figures are of the service of its last step, whose spans they count.
_TABLES = (
    _OF_METHODS,
    _Table(
        "path_figures",
        "path",
        ("version", "own_version", "failed"),
        "SELECT paths.id, service FROM paths JOIN methods ON methods.id = method",
    ),
)


def prune_figures(store: Store, max_bytes: int) -> Iterator[None]:
    """Delete the oldest days of the service that has the most figures, if it has too many of a full file.

    One piece per iteration. A day is deleted in all resolutions, because readers subtract hours from days and
    minutes from hours.
    """
    most = int(SHARE * max_bytes / ROW_BYTES)
    for table in _TABLES:
        numbers: Counter[int] = Counter()
        last: tuple[object, ...] = (0, 0, 0, *[""] * len(table.more))
        while rows := store.read(table.following, *last, COUNTED):
            numbers.update(row[2] for row in rows)
            last = rows[-1]
            yield
        of_service: Counter[str] = Counter()
        for each, service in store.read(table.services):
            of_service[service] += numbers[each]
        for service, number in of_service.most_common(1):
            if number > most:
                yield from _delete(store, table, service, number - most // 2)


def _delete(store: Store, table: _Table, service: str, wanted: int) -> Iterator[None]:
    """Delete rows of a service, at least the number wanted, the oldest days first."""
    day_s = RESOLUTIONS_S[-1]
    while wanted > 0 and (days := store.read(table.days, day_s, service)):
        for (day,) in days:
            # Days first: a query starts at the first day that has figures.
            for resolution_s in reversed(RESOLUTIONS_S):
                first, end = (each * day_s // resolution_s for each in (day, day + 1))
                values = (resolution_s, first, end, service, DELETED)
                deleted = DELETED
                while deleted == DELETED:
                    with store.transaction() as db:
                        if table is _OF_METHODS and resolution_s == day_s:
                            retire_figures(db, table.old, values)
                        deleted = db.execute(table.deletion, values).rowcount
                    wanted -= deleted
                    store.forget(table.name)
                    yield
            if wanted <= 0:
                return
