"""Live profiles: a request to running processes, followed until they have sent what they sampled.

One idea: collectors and this command meet in the store alone. The request is a row in it, and so are the
answers of the processes and their samples.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_collector.layout import SETTLED
from ztrace_collector.storing.requesting import make_request
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.queries.requests import Progress, read_progress
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.requesting import ask_for_profile, has_collector, withdraw_profile
from ztrace_viewer.queries.stores.source import Source, name_source
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.progress import StageProgress
from ztrace_viewer.terminal.saying import complain

#: Interval of looking into the store.
POLL_S = 0.2
#: Time in which the collector sends a request, and in which a process answers; time after the end in which
#: the last samples arrive, and in which the last trees are counted.
SENT_S, ANSWERED_S, LATE_S, COUNTED_S = 3.0, 5.0, 5.0, 6.0
#: Time by which each of these is longer over ClickHouse, which collectors ask, and send to, once a second.
FURTHER_S = 5.0


def take_profile(database: Source, service: str | None, hz: int, seconds: int) -> None:
    """Have running processes take samples, and wait until these are in the store.

    Args:
        database: the store.
        service: whose processes; None for all.
        hz: samples a second.
        seconds: for how long.

    Raises:
        SettingsError: a number is out of bounds, or no collector is there to send the request.
        NotFoundError: no process has taken samples.
        DatabaseError: the store cannot be used.
    """
    whose = service or ""
    request = make_request(whose, hz, seconds)
    with closing(Stores(database)) as stores:
        _check_reachable(stores, whose)
        with StageProgress() as progress:
            try:
                ask_for_profile(database, request, time.time_ns())
                ended = _follow(stores, request.nonce, whose, seconds, progress)
                progress.begin("counting the last trees")
                _wait_for_trees(stores)
            finally:
                with ignored():
                    withdraw_profile(database, request.nonce)
    _warn(ended, whose)


def _check_reachable(stores: Stores, service: str) -> None:
    with stores.open() as store:
        there = read_progress(store, b"", service, time.time_ns())
    if not has_collector(stores.source):
        raise _explain_missing(stores.source)
    if not there.processes:
        raise NotFoundError(f"no process{_of(service)} is connected", hint="see 'ztrace status'")


def _explain_missing(source: Source) -> SettingsError:
    if isinstance(source, Path):
        return SettingsError(
            f"no collector writes to {source}", hint=f"start one with 'ztrace up --db {source}'"
        )
    return SettingsError(
        f"no collector sends to {source.url}", hint=f"start one with 'ztrace up --clickhouse {source.url}'"
    )


def _follow(stores: Stores, nonce: bytes, service: str, seconds: int, progress: StageProgress) -> Progress:
    """Wait until the processes have finished, and return who has taken part."""
    further_s = 0.0 if isinstance(stores.source, Path) else FURTHER_S
    began_s = time.monotonic()
    progress.begin(f"asking the processes{_of(service)}")
    before: int | None = None
    is_told = False
    while True:
        with stores.open() as store:
            now = read_progress(store, nonce, service, time.time_ns())
        before = now.samples if before is None else before
        passed_s = time.monotonic() - began_s - further_s
        if now.sent_ns is None and passed_s > SENT_S:
            raise SettingsError(
                f"the collector of {name_source(stores.source)} does not send requests",
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
            progress.update(f"{told}   {min(max(0, passed_s), seconds):.0f}s of {seconds}s   {taken}")
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


def _wait_for_trees(stores: Stores) -> None:
    """Wait until the trees of the spans that are stored now are counted, for some seconds at most."""
    last = _read(stores, lambda store: store.settling(SETTLED) + store.unsettled())
    deadline_s = time.monotonic() + COUNTED_S
    while _read(stores, lambda store: store.settling(SETTLED)) < last and time.monotonic() < deadline_s:
        time.sleep(POLL_S)


def _read(stores: Stores, read: Callable[[Store], int]) -> int:
    with stores.open() as store:
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
