"""Requests of people that are written into a store: pins of traces, and resolutions of exception groups."""

from pathlib import Path

from ztrace_collector.storing import pinning, resolving
from ztrace_viewer.queries.stores.source import Source


def pin(source: Source, trace_id: bytes, *, undo: bool = False) -> None:
    """Pin a trace, or undo that.

    Raises:
        NotFoundError: no span of the trace is stored.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    if isinstance(source, Path):
        return pinning.pin(source, trace_id, undo=undo)
    from ztrace_collector.clickhouse import requesting

    requesting.pin(source, trace_id, undo=undo)


def resolve(source: Source, fingerprint: str, now_ns: int, *, reopen: bool = False) -> None:
    """Mark an exception group as resolved; the next occurrence marks it as regressed.

    Args:
        source: the store.
        fingerprint: the full id of the group.
        now_ns: the time of resolution, Unix.
        reopen: mark the group as open instead.

    Raises:
        NotFoundError: there is no such group.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    if isinstance(source, Path):
        return resolving.resolve(source, fingerprint, now_ns, reopen=reopen)
    from ztrace_collector.clickhouse import requesting

    requesting.resolve(source, fingerprint, now_ns, reopen=reopen)
