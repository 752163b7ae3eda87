"""Exception groups: their rows, their minutes and their samples.

One idea: a group is read when an occurrence is added, written at the end of the same transaction, and not
kept in memory. So a change by another program (`ztrace_collector.storing.resolving`) is never overwritten.
Beyond a thousand groups of a service, its further errors share one: types or lines of code that are generated
would make a group for every occurrence.
"""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ztrace_collector.checking.failures import Failure
from ztrace_collector.layout import MINUTE_NS, OPEN, REGRESSED, RESOLVED
from ztrace_collector.refusals import TOO_MANY_GROUPS, Refusals
from ztrace_collector.tables.grouping import fingerprint, template, widen
from ztrace_collector.tables.samples import Sample, choose_samples

#: Maximum of services listed for a group.
MAX_SERVICES = 100
#: Maximum of groups of a service, and of all: more than anyone reads. Beside them are the shared groups, of
#: which there are `MAX_SHARED` at most; the services beyond share one.
MAX_OF_SERVICE, MAX_GROUPS, MAX_SHARED = 1_000, 10_000, 1_000
#: Type of a shared group, and what is shown as its message, before that of the latest occurrence.
OTHER, OTHER_TEMPLATE = "(other)", "one of the further errors of a service with too many kinds of errors"

_WRITE = (
    "UPDATE exception_groups SET count = count + ?, uncaught_count = uncaught_count + ?, first_ns = ?,"
    " state = ?, template = ?, services = ? WHERE id = ?"
)
_CREATE = (
    "INSERT INTO exception_groups (id, fingerprint, type, message, service, name, kind, count, first_ns,"
    " last_ns, trace_id, origin_span_id, frames) VALUES (?, ?, '', '', ?, '', '', 0, ?, 0, x'', x'', '[]')"
)
# Of several occurrences at the same time, the one with the highest ids is the latest.
_SHOW = (
    "UPDATE exception_groups SET type = ?, message = ?, name = ?, kind = ?, last_ns = ?, trace_id = ?,"
    " origin_span_id = ?, frames = ? WHERE id = ?"
)
# The origins of a group that are stored, the latest and the first.
_ORIGINS = "WHERE exception_group = ? AND exceptions.origin_span_id = exceptions.span_id ORDER BY at_ns"
_LATEST = (
    "SELECT exceptions.type, exceptions.message, methods.name, methods.kind, at_ns, exceptions.trace_id,"
    " exceptions.span_id, exceptions.frames FROM exceptions"
    " JOIN spans ON spans.trace_id = exceptions.trace_id AND spans.span_id = exceptions.span_id"
    f" JOIN methods ON methods.id = spans.method {_ORIGINS} DESC, exceptions.trace_id DESC,"
    " exceptions.span_id DESC LIMIT 1"
)
_LATEST_TRACE = (
    f"SELECT trace_id FROM exceptions {_ORIGINS} DESC, exceptions.trace_id DESC, exceptions.span_id DESC"
    " LIMIT 1"
)
_FIRST = f"SELECT at_ns, trace_id, span_id FROM exceptions {_ORIGINS}, trace_id, span_id LIMIT 1"


def _shared_message(type_: str, message: str) -> str:
    return f"{type_}: {message}" if type_ else message


def _shared_key(service: str) -> str:
    return hashlib.sha256(json.dumps([OTHER, service]).encode()).hexdigest()[:16]


class Origin(NamedTuple):
    """Span in which an exception was first raised."""

    failure: Failure
    service: str
    name: str
    kind: str
    sample: Sample


class _Stored(NamedTuple):
    """Columns that are read of a group's row, from which the statement derives."""

    id: int
    first_ns: int
    last_ns: int
    trace_id: bytes
    origin_span_id: bytes
    state: str
    resolved_ns: int | None
    template: str
    services: str


_READ = f"SELECT {', '.join(_Stored._fields)} FROM exception_groups WHERE "


@dataclass(slots=True, eq=False)
class _Group:
    """Part of a row that is needed to update it.

    Attributes:
        latest: the occurrence that the row shows; None for a new row.
        shown: the occurrence that the row is to show, if that has changed.
        count: number of occurrences to be added.
        removed: occurrences that turned out to have begun elsewhere.
    """

    id: int
    first_ns: int
    latest: Sample | None
    state: str
    resolved_ns: int | None
    template: str | None
    services: set[str]
    changed: bool = False
    shown: Origin | None = None
    count: int = 0
    samples: list[Sample] = field(default_factory=list)
    removed: list[Sample] = field(default_factory=list)

    def add(self, origin: Origin) -> None:
        sample, message = origin.sample, origin.failure.message
        self.count += 1
        self.changed = True
        self.samples.append(sample)
        self.first_ns = min(self.first_ns, sample.at_ns)
        if self.latest is None or sample > self.latest:
            self.latest, self.shown = sample, origin
        if self.state == RESOLVED and sample.at_ns > (self.resolved_ns or 0):
            self.state = REGRESSED
        if origin.failure.type == OTHER:
            self.template = OTHER_TEMPLATE
        else:
            self.template = template(message) if self.template is None else widen(self.template, message)


class Groups:
    """Tables ``exception_groups``, ``exception_minutes`` and ``exception_samples``."""

    def __init__(self, db: sqlite3.Connection, unseal: Callable[[Sequence[bytes]], None]) -> None:
        self._db = db
        self._unseal = unseal
        self._next_id = 1
        self._by_id: dict[int, _Group | None] = {}
        self._ids: dict[str, int] = {}
        #: By group and minute: new occurrences, and occurrences, new or old, now known to be uncaught.
        self._minutes: Counter[tuple[int, int]] = Counter()
        self._uncaught: Counter[tuple[int, int]] = Counter()
        #: Number of groups by service, and shared ones under `OTHER`; empty until it is needed.
        self._numbers: Counter[str] = Counter()

    def forget(self) -> None:
        """Drop everything from memory after a rollback, or after groups were deleted by other means."""
        self._clear()
        self._numbers.clear()

    def _clear(self) -> None:
        self._by_id.clear()
        self._ids.clear()
        self._minutes.clear()
        self._uncaught.clear()

    def add(self, origin: Origin, refusals: Refusals) -> int:
        """Count an occurrence, and return the id of its group, which is created for the first one."""
        key = fingerprint(origin.service, origin.failure, origin.name)
        group = self._find(key)
        if group is None and not self._has_room(origin.service):
            failure = origin.failure
            refusals.note(
                TOO_MANY_GROUPS,
                f"{origin.service} has more than {MAX_OF_SERVICE:,} groups, or all have more than"
                f" {MAX_GROUPS:,}: {failure.type}",
            )
            message = _shared_message(failure.type, failure.message)
            origin = origin._replace(
                failure=failure._replace(type=OTHER, message=message), service=self._share(origin.service)
            )
            key = _shared_key(origin.service)
            group = self._find(key)
        if group is None:
            group = self._create(key, origin)
        group.add(origin)
        group.services.add(origin.service)
        self._minutes[group.id, origin.sample.at_ns // MINUTE_NS] += 1
        return group.id

    def remove(self, group_id: int, sample: Sample) -> None:
        """Uncount an occurrence that is no origin any more, as ``exceptions`` has to say before `write`."""
        group = self._get(group_id)
        if group is not None:
            group.removed.append(sample)
            group.changed = True

    def pass_service(self, group_id: int, service: str) -> None:
        """Record that an occurrence passed a service."""
        group = self._get(group_id)
        if group is not None and service not in group.services and len(group.services) < MAX_SERVICES:
            group.services.add(service)
            group.changed = True

    def count_uncaught(self, group_id: int, at_ns: int, number: int = 1) -> None:
        """Count an occurrence of that time as uncaught; -1 uncounts it."""
        if self._get(group_id) is not None:
            self._uncaught[group_id, at_ns // MINUTE_NS] += number

    def write(self) -> None:
        """Write the changed rows."""
        groups = [group for group in self._by_id.values() if group is not None]
        uncaught = self._write_minutes()
        for group in groups:
            if group.removed:
                self._uncount(group)
        changed = [group for group in groups if group.changed or uncaught[group.id]]
        self._db.executemany(
            _WRITE,
            [
                (
                    group.count,
                    uncaught[group.id],
                    group.first_ns,
                    group.state,
                    group.template,
                    json.dumps(sorted(group.services), ensure_ascii=False, separators=(",", ":")),
                    group.id,
                )
                for group in changed
            ],
        )
        self._db.executemany(
            _SHOW,
            [
                (
                    origin.failure.type,
                    origin.failure.message,
                    origin.name,
                    origin.kind,
                    *origin.sample,
                    origin.failure.frames_text,
                    group.id,
                )
                for group in groups
                if (origin := group.shown) is not None
            ],
        )
        for group in groups:
            if group.removed:
                self._show_another(group)
            if group.samples or group.removed:
                self._write_samples(group)
        self._clear()

    def _find(self, key: str) -> _Group | None:
        group_id = self._ids.get(key)
        if group_id is not None:
            return self._by_id[group_id]
        group = self._read("fingerprint = ?", key)
        if group is None:
            return None
        self._ids[key] = group.id
        # The group may have been read by its id already: one object for one row.
        group = self._by_id.get(group.id) or group
        self._by_id[group.id] = group
        return group

    def _has_room(self, service: str) -> bool:
        """Return whether another group of a service may be created."""
        if not self._numbers:
            for of_service, is_shared, number in self._db.execute(
                "SELECT service, type = ?, count(*) FROM exception_groups GROUP BY 1, 2", (OTHER,)
            ):
                self._numbers[OTHER if is_shared else of_service] += number
        own = self._numbers.total() - self._numbers[OTHER]
        return self._numbers[service] < MAX_OF_SERVICE and own < MAX_GROUPS

    def _share(self, service: str) -> str:
        """Return the service of the shared group for a service's further errors."""
        is_new = self._find(_shared_key(service)) is None
        return OTHER if is_new and self._numbers[OTHER] >= MAX_SHARED else service

    def _get(self, group_id: int) -> _Group | None:
        if group_id not in self._by_id:
            self._by_id[group_id] = self._read("id = ?", group_id)
        return self._by_id[group_id]

    def _read(self, condition: str, value: object) -> _Group | None:
        row = self._db.execute(_READ + condition, (value,)).fetchone()
        if row is None:
            return None
        stored = _Stored(*row)
        return _Group(
            id=stored.id,
            first_ns=stored.first_ns,
            latest=Sample(stored.last_ns, stored.trace_id, stored.origin_span_id),
            state=stored.state,
            resolved_ns=stored.resolved_ns,
            template=stored.template,
            services=set(json.loads(stored.services)),
        )

    def _create(self, key: str, origin: Origin) -> _Group:
        (next_id,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM exception_groups").fetchone()
        # Never below an id given before, since exceptions may name a group that retention has deleted.
        self._next_id = max(self._next_id, next_id)
        group = _Group(self._next_id, origin.sample.at_ns, None, OPEN, None, None, set())
        self._next_id += 1
        self._db.execute(_CREATE, (group.id, key, origin.service, group.first_ns))
        self._ids[key] = group.id
        self._by_id[group.id] = group
        if self._numbers:
            self._numbers[OTHER if origin.failure.type == OTHER else origin.service] += 1
        return group

    def _write_minutes(self) -> Counter[int]:
        """Write the minutes; return by group how many more occurrences are uncaught.

        An occurrence whose minute retention has deleted is no longer counted, here either.
        """
        uncaught: Counter[int] = Counter()
        for (group_id, minute), count in self._minutes.items():
            reached = self._uncaught.pop((group_id, minute), 0)
            uncaught[group_id] += reached
            self._db.execute(
                "INSERT INTO exception_minutes (exception_group, minute, count, uncaught_count)"
                " VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count,"
                " uncaught_count = uncaught_count + excluded.uncaught_count",
                (group_id, minute, count, reached),
            )
        for (group_id, minute), reached in self._uncaught.items():
            updated = self._db.execute(
                "UPDATE exception_minutes SET uncaught_count = uncaught_count + ?"
                " WHERE exception_group = ? AND minute = ?",
                (reached, group_id, minute),
            ).rowcount
            uncaught[group_id] += reached if updated else 0
        return uncaught

    def _uncount(self, group: _Group) -> None:
        """Take removed occurrences from their minutes; those that retention has deleted count no longer."""
        for minute, number in Counter(sample.at_ns // MINUTE_NS for sample in group.removed).items():
            group.count -= (
                number
                * self._db.execute(
                    "UPDATE exception_minutes SET count = count - ? WHERE exception_group = ? AND minute = ?",
                    (number, group.id, minute),
                ).rowcount
            )
        self._db.execute(
            "DELETE FROM exception_minutes WHERE exception_group = ? AND count <= 0", (group.id,)
        )

    def _show_another(self, group: _Group) -> None:
        """Show the latest of the occurrences that are left; delete a group without any."""
        self._unseal([each for (each,) in self._db.execute(_LATEST_TRACE, (group.id,))])
        latest = self._db.execute(_LATEST, (group.id,)).fetchone()
        if latest is None:
            self._numbers.clear()
            for table, key in (("exception_groups", "id"), ("exception_samples", "exception_group")):
                self._db.execute(
                    f"DELETE FROM {table} WHERE {key} = ? AND NOT EXISTS"
                    " (SELECT 1 FROM exception_minutes WHERE exception_group = ?)",
                    (group.id, group.id),
                )
            return
        if group.template == OTHER_TEMPLATE:
            shown = (OTHER, _shared_message(*latest[:2]), *latest[2:])
        else:
            shown = latest
        self._db.execute(_SHOW, (*shown, group.id))
        first = Sample(*self._db.execute(_FIRST, (group.id,)).fetchone())
        group.samples += (first, Sample(*latest[4:7]))
        if min(group.removed).at_ns <= group.first_ns:
            self._db.execute("UPDATE exception_groups SET first_ns = ? WHERE id = ?", (first.at_ns, group.id))

    def _write_samples(self, group: _Group) -> None:
        stored = {
            Sample(*row[2:]): (row[0], row[1])
            for row in self._db.execute(
                "SELECT id, which, at_ns, trace_id, span_id FROM exception_samples WHERE exception_group = ?",
                (group.id,),
            )
        }
        chosen = choose_samples(set(stored).union(group.samples).difference(group.removed))
        rows: defaultdict[str, list[tuple[object, ...]]] = defaultdict(list)
        for sample, (row_id, which) in stored.items():
            if sample not in chosen:
                rows["DELETE FROM exception_samples WHERE id = ?"].append((row_id,))
            elif chosen[sample] != which:
                rows["UPDATE exception_samples SET which = ? WHERE id = ?"].append((chosen[sample], row_id))
        insert = (
            "INSERT INTO exception_samples (exception_group, which, at_ns, trace_id, span_id)"
            " VALUES (?, ?, ?, ?, ?)"
        )
        rows[insert] = [
            (group.id, which, *sample) for sample, which in chosen.items() if sample not in stored
        ]
        for statement, values in rows.items():
            self._db.executemany(statement, values)
