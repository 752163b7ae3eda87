"""Traces as OTLP, for a response.

One idea: a response is bounded by its spans and by their texts, which may be far larger. The row of a trace
has its number of spans, and spans are read in chunks whose size follows from those read before, so nothing is
read that does not fit.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.export.circles import open_circles
from ztrace_viewer.queries.stores.store import Store

#: Spans in one response: 15 MB of JSON, and for some seconds several times as much memory.
MAX_SPANS = 20_000
#: Bytes of texts in one response (attributes, links, details, exceptions), besides one span.
MAX_BYTES = 4 << 20
#: Spans of the first chunk, and of the largest.
FIRST_CHUNK, MAX_CHUNK = 32, 2_000
#: Traces whose first chunks are read together.
AT_ONCE = 20


class Loaded(NamedTuple):
    """Traces with their spans.

    Attributes:
        requests: one for each trace with spans, in the requested order.
        left_out: number of traces that did not fit into the response.
        cut: the only trace has more than fits; the number of its spans that are there, 0 if all are.
        opened: ids (hex) of spans, by trace (hex), whose parents form a circle and that were made roots.
    """

    requests: list[ExportTraceServiceRequest]
    left_out: int = 0
    cut: int = 0
    opened: Mapping[str, set[str]] = MappingProxyType({})

    @property
    def note(self) -> str:
        """Note on what is missing, empty if nothing is."""
        limit = f"{MAX_SPANS:,} spans and {MAX_BYTES >> 20} MiB of their texts"
        if self.left_out:
            return f"{self.left_out:,} traces left out: a response has at most {limit}"
        return f"the first {self.cut:,} spans of a larger trace: a response has at most {limit}" * bool(
            self.cut
        )


def load_traces(store: Store, trace_ids: Sequence[bytes]) -> Loaded:
    """Return the stored ones of some traces, with all spans, ended or not.

    A first trace that is too large for a response is cut to the spans stored first; others are left out.
    """
    rows = store.traces(trace_ids)
    by_trace: dict[bytes, list[StoredSpan]] = {}
    spans_left, bytes_left, left_out, cut = MAX_SPANS, MAX_BYTES, 0, 0
    for trace_id, firsts in _read_firsts(store, trace_ids):
        is_first = not any(by_trace.values())
        count = rows[trace_id].span_count if trace_id in rows else 0
        if not is_first and (count > spans_left or bytes_left <= 0):
            left_out += 1
            continue
        spans, is_whole = _read(store, trace_id, firsts, spans_left, bytes_left)
        if not is_whole and not is_first:
            left_out += 1
            continue
        by_trace[trace_id] = spans
        cut = cut if is_whole else len(spans)
        spans_left -= len(spans)
        bytes_left -= sum(map(_weigh, spans))
    store.release()  # What follows takes longer than reading.
    builder = Builder(store.process)
    made = {trace_id: builder.request(spans) for trace_id, spans in by_trace.items() if spans}
    return Loaded(
        list(made.values()),
        left_out,
        cut,
        {
            trace_id.hex(): {span_id.hex() for span_id in open_circles(request)}
            for trace_id, request in made.items()
        },
    )


def _read_firsts(
    store: Store, trace_ids: Sequence[bytes]
) -> Iterator[tuple[bytes, tuple[list[StoredSpan], list[StoredSpan]]]]:
    """Yield each trace with its first ended and its first unfinished spans."""
    for at in range(0, len(trace_ids), AT_ONCE):
        chunk = trace_ids[at : at + AT_ONCE]
        ended, opened = (
            store.first_spans(chunk, FIRST_CHUNK, unfinished=unfinished) for unfinished in (False, True)
        )
        for trace_id in chunk:
            yield trace_id, (ended.get(trace_id, []), opened.get(trace_id, []))


def _read(
    store: Store,
    trace_id: bytes,
    firsts: tuple[list[StoredSpan], list[StoredSpan]],
    max_spans: int,
    max_bytes: int,
) -> tuple[list[StoredSpan], bool]:
    """Return the spans of a trace as far as they fit, at least one, and whether these are all."""
    found: list[StoredSpan] = []
    bytes_left = max_bytes
    for unfinished, spans in zip((False, True), firsts, strict=True):
        chunk = FIRST_CHUNK
        while True:
            for span in spans:
                bytes_left -= _weigh(span)
                if found and (bytes_left < 0 or len(found) >= max_spans):
                    return found, False
                found.append(span)
            if len(spans) < chunk:
                break
            after = spans[-1].id
            each = (max_bytes - bytes_left) / len(found)
            chunk = max(
                1,
                min(MAX_CHUNK, max_spans - len(found) + 1, int(bytes_left / each) + 1 if each else MAX_CHUNK),
            )
            spans = store.tree_after(trace_id, after, chunk, unfinished=unfinished)
    return found, True


def _weigh(span: StoredSpan) -> int:
    """Return the bytes of a span's texts."""
    texts = [span.attributes, span.links, span.details]
    if span.exception is not None:
        exception = span.exception
        texts += [exception.message, exception.frames, exception.causes, exception.notes, exception.members]
    return sum(len(text.encode()) for text in texts if text is not None)
