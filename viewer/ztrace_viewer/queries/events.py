"""Events in a database: exception groups that are new or regressed, and methods that became slower.

One idea: the file itself says what is new. The keys of groups only rise, a regressed group has the moment at
which it was resolved, and two stretches of time are compared as `ztrace diff` does.
"""

from contextlib import suppress
from typing import Literal, NamedTuple

from ztrace.errors import NotFoundError
from ztrace_collector.layout import MINUTE_NS, REGRESSED
from ztrace_viewer.documents.comparison import PathChange
from ztrace_viewer.documents.errors import GroupSummary
from ztrace_viewer.documents.events import SlowerMethod
from ztrace_viewer.queries.comparison import BOTH, SLOWER, compare
from ztrace_viewer.queries.groups import read_group
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore
from ztrace_viewer.queries.stores.store import Store

#: Minutes that are compared, the minutes before them that they are compared with, and the age of the end of
#: both, by which nearly all trees have been counted.
AFTER, BEFORE, SETTLED = 15, 60, 1
#: Least ratio of the own time of a call after to that before.
LEAST_RATIO = 1.2

NEW_GROUP: Literal["new_group"] = "new_group"
REGRESSED_GROUP: Literal["regressed_group"] = "regressed_group"


class GroupEvent(NamedTuple):
    """A group that is new or regressed."""

    event: Literal["new_group", "regressed_group"]
    group: GroupSummary


class _Group(NamedTuple):
    id: int
    fingerprint: str
    state: str
    resolved_ns: int | None


_GROUPS = f"SELECT {name_columns(_Group)} FROM exception_groups WHERE id > ? OR state = ? ORDER BY id"

_LAST = "SELECT coalesce(max(id), 0) FROM exception_groups"


class GroupWatch:
    """Reader of the groups that became new or regressed since the last look."""

    def __init__(self, store: SqliteStore) -> None:
        """Take what is in the file as known."""
        self._last = int(store.db.execute(_LAST).fetchone()[0])
        self._regressed = {(row.id, row.resolved_ns) for row in self._read(store)}

    def look(self, store: SqliteStore, limit: int) -> tuple[list[GroupEvent], int]:
        """Return the groups that are new or regressed, each once, and the number of those beyond the limit.

        Raises:
            DatabaseError: the file cannot be read; the next look returns the same.
        """
        found: list[tuple[Literal["new_group", "regressed_group"], str]] = []
        regressed = set()
        last = self._last
        for row in self._read(store):
            if row.id > self._last:
                last = row.id
                found.append((NEW_GROUP, row.fingerprint))
            if row.state == REGRESSED:
                regressed.add((row.id, row.resolved_ns))
                if (row.id, row.resolved_ns) not in self._regressed:
                    found.append((REGRESSED_GROUP, row.fingerprint))
        events = []
        for event, fingerprint in found[:limit]:
            with suppress(NotFoundError):  # Its only occurrence turned out to have begun elsewhere.
                events.append(GroupEvent(event, read_group(store, fingerprint)))
        self._last, self._regressed = last, regressed
        return events, len(found[limit:])

    def _read(self, store: SqliteStore) -> list[_Group]:
        return list(read(store.db, _Group, _GROUPS, (self._last, REGRESSED)))


def find_slower(store: Store, now_ns: int) -> list[SlowerMethod]:
    """Return the methods that became slower, the largest change first.

    The last quarter of an hour is compared with the hour before it, as by `ztrace diff`. A method became
    slower if the change of a path that ends in it is sure, its calls take longer rather than being more, and
    a call takes at least `LEAST_RATIO` times its own time before.
    """
    end_ns = now_ns // MINUTE_NS * MINUTE_NS - SETTLED * MINUTE_NS
    middle_ns = end_ns - AFTER * MINUTE_NS
    before, after = (middle_ns - BEFORE * MINUTE_NS, middle_ns), (middle_ns, end_ns)
    found: dict[tuple[str, str, str], SlowerMethod] = {}
    for change in compare(store, None, before, after, None, now_ns)["paths"]:
        if not _is_slower(change):
            continue
        root, last = change["path"][0], change["path"][-1]
        found.setdefault(
            (last["service"], last["name"], last["kind"]),
            {
                "service": last["service"],
                "name": last["name"],
                "kind": last["kind"],
                "root": f"{root['service']}.{root['name']}",
                "before_ns": before,
                "after_ns": after,
                "change": change,
            },
        )
    return list(found.values())


def _is_slower(change: PathChange) -> bool:
    each_before_ns, each_after_ns = change["each_before_ns"], change["each_after_ns"]
    return (
        change["sure"]
        and change["change_ns"] > 0
        and change["cause"] in (SLOWER, BOTH)
        and each_before_ns is not None
        and each_after_ns is not None
        and each_after_ns >= LEAST_RATIO * each_before_ns
    )
