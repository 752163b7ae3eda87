"""Traces as OTLP, for a response.

One idea: the row of a trace has its number of spans, so a trace is read only if it fits into the response.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_trace_after, read_traces, read_unfinished
from ztrace_viewer.queries.database import release
from ztrace_viewer.queries.pieces import count_spans
from ztrace_viewer.web.jaeger.circles import open_circles

#: Spans in one response: 15 MB of JSON, and for some seconds ten times as much memory.
MAX_SPANS = 20_000


class Loaded(NamedTuple):
    """Traces with their spans.

    Attributes:
        requests: one for each trace with spans, in the requested order.
        left_out: number of traces that did not fit into the response.
        cut: the only trace has more spans than fit.
        opened: ids (hex) of spans, by trace (hex), whose parents form a circle and that were made roots.
    """

    requests: list[ExportTraceServiceRequest]
    left_out: int = 0
    cut: bool = False
    opened: Mapping[str, set[str]] = MappingProxyType({})

    @property
    def note(self) -> str:
        """Note on what is missing, empty if nothing is."""
        if self.left_out:
            return f"{self.left_out:,} traces left out: a response has at most {MAX_SPANS:,} spans"
        return f"the first {MAX_SPANS:,} spans of a larger trace" if self.cut else ""


def load_traces(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> Loaded:
    """Return the stored ones of some traces, with all spans, ended or not.

    A single trace that is too large for a response is cut to the spans stored first.
    """
    counts = count_spans(db, trace_ids)
    chosen: list[bytes] = []
    room = MAX_SPANS
    for trace_id in trace_ids:
        if not chosen or counts.get(trace_id, 0) <= room:
            chosen.append(trace_id)
            room -= counts.get(trace_id, 0)
    by_trace: dict[bytes, list[StoredSpan]] = {trace_id: [] for trace_id in chosen}
    for span in (*_read(db, chosen), *read_unfinished(db, chosen)):
        by_trace[span.trace_id].append(span)
    release(db)  # What follows takes longer than reading.
    builder = Builder(db)
    made = {trace_id: builder.request(spans[:MAX_SPANS]) for trace_id, spans in by_trace.items() if spans}
    return Loaded(
        list(made.values()),
        len(trace_ids) - len(chosen),
        any(len(spans) > MAX_SPANS for spans in by_trace.values()),
        {trace_id.hex(): open_circles(request) for trace_id, request in made.items()},
    )


def _read(db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> list[StoredSpan]:
    if len(trace_ids) == 1:
        # Only a single trace can have more spans than fit.
        return read_trace_after(db, trace_ids[0], 0, MAX_SPANS + 1)
    return read_traces(db, trace_ids)
