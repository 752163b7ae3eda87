"""Exception groups for monitoring: their number by state, and the latest ones."""

from ztrace_collector.layout import HOUR_NS, OPEN
from ztrace_viewer.queries.selection import EVERYTHING
from ztrace_viewer.queries.stores.answers import GroupRow
from ztrace_viewer.queries.stores.conditions import NEWEST, Filter
from ztrace_viewer.queries.stores.store import Store

#: State of an open group that began not long ago, and the age up to which it is new.
NEW, NEW_NS = "new", HOUR_NS


def count_groups(store: Store, now_ns: int) -> dict[tuple[str, str], int]:
    """Return the number of groups by service and state."""
    return {(row.service, row.state): row.number for row in store.group_numbers(NEW, now_ns - NEW_NS)}


def list_latest(store: Store, limit: int, now_ns: int) -> list[GroupRow]:
    """Return the groups that occurred last, with `NEW` as the state of new ones."""
    groups = store.groups(EVERYTHING, Filter(resolved=True), NEWEST, limit)
    return [
        group._replace(state=NEW) if group.state == OPEN and group.first_ns >= now_ns - NEW_NS else group
        for group in groups
    ]
