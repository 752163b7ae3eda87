"""Resolution of an exception group, with or without a running collector.

One idea: it is one short transaction. The collector reads a group from the file whenever the group occurs, so
it needs no notice; its lock only excludes programs that keep rows in memory.
"""

from pathlib import Path

from ztrace.errors import NotFoundError
from ztrace_collector.layout import OPEN, RESOLVED
from ztrace_collector.storing.existing import writing


def resolve(path: Path, fingerprint: str, now_ns: int, *, reopen: bool = False) -> None:
    """Mark an exception group as resolved; the next occurrence marks it as regressed.

    Args:
        path: the database file.
        fingerprint: the full id of the group.
        now_ns: the time of resolution, Unix.
        reopen: mark the group as open instead.

    Raises:
        NotFoundError: there is no such group.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    state, resolved_ns = (OPEN, None) if reopen else (RESOLVED, now_ns)
    with writing(path) as db:
        changed = db.execute(
            "UPDATE exception_groups SET state = ?, resolved_ns = ? WHERE fingerprint = ?",
            (state, resolved_ns, fingerprint),
        ).rowcount
        if not changed:
            raise NotFoundError(f"no exception group {fingerprint}", hint="'ztrace errors' lists them")
