"""Clocks of hosts, measured by the calls between them: the table ``clock_bounds``.

One idea: a call is served within itself, so each one bounds how far the two clocks are apart. The request was
sent before it was received, and the answer was given before it came back. Of some seconds only the tightest
bound on either side is kept. Stored times are never changed: readers apply the offsets.
"""

import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from ztrace.records import INT64_MAX, OK
from ztrace_collector.layout import CLOCK_CELL_NS
from ztrace_collector.settling.counting import SpanRow

#: Pairs of hosts that are measured between two sweeps, and hosts kept in memory.
MAX_PAIRS, SIZE = 4_000, 10_000

_ADD = """
INSERT INTO clock_bounds (host, other_host, cell, low_at_ns, low_ns, high_at_ns, high_ns, calls, seen_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (host, other_host, cell) DO UPDATE SET
    low_at_ns = CASE WHEN excluded.low_ns > low_ns THEN excluded.low_at_ns ELSE low_at_ns END,
    low_ns = max(low_ns, excluded.low_ns),
    high_at_ns = CASE WHEN excluded.high_ns < high_ns THEN excluded.high_at_ns ELSE high_at_ns END,
    high_ns = min(high_ns, excluded.high_ns),
    calls = calls + excluded.calls, seen_ns = excluded.seen_ns
"""


class Call(NamedTuple):
    """A call between two hosts, with two times by the clock of each.

    Attributes:
        caller, host: names of the client's and the server's host.
        sent_ns, returned_ns: start and end of the client span.
        received_ns, answered_ns: start and end of the server span.
    """

    caller: str
    host: str
    sent_ns: int
    received_ns: int
    answered_ns: int
    returned_ns: int

    @property
    def low_ns(self) -> int:
        """Least difference of the server's clock from the client's."""
        return self.answered_ns - self.returned_ns

    @property
    def high_ns(self) -> int:
        """Greatest difference of the server's clock from the client's."""
        return self.received_ns - self.sent_ns


def read_host(db: sqlite3.Connection, instance: int) -> str | None:
    """Return the host of a process by its key, None if it is unknown."""
    row = db.execute("SELECT host FROM instances WHERE id = ?", (instance,)).fetchone()
    return None if row is None else str(row[0])


class Hosts:
    """Names of hosts by instance, and calls between different ones."""

    def __init__(self, read_host: Callable[[int], str | None]) -> None:
        """Start without any.

        Args:
            read_host: function that returns the host of a process by its key, None if it is unknown.
        """
        self._read_host = read_host
        self._known: dict[int, str] = {}

    def trim(self) -> None:
        """Bound the memory."""
        if len(self._known) > SIZE:
            self._known.clear()

    def of(self, instance: int) -> str:
        """Return the host of a process, empty if it is unknown."""
        host = self._known.get(instance)
        if host is None:
            host = self._known[instance] = self._read_host(instance) or ""
        return host

    def find_calls(
        self, rows: Sequence[SpanRow], clients: Container[int], servers: Container[int]
    ) -> list[Call]:
        """Return the calls of a tree that were answered by another host.

        Args:
            rows: the ended spans of a tree.
            clients: methods of calls, as their callers see them.
            servers: methods of served calls.
        """
        instances = {row.instance for row in rows}
        if len(instances) < 2:
            return []
        names = set(map(self.of, instances))
        names.discard("")
        if len(names) < 2:
            return []
        hosts = {instance: self.of(instance) for instance in instances}
        callers = {row.span_id: row for row in rows if row.method in clients}
        calls = []
        for row in rows:
            caller = None if row.parent_id is None else callers.get(row.parent_id)
            if caller is not None and row.method in servers and row.status == caller.status == OK:
                call = make_call(
                    (hosts[caller.instance], hosts[row.instance]),
                    (caller.start_ns, caller.end_ns),
                    (row.start_ns, row.end_ns),
                )
                if call is not None:
                    calls.append(call)
        return calls


def make_call(hosts: tuple[str, str], client: tuple[int, int], server: tuple[int, int]) -> Call | None:
    """Return a call; None if it tells nothing about clocks.

    A server that worked longer than its caller waited has outlived the caller, or answered in parts.

    Args:
        hosts: of the caller and of the server.
        client: start and end of the client span.
        server: likewise.
    """
    call = Call(*hosts, client[0], *server, client[1])
    if "" in hosts or call.caller == call.host or call.low_ns > call.high_ns:
        return None
    return None if max(-call.low_ns, call.high_ns) > INT64_MAX else call


def find_offsets(calls: Iterable[Call], reference: str) -> dict[str, int]:
    """Return by how much clocks must be ahead of a host's for the calls of one tree to be possible.

    Args:
        calls: of the tree.
        reference: name of the host.

    Returns:
        Nanoseconds by host, those other than 0.
    """
    lows: dict[tuple[str, str], int] = {}
    highs: dict[tuple[str, str], int] = {}
    near: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for call in calls:
        for pair, low_ns, high_ns in (
            ((call.caller, call.host), call.low_ns, call.high_ns),
            ((call.host, call.caller), -call.high_ns, -call.low_ns),
        ):
            lows[pair] = max(low_ns, lows.get(pair, low_ns))
            highs[pair] = min(high_ns, highs.get(pair, high_ns))
            near[pair[0]][pair[1]] = None
    offsets, pending = {reference: 0}, deque([reference])
    while pending:
        host = pending.popleft()
        for other in sorted(near[host]):
            if other not in offsets:
                low_ns, high_ns = lows[host, other], highs[host, other]
                apart_ns = 0 if low_ns <= 0 <= high_ns else (low_ns + high_ns) // 2
                offsets[other] = offsets[host] + apart_ns
                pending.append(other)
    return {host: offset_ns for host, offset_ns in offsets.items() if offset_ns}


def align(rows: Sequence[SpanRow], calls: Iterable[Call], host_of: Callable[[int], str]) -> list[SpanRow]:
    """Return the spans of a tree by the clock of its first root's host, as far as calls show differences.

    A function of the rows alone, unlike offsets measured over many trees, so that a tree counts the same
    whenever it is counted.
    """
    root = min(rows, key=lambda row: (row.parent_id is not None, row.start_ns, row.span_id))
    offsets_ns = find_offsets(calls, host_of(root.instance))
    if not offsets_ns:
        return list(rows)
    moved = []
    for row in rows:
        if offset_ns := offsets_ns.get(host_of(row.instance)):
            row = row._replace(start_ns=row.start_ns - offset_ns, end_ns=row.end_ns - offset_ns)
        moved.append(row)
    return moved


class Cells:
    """Bounds of clocks by pairs of hosts and stretches of time, of a bounded number of pairs."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._pairs: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Count the pairs again, so that pairs of hosts that no longer exist make room."""
        self._pairs.clear()

    def add(self, calls: Iterable[Call]) -> None:
        """Add calls."""
        self._calls.extend(calls)

    def take(self) -> dict[tuple[str, str, int], list[int]]:
        """Return and clear the bounds of the added calls: time and bound, low and high, and calls."""
        cells: dict[tuple[str, str, int], list[int]] = {}
        for call in self._calls:
            # By name, so that calls both ways bound the same difference, at times of the first one's clock.
            if call.caller < call.host:
                pair = call.caller, call.host
                low, high = (call.returned_ns, call.low_ns), (call.sent_ns, call.high_ns)
            else:
                pair = call.host, call.caller
                low, high = (call.received_ns, -call.high_ns), (call.answered_ns, -call.low_ns)
            if pair not in self._pairs:
                if len(self._pairs) >= MAX_PAIRS:
                    continue
                self._pairs.add(pair)
            key = *pair, high[0] // CLOCK_CELL_NS
            cell = cells.setdefault(key, [*low, *high, 0])
            if low[1] > cell[1]:
                cell[:2] = low
            if high[1] < cell[3]:
                cell[2:4] = high
            cell[4] += 1
        self._calls.clear()
        return cells


class ClockBounds(Cells):
    """Table ``clock_bounds``; after `add`, `write` has to follow in the same transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db

    def write(self, now_ns: int) -> None:
        """Write the bounds of the added calls, measured now by the collector's clock."""
        self._db.executemany(_ADD, [(*key, *cell, now_ns) for key, cell in self.take().items()])
