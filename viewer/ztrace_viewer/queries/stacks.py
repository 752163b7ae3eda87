"""Sampled code: of methods over a stretch of time, and of single spans.

One idea: time is summed by the database, and code is looked up only for the stacks that are returned.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_viewer.documents.profile import Behind, Frame, SpanStack, Stack
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore

#: Names of the states in documents.
STATE_NAMES = {RUN: "run", WAIT: "wait", WAIT_BUSY: "wait_busy"}
#: Most stacks of a method in a document.
MAX_STACKS = 1_000
#: Seconds of the buckets of the two tables.
_MINUTE_S, _HOUR_S = 60, 3600

#: Range of `ztrace_viewer.queries.figures.split_range`.
Range: TypeAlias = tuple[int, int, int, int]

_FRAME = (
    "SELECT parent, file, function, line FROM stacks JOIN frames ON frames.id = frame WHERE stacks.id = ?"
)
_SUMS = "SELECT method, sums FROM {table} WHERE {bucket} IN ({buckets}) AND method IN ({methods})"
_SHARES = (
    "SELECT method, sum(run_ns), sum(run_ns) + sum(wait_ns) + sum(busy_ns) FROM {table}"
    " WHERE {bucket} IN ({buckets}) AND method IN ({methods}) GROUP BY method"
)
#: Numbers from the first to below the second parameter, each looked up in an index.
_BUCKETS = (
    "WITH RECURSIVE each (bucket) AS (SELECT ? WHERE ? < ? UNION ALL"
    " SELECT bucket + 1 FROM each WHERE bucket + 1 < ?) SELECT bucket FROM each"
)
_RUNS = (
    "SELECT runs FROM span_stacks JOIN instances ON instances.id = instance"
    " WHERE trace_id = ? AND span_id = ? AND service = ? ORDER BY span_stacks.id"
)


class _Run(NamedTuple):
    """A stretch of a span's time, with the span that ran meanwhile, None if there is none."""

    stack: int
    state: int
    ns: int
    behind: tuple[str, int] | None


class Code:
    """Frames of stacks, read as they are asked for."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
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
            found = self._store.db.execute(_FRAME, (stack,)).fetchone()
            if found is not None:
                parent, file, function, line = found
                self._rows[stack] = parent, {"file": file, "line": line, "function": function}
            else:
                self._rows[stack] = None
        return self._rows[stack]


def read_method_stacks(
    store: SqliteStore, ranges: Iterable[Range], methods: Collection[int], most: int = MAX_STACKS
) -> dict[int, list[Stack]]:
    """Return the code of methods, that with the most time first.

    Args:
        store: the file's store.
        ranges: of `ztrace_viewer.queries.figures.split_range`.
        methods: ids of the methods; one that was not sampled is missing in the result.
        most: stacks of each method; the time of the others follows by state, without code.
    """
    sums: defaultdict[int, dict[tuple[int, int], int]] = defaultdict(dict)
    for sign, (method, packed) in _read_ranges(store, _SUMS, ranges, methods):
        of_method = sums[method]
        for stack, state, us in _read_sums(packed):
            key = stack, state
            of_method[key] = of_method.get(key, 0) + sign * us
    code = Code(store)
    return {
        method: stacks
        for method, each in sums.items()
        if (stacks := _make_stacks(code, {key: 1_000 * us for key, us in each.items() if us > 0}, most))
    }


def read_run_shares(
    store: SqliteStore, ranges: Iterable[Range], methods: Collection[int]
) -> dict[int, float]:
    """Return the share of the sampled time in which code ran, of methods that were sampled.

    The arguments are those of `read_method_stacks`.
    """
    ran, whole = Counter[int](), Counter[int]()
    for sign, (method, run_ns, all_ns) in _read_ranges(store, _SHARES, ranges, methods):
        ran[method] += sign * run_ns
        whole[method] += sign * all_ns
    return {method: ran[method] / ns for method, ns in whole.items() if ns > 0}


def _read_ranges(
    store: SqliteStore, query: str, ranges: Iterable[Range], methods: Collection[int]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the rows of a query over some ranges, each with the sign of its range."""
    among = ",".join(map(str, sorted(methods)))
    for sign, resolution_s, first, end in ranges if methods else ():
        is_minutes = resolution_s == _MINUTE_S
        table, bucket = ("stack_minutes", "minute") if is_minutes else ("stack_hours", "hour")
        unit_s = _MINUTE_S if is_minutes else _HOUR_S
        first, end = (each * resolution_s // unit_s for each in (first, end))
        statement = query.format(table=table, bucket=bucket, buckets=_BUCKETS, methods=among)
        for row in store.db.execute(statement, (first, first, end, end)):
            yield sign, row


def read_span_stacks(store: SqliteStore, trace_id: bytes, span_id: bytes, service: str) -> list[SpanStack]:
    """Return the code of a span, that with the most time first; none if it was not sampled by itself.

    Args:
        store: the file's store.
        trace_id: of the span.
        span_id: the span.
        service: its service: others may send code under the same ids.
    """
    runs: list[_Run] = []
    for (packed,) in store.db.execute(_RUNS, (trace_id, span_id, service)):
        runs += _read_runs(packed)
    if not runs:
        return []
    methods, code = store.methods(), Code(store)
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


def has_span_stacks(store: SqliteStore) -> bool:
    """Return whether any span has code of its own."""
    return store.db.execute("SELECT 1 FROM span_stacks LIMIT 1").fetchone() is not None


def _make_stacks(code: Code, sums: Mapping[tuple[int, int], int], most: int) -> list[Stack]:
    ordered = sorted(sums.items(), key=lambda each: (-each[1], each[0]))
    rest: defaultdict[int, int] = defaultdict(int)
    for (_, state), ns in ordered[most:]:
        rest[state] += ns
    stacks: list[Stack] = [
        {"frames": code.frames(stack), "state": STATE_NAMES[state], "ns": ns}
        for (stack, state), ns in ordered[:most]
    ]
    return stacks + [{"frames": [], "state": STATE_NAMES[state], "ns": ns} for state, ns in rest.items()]


def _read_sums(packed: object) -> Iterable[tuple[int, int, int]]:
    """Return stack, state and microseconds of each item of a row; none if it is not readable."""
    import msgpack  # Which no query of a file without code needs.

    try:
        flat = msgpack.unpackb(packed)
        columns = flat[::3], flat[1::3], flat[2::3]
        if set(map(type, flat)) <= {int} and set(columns[1]) <= STATE_NAMES.keys():
            return list(zip(*columns, strict=True))
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    return []


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
