"""Requests for profiles, which a program beside the collector writes and the collector sends to publishers.

One idea: as with resolving a group, a request is one row and one short transaction. The collector reads the
rows that are not over and repeats each, so publishers that connect later and a collector that is restarted
know of it too.
"""

import fcntl
import os
import secrets
from pathlib import Path

from ztrace.errors import SettingsError
from ztrace.wire import MAX_HZ, MAX_REQUEST_S, Request
from ztrace_collector.storing.existing import writing

#: Requests that may run at a time: each is repeated every second.
MAX_RUNNING = 4


def check_request(hz: int, seconds: int) -> None:
    """Reject a request that no publisher accepts.

    Raises:
        SettingsError: a number is out of bounds.
    """
    for name, value, most in (("--hz", hz, MAX_HZ), ("--seconds", seconds, MAX_REQUEST_S)):
        if not 1 <= value <= most:
            raise SettingsError(f"{name} {value} is out of bounds", hint=f"give 1 to {most}")


def has_collector(path: Path) -> bool:
    """Return whether a collector has a database open for writing."""
    try:
        lock = os.open(f"{path.resolve()}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def make_request(service: str, hz: int, seconds: int) -> Request:
    """Return a request for a profile, with a nonce of its own; it is not written yet.

    Args:
        service: whose publishers are to take samples; empty for all.
        hz: samples a second.
        seconds: for how long.

    Raises:
        SettingsError: a number is out of bounds.
    """
    check_request(hz, seconds)
    return Request(secrets.token_bytes(8), service, hz, seconds)


def write_request(path: Path, request: Request, now_ns: int) -> None:
    """Write a request, which the collector of the file then sends.

    Args:
        path: the database file.
        request: the request.
        now_ns: the present time, Unix.

    Raises:
        SettingsError: too many requests run.
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    with writing(path) as db:
        (running,) = db.execute(
            "SELECT count(*) FROM profile_requests WHERE at_ns + 1000000000 * seconds > ?", (now_ns,)
        ).fetchone()
        if running >= MAX_RUNNING:
            raise SettingsError(f"{running} profiles are being taken", hint="wait until one ends")
        db.execute(
            "INSERT INTO profile_requests (nonce, service, hz, seconds, at_ns) VALUES (?, ?, ?, ?, ?)",
            (*request, now_ns),
        )


def withdraw_request(path: Path, nonce: bytes) -> None:
    """Delete a request, written or not, so it is repeated no more; publishers that have it continue.

    Raises:
        DatabaseError: one of its subclasses; nothing has been changed.
    """
    with writing(path) as db:
        db.execute("DELETE FROM profile_requests WHERE nonce = ?", (nonce,))
