"""Requests of people that are written into a store: pins, resolutions of exception groups, live profiles."""

from pathlib import Path

from ztrace.wire import Request
from ztrace_collector.storing import pinning, resolving
from ztrace_collector.storing import requesting as asking
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


def has_collector(source: Source) -> bool:
    """Return whether a collector writes to a file, or sends to a database, that would send a request.

    Raises:
        DatabaseError: the database cannot be used.
    """
    if isinstance(source, Path):
        return asking.has_collector(source)
    from ztrace_collector.clickhouse import requesting

    return requesting.has_collector(source)


def ask_for_profile(source: Source, request: Request, now_ns: int) -> None:
    """Write a request for a profile, which collectors send to their publishers.

    Raises:
        SettingsError: too many requests run.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    if isinstance(source, Path):
        return asking.write_request(source, request, now_ns)
    from ztrace_collector.clickhouse import requesting

    requesting.ask_for_profile(source, request)


def withdraw_profile(source: Source, nonce: bytes) -> None:
    """Withdraw a request, written or not, so it is repeated no more; publishers that have it continue.

    Raises:
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    if isinstance(source, Path):
        return asking.withdraw_request(source, nonce)
    from ztrace_collector.clickhouse import requesting

    requesting.withdraw_profile(source, nonce)
