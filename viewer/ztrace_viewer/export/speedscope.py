"""Trees as profiles for speedscope, one for each root.

One idea: a profile has the time of the tree where calls run one after the other. Concurrent calls are drawn
one after the other, each with its full duration, and the rest of a span is its own time.

Source: https://www.speedscope.app/file-format-schema.json
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ztrace import __version__
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.trees.forest import Forest, arrange, name_span

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_OPEN, _CLOSE = "O", "C"


class SpeedscopeWriter:
    """Writer of a file, tree by tree, which keeps the names of frames only."""

    def __init__(self) -> None:
        self._frames: dict[str, int] = {}
        self._first = True

    def begin(self) -> str:
        """Return the beginning of the file."""
        head = {"$schema": _SCHEMA, "exporter": f"ztrace@{__version__}", "name": "ztrace"}
        return json.dumps(head)[:-1] + ', "profiles": ['

    def add(self, spans: Sequence[StoredSpan]) -> Iterator[str]:
        """Yield the part of the file for a tree: a profile for each root."""
        forest = arrange(spans)
        for root in forest.roots:
            yield "\n" if self._first else ",\n"
            self._first = False
            yield json.dumps(self._make_profile(forest, root), ensure_ascii=False)

    def end(self) -> str:
        """Return the end of the file."""
        frames = [{"name": name} for name in self._frames]
        return f'\n], "shared": {json.dumps({"frames": frames}, ensure_ascii=False)}}}\n'

    def _make_profile(self, forest: Forest, root: int) -> dict[str, object]:
        span = forest.spans[root]
        began = datetime.fromtimestamp(span.start_ns // SECOND_NS, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        events = list(self._make_events(forest, root))
        return {
            "type": "evented",
            "name": f"{name_span(span)} {format_duration(span.duration_ns)} {began} {span.trace_id.hex()}",
            "unit": "nanoseconds",
            "startValue": 0,
            "endValue": events[-1]["at"],
            "events": events,
        }

    def _make_events(self, forest: Forest, root: int) -> Iterator[dict[str, object]]:
        at_ns = 0
        #: Position, next child and end of the time drawn so far, of each open span.
        opened: list[tuple[int, int, int]] = []

        def open_span(position: int) -> dict[str, object]:
            opened.append((position, 0, forest.spans[position].start_ns))
            return {"type": _OPEN, "frame": self._number(forest.spans[position]), "at": at_ns}

        yield open_span(root)
        while opened:
            position, place, told_ns = opened.pop()
            span, children = forest.spans[position], forest.children[position]
            end_ns = span.start_ns + span.duration_ns
            if place == len(children):
                at_ns += max(0, end_ns - told_ns)
                yield {"type": _CLOSE, "frame": self._number(span), "at": at_ns}
                continue
            child = forest.spans[children[place]]
            if child.kind != "consumer":
                # A consumer does not take time from its producer.
                begin_ns = min(max(child.start_ns, told_ns), end_ns)
                at_ns += max(0, begin_ns - told_ns)
                told_ns = max(told_ns, min(child.start_ns + child.duration_ns, end_ns), begin_ns)
            opened.append((position, place + 1, told_ns))
            yield open_span(children[place])

    def _number(self, span: StoredSpan) -> int:
        return self._frames.setdefault(name_span(span), len(self._frames))
