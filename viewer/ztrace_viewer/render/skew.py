"""Clocks that differ: as calls have measured it, and as far as the times of a call tree show it.

One idea: a call is served within itself. A span of another process that begins before its caller, or long
after its caller's end, was timed by another clock, and so was everything below it in that process. Measured
offsets are taken out first, so what still shows has not been measured.
"""

from collections.abc import Iterator

from ztrace_collector.layout import MINUTE_NS
from ztrace_viewer.documents.trees import Clock, SpanDocument, TreeDocument
from ztrace_viewer.render.gaps import end_so_far
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.tree import walk

#: Difference that is ignored: clocks set by a network agree to some milliseconds, and tracers round.
_IGNORED_NS = 10_000_000
#: Time after its caller's end at which a span may begin: callers give up, and queues are long.
_LATE_NS = MINUTE_NS
#: Distance of a root from the start of its tree that only a wrong clock explains.
_FAR_NS = 24 * 60 * MINUTE_NS
#: Hosts whose clocks are told.
_SHOWN = 3


def find_start(span: SpanDocument) -> int:
    """Return the start of a span by the clock of the root's host."""
    clock = span["instance"]["clock"]
    return span["start_ns"] if clock is None else span["start_ns"] - clock["offset_ns"]


def find_end(span: SpanDocument, now_ns: int) -> int:
    """Return the end of a span so far by the clock of the root's host."""
    return find_start(span) + end_so_far(span, now_ns) - span["start_ns"]


def tell_clocks(tree: TreeDocument) -> str:
    """Return a line on the hosts whose clocks are measured to differ from the root's; empty without any."""
    clocks: dict[str, Clock] = {}
    services: dict[str, set[str]] = {}
    for span, _ in walk(tree["roots"]):
        host, clock = span["instance"]["host"], span["instance"]["clock"]
        if clock is not None and not clock["low_ns"] <= 0 <= clock["high_ns"]:
            clocks[host] = clock
            services.setdefault(host, set()).add(span["service"])
    told = []
    for host in sorted(clocks, key=lambda host: (-abs(clocks[host]["offset_ns"]), host)):
        clock, offset_ns = clocks[host], clocks[host]["offset_ns"]
        error_ns = max(clock["high_ns"] - offset_ns, offset_ns - clock["low_ns"])
        apart = f"{'-' if offset_ns < 0 else '+'}{format_duration(abs(offset_ns))}"
        names = ", ".join(clean(service) for service in sorted(services[host]))
        calls = plural(clock["calls"], "call")
        told.append(f"{names} {apart} ±{format_duration(error_ns)}, measured by {calls}")
    more = f"; {plural(len(told) - _SHOWN, 'more host')}" if len(told) > _SHOWN else ""
    return f"clocks: {'; '.join(told[:_SHOWN])}{more}" if told else ""


def find_skewed(tree: TreeDocument) -> dict[int, tuple[SpanDocument | None, int]]:
    """Return the spans that another clock timed, each with its caller and its distance, by identity.

    The caller of a root is None, and its distance is that from the start of the tree. The distance of a span
    that begins before is negative.
    """
    skewed: dict[int, tuple[SpanDocument | None, int]] = {}
    for root in tree["roots"]:
        distance_ns = find_start(root) - tree["start_ns"]
        if abs(distance_ns) > _FAR_NS:
            skewed[id(root)] = None, distance_ns
    for caller, _ in walk(tree["roots"]):
        for span in caller["children"]:
            if distance_ns := _distance(span, caller):
                skewed[id(span)] = caller, distance_ns
    return skewed


def walk_timed(tree: TreeDocument) -> Iterator[SpanDocument]:
    """Yield the spans of a tree, without those timed by another clock and those below them."""
    skewed = find_skewed(tree)
    pending = list(tree["roots"])
    while pending:
        span = pending.pop()
        if id(span) not in skewed:
            yield span
            pending.extend(span["children"])


def tell_skew(tree: TreeDocument) -> str:
    """Return a line on the clock that differs most, empty if the times of a tree show none."""
    skewed = find_skewed(tree)
    if not skewed:
        return ""
    by_id = {id(span): span for span, _ in walk(tree["roots"])}
    most, (caller, distance_ns) = max(skewed.items(), key=lambda item: abs(item[1][1]))
    span = by_id[most]
    name = name_call(span["service"], span["name"], span["kind"])
    apart, side = format_duration(abs(distance_ns)), "before" if distance_ns < 0 else "after"
    if caller is None:
        told = f"{name} begins {apart} {side} the others"
    else:
        its = name_call(caller["service"], caller["name"], caller["kind"])
        told = f"{name} begins {apart} {side} its caller {its}{'' if distance_ns < 0 else ' has ended'}"
    more = f", and {plural(len(skewed) - 1, 'more span')}" if len(skewed) > 1 else ""
    return f"clocks differ: {told}{more}"


def _distance(span: SpanDocument, caller: SpanDocument) -> int:
    """Return by how much a span begins before its caller, negative, or late after its end; 0 if neither."""
    if span["instance"]["id"] == caller["instance"]["id"]:
        return 0
    early_ns = find_start(span) - find_start(caller)
    if early_ns < -_IGNORED_NS:
        return early_ns
    if span["kind"] == "consumer" or caller["duration_ns"] is None:
        return 0
    late_ns = early_ns - caller["duration_ns"]
    return late_ns if late_ns > _LATE_NS else 0
