"""Figures of a service that take more than their share of a file that is full.

One idea: figures outlive the traces that they were counted from, and a service that makes up times makes rows
for each span. Deleting traces would not make room then, but take those of all other services. So the rows are
counted by service, and the service that has the most loses its oldest days, if these are far too many.
"""

from collections import Counter
from collections.abc import Iterator

from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.retired import retire_figures

#: Bytes of a row of figures, most of which have few durations; and the part of a size limit above which a
#: service's rows are deleted, down to half of it.
ROW_BYTES, SHARE = 100, 0.25
#: Rows counted, and rows deleted, in one piece.
COUNTED, DELETED = 20_000, 5_000

_NEXT = (
    "SELECT resolution_s, bucket, method FROM method_figures WHERE (resolution_s, bucket, method) > (?, ?, ?)"
    " ORDER BY resolution_s, bucket, method LIMIT ?"
)
_OF_SERVICE = "method IN (SELECT id FROM methods WHERE service = ?)"
_DAYS = (
    f"SELECT DISTINCT bucket FROM method_figures WHERE resolution_s = ? AND {_OF_SERVICE}"
    " ORDER BY bucket LIMIT 1000"
)
_OLD = (
    f"WHERE resolution_s = ? AND bucket >= ? AND bucket < ? AND {_OF_SERVICE} ORDER BY bucket, method LIMIT ?"
)
_DELETE = (
    "DELETE FROM method_figures WHERE (resolution_s, bucket, method) IN"
    f" (SELECT resolution_s, bucket, method FROM method_figures {_OLD})"
)


def prune_figures(store: Store, max_bytes: int) -> Iterator[None]:
    """Delete the oldest days of the service that has the most figures, if it has too many of a full file.

    One piece per iteration. A day is deleted in all resolutions, because readers subtract hours from days and
    minutes from hours.
    """
    numbers: Counter[int] = Counter()
    last = (0, 0, 0)
    while rows := store.read(_NEXT, *last, COUNTED):
        numbers.update(method for *_, method in rows)
        last = rows[-1]
        yield
    of_service: Counter[str] = Counter()
    for method, service in store.read("SELECT id, service FROM methods"):
        of_service[service] += numbers[method]
    most = int(SHARE * max_bytes / ROW_BYTES)
    for service, number in of_service.most_common(1):
        if number > most:
            yield from _delete(store, service, number - most // 2)


def _delete(store: Store, service: str, wanted: int) -> Iterator[None]:
    """Delete rows of a service, at least the number wanted, the oldest days first."""
    day_s = RESOLUTIONS_S[-1]
    while wanted > 0 and (days := store.read(_DAYS, day_s, service)):
        for (day,) in days:
            # Days first: a query starts at the first day that has figures.
            for resolution_s in reversed(RESOLUTIONS_S):
                first, end = (each * day_s // resolution_s for each in (day, day + 1))
                values = (resolution_s, first, end, service, DELETED)
                deleted = DELETED
                while deleted == DELETED:
                    with store.transaction() as db:
                        if resolution_s == day_s:
                            retire_figures(db, _OLD, values)
                        deleted = db.execute(_DELETE, values).rowcount
                    wanted -= deleted
                    store.forget("method_figures")
                    yield
            if wanted <= 0:
                return
