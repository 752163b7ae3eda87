"""Live profiles: a request to running processes, followed until they have sent what they sampled.

One idea: the collector and this command meet in the file alone. The request is a row in it, and so are the
answers of the processes and their samples.
"""

import time
from collections.abc import Callable
from pathlib import Path

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_collector.layout import SETTLED
from ztrace_collector.storing.requesting import (
    has_collector,
    make_request,
    withdraw_request,
    write_request,
)
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.queries.requests import Progress, read_progress
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.progress import StageProgress
from ztrace_viewer.terminal.saying import complain

#: Interval of looking into the file.
POLL_S = 0.2
#: Time in which the collector sends a request, and in which a process answers; time after the end in which
#: the last samples arrive, and in which the last trees are counted.
SENT_S, ANSWERED_S, LATE_S, COUNTED_S = 3.0, 5.0, 5.0, 6.0


def take_profile(database: Path, service: str | None, hz: int, seconds: int) -> None:
    """Have running processes take samples, and wait until these are in the file.

    Args:
        database: the collector's file.
        service: whose processes; None for all.
        hz: samples a second.
        seconds: for how long.

    Raises:
        SettingsError: a number is out of bounds, or no collector is there to send the request.
        NotFoundError: no process has taken samples.
        DatabaseError: the file cannot be used.
    """
    whose = service or ""
    request = make_request(whose, hz, seconds)
    _check_reachable(database, whose)
    with StageProgress() as progress:
        try:
            write_request(database, request, time.time_ns())
            ended = _follow(database, request.nonce, whose, seconds, progress)
            progress.begin("counting the last trees")
            _wait_for_trees(database)
        finally:
            with ignored():
                withdraw_request(database, request.nonce)
    _warn(ended, whose)


def _check_reachable(database: Path, service: str) -> None:
    with open_file(database) as store:
        there = read_progress(store, b"", service, time.time_ns())
    if not has_collector(database):
        raise SettingsError(
            f"no collector writes to {database}", hint=f"start one with 'ztrace up --db {database}'"
        )
    if not there.processes:
        raise NotFoundError(f"no process{_of(service)} is connected", hint="see 'ztrace status'")


def _follow(database: Path, nonce: bytes, service: str, seconds: int, progress: StageProgress) -> Progress:
    """Wait until the processes have finished, and return who has taken part."""
    began_s = time.monotonic()
    progress.begin(f"asking the processes{_of(service)}")
    before: int | None = None
    is_told = False
    while True:
        with open_file(database) as store:
            now = read_progress(store, nonce, service, time.time_ns())
        before = now.samples if before is None else before
        passed_s = time.monotonic() - began_s
        if now.sent_ns is None and passed_s > SENT_S:
            raise SettingsError(
                f"the collector of {database} does not send requests",
                hint="see what it prints, or restart it",
            )
        if not now.taken_part and (passed_s > ANSWERED_S or not now.silent):
            _explain_nobody(now, service)
        if now.taken_part and not is_told:
            is_told = True
            progress.begin(f"profiling {plural(now.taken_part, 'process')} for {seconds}s")
        is_over = now.taken_part and not now.running and (not now.silent or passed_s > ANSWERED_S)
        if is_over or passed_s > seconds + LATE_S:
            return now
        if is_told:
            told = f"profiling {plural(now.taken_part, 'process')}"
            taken = f"{now.samples - before:,} samples"
            progress.update(f"{told}   {min(passed_s, seconds):.0f}s of {seconds}s   {taken}")
        time.sleep(POLL_S)


def _explain_nobody(now: Progress, service: str) -> None:
    """Raise why no process takes samples.

    Raises:
        NotFoundError: always.
    """
    if now.declined:
        raise NotFoundError(
            f"profiling is off in {plural(now.declined, 'process')}{_of(service)}",
            hint="start them without ZTRACE_PROFILE=off",
        )
    if now.silent:
        raise NotFoundError(
            f"{plural(now.silent, 'process')}{_of(service)} did not answer", hint="upgrade their ztrace"
        )
    raise NotFoundError(f"the processes{_of(service)} have gone", hint="see 'ztrace status'")


def _wait_for_trees(database: Path) -> None:
    """Wait until the trees of the spans that are stored now are counted, for some seconds at most."""
    last = _read(database, lambda store: store.settling(SETTLED) + store.unsettled())
    deadline_s = time.monotonic() + COUNTED_S
    while _read(database, lambda store: store.settling(SETTLED)) < last and time.monotonic() < deadline_s:
        time.sleep(POLL_S)


def _read(database: Path, read: Callable[[SqliteStore], int]) -> int:
    with open_file(database) as store:
        return int(read(store))


def _warn(ended: Progress, service: str) -> None:
    """Print which processes took no part, or not to the end."""
    for count, told in (
        (ended.declined, "profiling is off there (ZTRACE_PROFILE)"),
        (ended.silent, "no answer; upgrade ztrace there"),
        (ended.gone, "gone before the end"),
    ):
        if count:
            complain(f"ztrace: {plural(count, 'process')}{_of(service)}: {told}")


def _of(service: str) -> str:
    return f" of {quote(service)}" if service else ""
