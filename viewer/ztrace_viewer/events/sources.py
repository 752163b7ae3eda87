"""Sources of events: what is new in a collector's file, or in the database that several collectors share.

One idea: a file has one process that tells events, and what it holds at first is known. In a database every
collector's process looks, one of them tells each event, and what has been told is written there before.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from ztrace.errors import DatabaseError, NotFoundError
from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.documents.events import EventDocument, SlowerMethod
from ztrace_viewer.events.describing import describe_group, describe_slower
from ztrace_viewer.queries.deadline import Deadline, TooLong
from ztrace_viewer.queries.events import NEW_GROUP, REGRESSED_GROUP, GroupEvent, GroupWatch, find_slower
from ztrace_viewer.queries.groups import read_group
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, Pool
from ztrace_viewer.queries.stores.clickhouse.told import Event, Pending, State, Told
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.stores.store import Store

#: Interval of comparing times, and time before the same method is reported as slower again.
COMPARE_S, QUIET_NS = 300.0, HOUR_NS
#: Time limit of a look.
ANSWER_S = 8.0
#: Interval of looks into a database, which several processes share.
SHARED_LOOK_S = 5.0
#: Interval of telling that events are pending, and time after which those of a process that does not tell so
#: are lost; a delivery takes less than the difference.
BEAT_S, LOST_S = 60.0, 240.0
#: Attempts to write a state while other processes write theirs.
_ATTEMPTS = 10
#: Entry of the comparison of times among what is told, and that of a method.
_COMPARED, _SLOWER = "compared", "slower_method"


class Found(NamedTuple):
    """New events, and the numbers of others that are left out, each with what they are."""

    events: Sequence[EventDocument] = ()
    left_out: Sequence[tuple[int, str]] = ()


class Source(Protocol):
    """Source of events."""

    def look(self, now_ns: int, limit: int) -> Found:
        """Return what is new since the last look.

        Raises:
            DatabaseError: the source cannot be read now.
            TooLong: it takes too long.
        """
        ...

    def keep(self, pending: int) -> bool:
        """Note how many events are yet to be delivered; return False if they are lost by now.

        Raises:
            DatabaseError: it cannot be noted now.
        """
        ...


class FileSource:
    """Events of one file, beyond what it holds at first."""

    def __init__(self, database: Path, page: str | None) -> None:
        """Take what is stored as known.

        Args:
            database: the file.
            page: address of the page, without a path; None if it is not served.

        Raises:
            DatabaseError: the file cannot be used.
        """
        self._database, self._page = database, page
        #: Times at which methods were last reported as slower.
        self._slower: dict[str, int] = {}
        self._compare_s = time.monotonic() + COMPARE_S
        with open_file(database) as store:
            self._groups = GroupWatch(store)

    def look(self, now_ns: int, limit: int) -> Found:
        """Return what is new since the last look."""
        with open_file(self._database) as store, store.within(Deadline(ANSWER_S)):
            groups, beyond = self._groups.look(store, limit)
            events = [describe_group(event, self._page, now_ns) for event in groups]
            if time.monotonic() >= self._compare_s:
                self._compare_s = time.monotonic() + COMPARE_S
                slower = _find_slower(store, self._slower, now_ns)
                events += [describe_slower(method, self._page, now_ns) for method in slower.values()]
                self._slower |= dict.fromkeys(slower, now_ns)
        self._slower = {key: at for key, at in self._slower.items() if now_ns - at < QUIET_NS}
        return Found(events, _leave_out(beyond))

    def keep(self, pending: int) -> bool:
        """Return True: no other process delivers events of the file."""
        return True


class SharedSource:
    """Events of a database, whichever collectors have sent what they are of."""

    def __init__(self, address: ClickHouseAddress, page: str | None) -> None:
        """Begin; nothing is read yet.

        Args:
            address: the database.
            page: address of the page, without a path; None if it is not served.
        """
        self._pool, self._page = Pool(address), page
        self._own = uuid.uuid4().hex
        #: What the database says of this process, and when that was written.
        self._kept, self._kept_s = Pending(0, 0), 0.0
        #: What it says of others, and since when.
        self._others: dict[str, tuple[Pending, float]] = {}
        self._next_s = 0.0
        #: Events that are written, but that this process does not have.
        self._unknown = 0

    def begin(self, now_ns: int) -> None:
        """Take what the database holds as known, if no process has done so before.

        Raises:
            DatabaseError: the database cannot be used now; the first look begins then.
        """
        with self._pool.open() as store:
            told = Told(store)
            if told.read() is None:
                told.write(None, _list_known(told, now_ns), {})

    def look(self, now_ns: int, limit: int) -> Found:
        """Return what is new and told by no process; nothing if another one tells it at this moment."""
        if time.monotonic() < self._next_s:
            return Found()
        self._next_s = time.monotonic() + SHARED_LOOK_S
        with self._pool.open() as store, store.within(Deadline(ANSWER_S)):
            told = Told(store)
            state = told.read()
            if state is None:
                told.write(None, _list_known(told, now_ns), {})
                return Found()
            if self._is_lost(state):
                self._kept_s = float("-inf")  # So that `keep` sees it, too.
                return Found()
            lost = self._find_lost(state)
            groups, events, beyond = _find_groups(store, told, limit)
            # Whatever this process may not come to, others will count.
            number = self._kept.number + len(events) + sum(lost.values())
            compares = now_ns - told.moments(_COMPARED).get("", 0) >= COMPARE_S * 10**9
            if compares:
                events.append(Event(_COMPARED, "", now_ns))
            if (events or lost) and not self._write(told, state, events, number, lost):
                return Found()
        found = [describe_group(event, self._page, now_ns) for event in groups]
        if compares:
            # What is written has to be returned, whatever comes of the comparison.
            with suppress(DatabaseError, TooLong):
                found += self._compare(now_ns)
        unknown, self._unknown = sum(lost.values()) + self._unknown, 0
        left_out = [(unknown, "events of a collector that has ended, or lost its connection")]
        return Found(found, [*(left_out if unknown else []), *_leave_out(beyond)])

    def keep(self, pending: int) -> bool:
        """Write how many events are yet to be delivered; return False if others take them as lost."""
        number = pending + self._unknown
        is_told = not number or time.monotonic() < self._kept_s + BEAT_S
        if number == self._kept.number and is_told:
            return True
        with self._pool.open() as store:
            return self._update(Told(store), [], pending) or self._kept.number > 0

    def _compare(self, now_ns: int) -> list[EventDocument]:
        """Return the methods that became slower, once that is written."""
        with self._pool.open() as store, store.within(Deadline(ANSWER_S)):
            told = Told(store)
            slower = _find_slower(store, told.moments(_SLOWER), now_ns)
            events = [Event(_SLOWER, key, now_ns) for key in slower]
            if not slower or not self._update(told, events):
                return []
        return [describe_slower(method, self._page, now_ns) for method in slower.values()]

    def _update(self, told: Told, events: Sequence[Event], pending: int | None = None) -> bool:
        """Write further events, and the number of all if it is known; return False if that was in vain."""
        for _ in range(_ATTEMPTS):
            state = told.read()
            if state is None or self._is_lost(state):
                self._kept = Pending(0, self._kept.beat)
                return False
            number = self._kept.number + len(events) if pending is None else pending + self._unknown
            if self._write(told, state, events, number, {}):
                return True
        return False

    def _write(
        self, told: Told, state: State, events: Sequence[Event], pending: int, lost: Mapping[str, int]
    ) -> bool:
        kept = Pending(pending, self._kept.beat + 1)
        others = {key: each for key, each in state.pending.items() if key != self._own and key not in lost}
        if not told.write(state, events, {**others, self._own: kept} if pending else others):
            return False
        self._kept, self._kept_s = kept, time.monotonic()
        return True

    def _is_lost(self, state: State) -> bool:
        """Return whether another process takes this one's events as lost, since it told nothing for long."""
        own = state.pending.get(self._own)
        if own is not None and own.beat != self._kept.beat:
            # Written over a connection that was lost before the answer: nobody has these events.
            self._unknown += max(0, own.number - self._kept.number)
            self._kept = own
        return bool(self._kept.number) and own is None

    def _find_lost(self, state: State) -> dict[str, int]:
        """Return the numbers of events of processes that tell nothing any more."""
        now_s = time.monotonic()
        others = {key: each for key, each in state.pending.items() if key != self._own}
        self._others = {
            key: before if (before := self._others.get(key)) and before[0] == each else (each, now_s)
            for key, each in others.items()
        }
        return {key: each.number for key, (each, at_s) in self._others.items() if now_s - at_s > LOST_S}


def _list_known(told: Told, now_ns: int) -> list[Event]:
    """Return what a database holds at first."""
    known = [Event(NEW_GROUP, group, 0) for group in told.groups()]
    known += [Event(REGRESSED_GROUP, group, at_ns) for group, at_ns in told.regressed().items()]
    return [*known, Event(_COMPARED, "", now_ns)]


def _find_groups(store: ClickHouseStore, told: Told, limit: int) -> tuple[list[GroupEvent], list[Event], int]:
    """Return the groups that are new or regressed, what is to be told, and the number beyond the limit."""
    new = told.groups(but=NEW_GROUP)
    before = told.moments(REGRESSED_GROUP)
    regressed = {group: at_ns for group, at_ns in told.regressed().items() if before.get(group) != at_ns}
    settled = told.settled({*new, *regressed})
    events = [Event(NEW_GROUP, group, 0) for group in new if group in settled]
    events += [
        Event(REGRESSED_GROUP, group, at_ns)
        for group, at_ns in regressed.items()
        if settled.get(group, 0) > at_ns
    ]
    groups = list[GroupEvent]()
    for event in events[:limit]:
        with suppress(NotFoundError):  # Its only occurrence turned out to have begun elsewhere.
            kind = NEW_GROUP if event.event == NEW_GROUP else REGRESSED_GROUP
            groups.append(GroupEvent(kind, read_group(store, event.key)))
    return groups, events, len(events[limit:])


def _find_slower(store: Store, told: Mapping[str, int], now_ns: int) -> dict[str, SlowerMethod]:
    """Return the methods that became slower, but for those told within an hour."""
    found = {
        json.dumps([method["service"], method["name"], method["kind"]]): method
        for method in find_slower(store, now_ns)
    }
    return {key: method for key, method in found.items() if now_ns - told.get(key, 0) >= QUIET_NS}


def _leave_out(number: int) -> list[tuple[int, str]]:
    return [(number, "groups that are new or regressed")] if number else []
