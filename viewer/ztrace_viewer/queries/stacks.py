"""Sampled code: of methods over a stretch of time, and of single spans.

One idea: time is summed by the database, and code is looked up only for the stacks that are returned.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_viewer.documents.profile import Behind, Frame, SpanStack, Stack
from ztrace_viewer.queries.stores.conditions import Ranges
from ztrace_viewer.queries.stores.store import Store

#: Names of the states in documents.
STATE_NAMES = {RUN: "run", WAIT: "wait", WAIT_BUSY: "wait_busy"}
#: Most stacks of a method in a document.
MAX_STACKS = 1_000


class Code:
    """Frames of stacks, read as they are asked for."""

    def __init__(self, store: Store) -> None:
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
            found = self._store.frame(stack)
            if found is None:
                self._rows[stack] = None
            else:
                parent, file, function, line = found
                self._rows[stack] = parent, {"file": file, "line": line, "function": function}
        return self._rows[stack]


def read_method_stacks(
    store: Store, ranges: Ranges, methods: Collection[int], most: int = MAX_STACKS
) -> dict[int, list[Stack]]:
    """Return the code of methods, that with the most time first.

    Args:
        store: the store.
        ranges: of `ztrace_viewer.queries.figures.split_range`.
        methods: ids of the methods; one that was not sampled is missing in the result.
        most: stacks of each method; the time of the others follows by state, without code.
    """
    sums: defaultdict[int, dict[tuple[int, int], int]] = defaultdict(dict)
    for sign, method, times in store.method_stacks(ranges, methods):
        of_method = sums[method]
        for stack, state, us in times:
            key = stack, state
            of_method[key] = of_method.get(key, 0) + sign * us
    code = Code(store)
    return {
        method: stacks
        for method, each in sums.items()
        if (stacks := _make_stacks(code, {key: 1_000 * us for key, us in each.items() if us > 0}, most))
    }


def read_run_shares(store: Store, ranges: Ranges, methods: Collection[int]) -> dict[int, float]:
    """Return the share of the sampled time in which code ran, of methods that were sampled.

    The arguments are those of `read_method_stacks`.
    """
    ran, whole = Counter[int](), Counter[int]()
    for sign, method, run_ns, all_ns in store.run_times(ranges, methods):
        ran[method] += sign * run_ns
        whole[method] += sign * all_ns
    return {method: ran[method] / ns for method, ns in whole.items() if ns > 0}


def read_span_stacks(store: Store, trace_id: bytes, span_id: bytes, service: str) -> list[SpanStack]:
    """Return the code of a span, that with the most time first; none if it was not sampled by itself.

    Args:
        store: the store.
        trace_id: of the span.
        span_id: the span.
        service: its service: others may send code under the same ids.
    """
    runs = store.span_runs(trace_id, span_id, service)
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
            behind[key][run.behind[1:]] += run.ns
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
