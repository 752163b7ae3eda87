"""Trees as Chrome trace events, which Perfetto opens: a track per process, with lanes for overlapping calls.

One idea: within a lane calls nest, as in a thread. A span that does not nest in its caller, because it is in
another process, overlaps a sibling, or is longer than the caller, gets a lane that is free at its time, and
an arrow leads to it.

Source: "Trace Event Format", the document of Chrome's trace viewer.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ztrace.records import ERROR, UNFINISHED
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.forest import Forest, arrange, name_span
from ztrace_viewer.trees.lanes import Block, Lanes, find_blocks
from ztrace_viewer.trees.spans import STATUS_NAMES

#: Category of arrows.
_FLOW = "call"


class _Arrows(NamedTuple):
    """Positions at which arrows end, by the position at which they begin, and all ends."""

    by_begin: dict[int, list[int]]
    ends: set[int]


class ChromeWriter:
    """Writer of a file, tree by tree in the order in which they began."""

    def __init__(self, store: Store, start_ns: int) -> None:
        """Start a file of trace events.

        Args:
            store: database with the names of the processes.
            start_ns: start of the first tree, the origin of times: microseconds since 1970 are too large for
                a fraction in a double.
        """
        self._store = store
        self._start_ns = start_ns
        self._lanes: dict[int, Lanes] = {}
        self._first = True

    def begin(self) -> str:
        """Return the beginning of the file."""
        head = {"displayTimeUnit": "ms", "otherData": {"start_ns": str(self._start_ns), "made_by": "ztrace"}}
        return f'{json.dumps(head)[:-1]}, "traceEvents": ['

    def add(self, spans: Sequence[StoredSpan]) -> Iterator[str]:
        """Yield the part of the file for a tree."""
        for event in self._make_events(arrange(spans)):
            yield ("\n" if self._first else ",\n") + json.dumps(event)
            self._first = False

    def end(self) -> str:
        """Return the end of the file."""
        return "\n]}\n"

    def _make_events(self, forest: Forest) -> Iterator[dict[str, object]]:
        if not forest.spans:
            return
        blocks = find_blocks(forest)
        block_of = {position: number for number, block in enumerate(blocks) for position in block.positions}
        arrows = _find_arrows(forest, block_of)
        for block in blocks:
            lanes = self._lanes.get(block.instance)
            if lanes is None:
                lanes = self._lanes[block.instance] = Lanes()
                yield self._name_process(block.instance)
            known = len(lanes)
            lane = lanes.place(block)
            if lane == known:
                yield _name_lane(block.instance, lane)
            yield from self._make_block(forest, block, lane, arrows)

    def _make_block(
        self, forest: Forest, block: Block, lane: int, arrows: _Arrows
    ) -> Iterator[dict[str, object]]:
        """Yield a block's events as begins and ends, which keep the order of equal times."""
        place: dict[str, object] = {"pid": block.instance, "tid": lane + 1}
        opened: list[int] = []
        for position in block.positions:
            span = forest.spans[position]
            while opened and _end_ns(forest.spans[opened[-1]]) <= span.start_ns:
                yield {"ph": "E", "ts": self._time(_end_ns(forest.spans[opened.pop()])), **place}
            opened.append(position)
            at = self._time(span.start_ns)
            yield {**_describe(span), "ph": "B", "ts": at, **place}
            if position in arrows.ends:
                yield {**_arrow(span), "ph": "f", "bp": "e", "ts": at, **place}
            for end in arrows.by_begin.get(position, ()):
                yield {**_arrow(forest.spans[end]), "ph": "s", "ts": at, **place}
            yield from self._make_instants(span, place)
        while opened:
            yield {"ph": "E", "ts": self._time(_end_ns(forest.spans[opened.pop()])), **place}

    def _make_instants(self, span: StoredSpan, place: dict[str, object]) -> Iterator[dict[str, object]]:
        details = read_json(span.details)
        events = details.get("events") if isinstance(details, dict) else None
        for event in events if isinstance(events, list) else ():
            if isinstance(event, dict) and type(event.get("time_ns")) is int:
                at = self._time(event["time_ns"])
                args = event.get("attributes") or {}
                yield {"name": str(event.get("name")), "ph": "i", "s": "t", "ts": at, **place, "args": args}

    def _name_process(self, instance: int) -> dict[str, object]:
        process = self._store.process(instance)
        name = "?" if process is None else process.service
        if process is not None and (process.pid or process.host):
            known = (
                f"pid {process.pid}" if process.pid else "",
                f"on {process.host}" if process.host else "",
            )
            name += f" ({' '.join(part for part in known if part)})"
        return {"name": "process_name", "ph": "M", "pid": instance, "args": {"name": name}}

    def _time(self, at_ns: int) -> float:
        return (at_ns - self._start_ns) / 1000


def _find_arrows(forest: Forest, block_of: dict[int, int]) -> _Arrows:
    """Return the arrows to spans in another block than their caller or linked span."""
    by_id = {span.span_id: position for position, span in enumerate(forest.spans)}
    arrows = _Arrows({}, set())
    for position, (span, begin) in enumerate(zip(forest.spans, forest.parents, strict=True)):
        if begin is None:
            begin = _find_linked(span, by_id)
        if begin is not None and block_of[begin] != block_of[position]:
            arrows.by_begin.setdefault(begin, []).append(position)
            arrows.ends.add(position)
    return arrows


def _find_linked(span: StoredSpan, by_id: dict[bytes, int]) -> int | None:
    """Return the position of the first span of the tree that a span is linked to."""
    trace_id = span.trace_id.hex()
    linked = [link.get("span_id") for link in _read_links(span) if link.get("trace_id") == trace_id]
    return next((by_id[found] for text in linked if text and (found := bytes.fromhex(text)) in by_id), None)


def _read_links(span: StoredSpan) -> list[dict[str, str]]:
    links = read_json(span.links)
    return [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []


def _name_lane(instance: int, lane: int) -> dict[str, object]:
    return {
        "name": "thread_name",
        "ph": "M",
        "pid": instance,
        "tid": lane + 1,
        "args": {"name": f"lane {lane + 1}"},
    }


def _describe(span: StoredSpan) -> dict[str, object]:
    args: dict[str, object] = {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "status": STATUS_NAMES.get(span.status, "ok"),
    }
    if span.exception is not None:
        args["exception"] = f"{span.exception.type}: {span.exception.message}"
    attributes = read_json(span.attributes)
    if attributes:
        args["attributes"] = attributes
    described: dict[str, object] = {"name": name_span(span), "cat": span.kind, "args": args}
    if span.status == ERROR:
        described["cname"] = "terrible"
    elif span.status == UNFINISHED:
        described["cname"] = "grey"
    return described


def _arrow(target: StoredSpan) -> dict[str, object]:
    return {"name": _FLOW, "cat": _FLOW, "id": f"{target.trace_id.hex()}{target.span_id.hex()}"}


def _end_ns(span: StoredSpan) -> int:
    return span.start_ns + span.duration_ns
