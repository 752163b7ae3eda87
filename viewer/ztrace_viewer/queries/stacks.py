"""Sampled code: of methods over a stretch of time, and of single spans.

One idea: time is summed by the database, and code is looked up only for the stacks that are returned.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_viewer.documents.profile import Behind, Frame, SpanStack, Stack
from ztrace_viewer.queries.names import read_methods

#: Names of the states in documents.
STATE_NAMES = {RUN: "run", WAIT: "wait", WAIT_BUSY: "wait_busy"}
#: Stacks returned of a method; the time of the others is returned without code.
MAX_STACKS = 1_000
#: Seconds of the buckets of the two tables.
_MINUTE_S, _HOUR_S = 60, 3600

_FRAME = (
    "SELECT parent, file, function, line FROM stacks JOIN frames ON frames.id = frame WHERE stacks.id = ?"
)
_MINUTES = "SELECT method, sums FROM stack_minutes WHERE minute IN ({buckets}) AND method IN ({methods})"
_HOURS = (
    "SELECT method, stack, state, sum(ns) FROM stack_hours WHERE hour IN ({buckets})"
    " AND method IN ({methods}) GROUP BY method, stack, state"
)
#: Numbers from the first to below the second parameter, each looked up in an index.
_BUCKETS = (
    "WITH RECURSIVE each (bucket) AS (SELECT ? WHERE ? < ? UNION ALL"
    " SELECT bucket + 1 FROM each WHERE bucket + 1 < ?) SELECT bucket FROM each"
)
_RUNS = "SELECT runs FROM span_stacks WHERE trace_id = ? AND span_id = ? ORDER BY id"


class _Run(NamedTuple):
    """A stretch of a span's time, with the span that ran meanwhile, None if there is none."""

    stack: int
    state: int
    ns: int
    behind: tuple[str, int] | None


class Code:
    """Frames of stacks, read as they are asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._rows: dict[int, tuple[int, Frame] | None] = {}

    def frames(self, stack: int) -> list[Frame]:
        """Return the frames of a stack, outermost first; none where the code is unknown."""
        frames: list[Frame] = []
        while row := self._read(stack):
            # A parent is stored before its stack; a damaged file must not make a circle.
            if row[0] >= stack:
                break
            stack = row[0]
            frames.append(row[1])
        return frames[::-1]

    def _read(self, stack: int) -> tuple[int, Frame] | None:
        if stack not in self._rows:
            found = self._db.execute(_FRAME, (stack,)).fetchone()
            if found is not None:
                parent, file, function, line = found
                self._rows[stack] = parent, {"file": file, "line": line, "function": function}
            else:
                self._rows[stack] = None
        return self._rows[stack]


def read_method_stacks(
    db: sqlite3.Connection, ranges: Iterable[tuple[int, int, int, int]], methods: Collection[int]
) -> dict[int, list[Stack]]:
    """Return the code of methods, that with the most time first.

    Args:
        db: the database.
        ranges: of `ztrace_viewer.queries.figures.split_range`.
        methods: ids of the methods; one that was not sampled is missing in the result.
    """
    if not methods:
        return {}
    sums: defaultdict[int, defaultdict[tuple[int, int], int]] = defaultdict(lambda: defaultdict(int))
    named = {"buckets": _BUCKETS, "methods": ",".join(map(str, sorted(methods)))}
    for sign, resolution_s, first, end in ranges:
        if resolution_s == _MINUTE_S:
            for method, packed in db.execute(_MINUTES.format(**named), (first, first, end, end)):
                for stack, state, us in _read_sums(packed):
                    sums[method][stack, state] += sign * 1_000 * us
            continue
        first, end = (each * resolution_s // _HOUR_S for each in (first, end))
        for method, stack, state, ns in db.execute(_HOURS.format(**named), (first, first, end, end)):
            if state in STATE_NAMES:
                sums[method][stack, state] += sign * ns
    code = Code(db)
    return {
        method: stacks
        for method, each in sums.items()
        if (stacks := _make_stacks(code, {key: ns for key, ns in each.items() if ns > 0}))
    }


def read_span_stacks(db: sqlite3.Connection, trace_id: bytes, span_id: bytes) -> list[SpanStack]:
    """Return the code of a span, that with the most time first; none if it was not sampled by itself."""
    runs: list[_Run] = []
    for (packed,) in db.execute(_RUNS, (trace_id, span_id)):
        runs += _read_runs(packed)
    if not runs:
        return []
    methods, code = read_methods(db), Code(db)
    sums: defaultdict[tuple[int, int], int] = defaultdict(int)
    behind: defaultdict[tuple[int, int], defaultdict[tuple[str, int], int]] = defaultdict(
        lambda: defaultdict(int)
    )
    for run in runs:
        key = run.stack, run.state
        sums[key] += run.ns
        if run.behind is not None:
            behind[key][run.behind] += run.ns
    stacks: list[SpanStack] = []
    for key, ns in sorted(sums.items(), key=lambda each: (-each[1], each[0])):
        others: list[Behind] = []
        for (other_id, method), other_ns in sorted(behind[key].items(), key=lambda each: -each[1]):
            named = methods.get(method)
            service, name = ("", "") if named is None else (named.service, named.name)
            others.append({"span_id": other_id, "service": service, "name": name, "ns": other_ns})
        stack, state = key
        stacks.append({"frames": code.frames(stack), "state": STATE_NAMES[state], "ns": ns, "behind": others})
    return stacks


def has_span_stacks(db: sqlite3.Connection) -> bool:
    """Return whether any span has code of its own."""
    return db.execute("SELECT 1 FROM span_stacks LIMIT 1").fetchone() is not None


def share_of_runs(stacks: Sequence[Stack]) -> float | None:
    """Return the share of the sampled time in which code ran, None without any."""
    whole = sum(stack["ns"] for stack in stacks)
    ran = sum(stack["ns"] for stack in stacks if stack["state"] == STATE_NAMES[RUN])
    return ran / whole if whole else None


def _make_stacks(code: Code, sums: Mapping[tuple[int, int], int]) -> list[Stack]:
    ordered = sorted(sums.items(), key=lambda each: (-each[1], each[0]))
    rest: defaultdict[int, int] = defaultdict(int)
    for (_, state), ns in ordered[MAX_STACKS:]:
        rest[state] += ns
    stacks: list[Stack] = [
        {"frames": code.frames(stack), "state": STATE_NAMES[state], "ns": ns}
        for (stack, state), ns in ordered[:MAX_STACKS]
    ]
    return stacks + [{"frames": [], "state": STATE_NAMES[state], "ns": ns} for state, ns in rest.items()]


def _read_sums(packed: object) -> Iterator[tuple[int, int, int]]:
    """Yield stack, state and microseconds of a row; none if it is not readable."""
    import msgpack  # Which no query of a file without code needs.

    try:
        flat = msgpack.unpackb(packed)
        columns = [list(map(int, flat[place::3])) for place in range(3)]
        rows = list(zip(*columns, strict=True))
    except (ValueError, TypeError, AttributeError, msgpack.UnpackException):
        return
    for stack, state, us in rows:
        if state in STATE_NAMES:
            yield stack, state, us


def _read_runs(packed: object) -> list[_Run]:
    """Return the runs of a row, none if it is not readable: a damaged file can hold anything."""
    import msgpack

    try:
        flat, others = msgpack.unpackb(packed)
        spans = [None, *((span_id.hex(), int(method)) for _, span_id, method in others)]
        return [
            _Run(int(stack), state, 1_000 * us, spans[other])
            for stack, state, us, other in zip(*(flat[place::4] for place in range(4)), strict=True)
            if state in STATE_NAMES and type(us) is int
        ]
    except (ValueError, TypeError, AttributeError, IndexError, msgpack.UnpackException):
        return []
