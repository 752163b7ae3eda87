"""Exception groups for monitoring: their number by state, and the latest ones without frames and samples."""

from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS, OPEN
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore

#: State of an open group that began not long ago, and the age up to which it is new.
NEW, NEW_NS = "new", HOUR_NS


class GroupState(NamedTuple):
    """A row of ``exception_groups``; service and name are the origin's."""

    fingerprint: str
    type: str
    service: str
    name: str
    state: str
    occurrences: int
    last_ns: int


class _Number(NamedTuple):
    service: str
    state: str
    number: int


_STATE = f"iif(state = '{OPEN}' AND first_ns >= ?, '{NEW}', state)"
_NUMBERS = (
    f"SELECT {name_columns(_Number, state=_STATE, number='count(*)')} FROM exception_groups GROUP BY 1, 2"
)
_LATEST = (
    f"SELECT {name_columns(GroupState, state=_STATE, occurrences='count')} FROM exception_groups"
    " ORDER BY last_ns DESC, id DESC LIMIT ?"
)


def count_groups(store: SqliteStore, now_ns: int) -> dict[tuple[str, str], int]:
    """Return the number of groups by service and state."""
    rows = read(store.db, _Number, _NUMBERS, (now_ns - NEW_NS,))
    return {(row.service, row.state): row.number for row in rows}


def list_latest(store: SqliteStore, limit: int, now_ns: int) -> list[GroupState]:
    """Return the groups that occurred last."""
    return list(read(store.db, GroupState, _LATEST, (now_ns - NEW_NS, limit)))
