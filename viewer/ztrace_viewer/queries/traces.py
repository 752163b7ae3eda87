"""The slowest call trees, and one tree in full.

One idea: a store has one row per trace with ended spans, and finds the slowest of them. Traces with an open
root are few, and compared one by one.
"""

import heapq
import time
from collections.abc import Mapping
from typing import NamedTuple

from ztrace.errors import DatabaseCorrupt, ZtraceError
from ztrace_viewer.documents.traces import SlowDocument
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.clocks import read_offsets
from ztrace_viewer.queries.exceptions import Raised, read_exceptions, read_raised
from ztrace_viewer.queries.losses import read_facts
from ztrace_viewer.queries.names import find_methods
from ztrace_viewer.queries.roots import find_root
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.answers import TraceRow
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.summaries import is_before, read_summaries
from ztrace_viewer.trees.arrangement import Arrangement, arrange, find_orphans
from ztrace_viewer.trees.clocks import NO_OFFSETS, Offset
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.missing import Facts
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.tree import build_tree

#: Spans of a tree in columns: a quarter of a gigabyte of memory, and more than a person looks through.
MAX_SPANS = 300_000


def list_slowest(
    store: Store,
    selection: Selection = EVERYTHING,
    limit: int = 20,
    now_ns: int | None = None,
    *,
    errors: bool = False,
) -> SlowDocument:
    """Return the slowest call trees that began in the selection's time, the slowest first.

    Service and method of the selection are the root's. An open root counts with its time so far. With
    ``errors``, a span of the tree has failed.
    """
    methods = find_methods(store, selection)
    if methods == []:
        return {"traces": []}
    now_ns = time.time_ns() if now_ns is None else now_ns
    opened = _read_open_roots(store, now_ns)
    hidden = {row.trace_id for _, row in opened if row is not None}
    found = [
        (root.running_ns(now_ns), root.trace_id)
        for root, row in opened
        if _is_selected(root, row, selection) and (not errors or (row is not None and row.error_count))
    ] + store.slowest(selection, methods, limit, hidden=hidden, errors=errors)
    slowest = heapq.nlargest(limit, found)
    return {"traces": read_summaries(store, [trace_id for _, trace_id in slowest], now_ns)}


def _read_open_roots(store: Store, now_ns: int) -> list[tuple[SpanRow, TraceRow | None]]:
    """Return the open roots, each with its trace's row, None if no span of the trace has ended.

    In a trace without a root and without an ended span, the earliest span takes the place of the root.
    """
    by_trace: dict[bytes, list[SpanRow]] = {}
    for span in store.open_roots(now_ns):
        by_trace.setdefault(span.trace_id, []).append(span)
    opened = []
    rows = store.traces(by_trace)
    for trace_id, spans in by_trace.items():
        root, row = find_root(spans), rows.get(trace_id)
        if row is None or is_before(store, root, row):
            opened.append((root, row))
    return opened


def _is_selected(root: SpanRow, row: TraceRow | None, selection: Selection) -> bool:
    start_ns = root.start_ns
    return (
        selection.service in (None, root.service)
        and selection.method in (None, root.name)
        and (selection.since_ns is None or start_ns >= selection.since_ns)
        and (selection.until_ns is None or start_ns < selection.until_ns)
    )


def read_tree(
    store: Store, trace_id: bytes, now_ns: int | None = None, *, measured: bool = True
) -> TreeDocument:
    """Return one call tree.

    Args:
        store: the store.
        trace_id: 16 bytes; see `ztrace_viewer.queries.identifiers.find_trace`.
        now_ns: present time, by which a process is silent or not; None for now.
        measured: apply the measured offsets of the clocks.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    opened = store.open_spans([trace_id], now_ns)
    rows = [*store.spans(trace_id), *opened]
    beside = _read_beside(store, trace_id, Spans.of(rows), opened, now_ns, measured=measured)
    exceptions = read_exceptions(store, trace_id)
    store.release()  # Building and drawing a large tree takes longer than reading it.
    return build_tree(trace_id, rows, exceptions, *beside)


def read_arrangement(
    store: Store, trace_id: bytes, now_ns: int, *, measured: bool = True
) -> tuple[Arrangement, dict[bytes, Raised]]:
    """Return one call tree without what only one span in full shows, and what ended its spans.

    Args:
        store: the store.
        trace_id: 16 bytes.
        now_ns: as in `read_tree`.
        measured: as in `read_tree`.

    Raises:
        ZtraceError: the tree has more than `MAX_SPANS` spans.
    """
    row = store.traces([trace_id]).get(trace_id)
    if row is not None and row.span_count > MAX_SPANS:
        raise ZtraceError(
            f"this tree has {row.span_count:,} spans, and {MAX_SPANS:,} are shown at most",
            hint=f"'ztrace export {trace_id.hex()}' writes all of it",
        )
    opened = store.open_spans([trace_id], now_ns)
    spans = store.columns(trace_id).followed_by(Spans.of(opened))
    beside = _read_beside(store, trace_id, spans, opened, now_ns, measured=measured)
    raised = read_raised(store, trace_id)
    store.release()
    return arrange(spans, *beside), raised


class _Beside(NamedTuple):
    """What a tree is built from beside its spans."""

    facts: Facts
    root_service: str | None
    offsets: Mapping[str, Offset]


def _read_beside(
    store: Store,
    trace_id: bytes,
    spans: Spans,
    opened: list[SpanRow],
    now_ns: int,
    *,
    measured: bool,
) -> _Beside:
    if not spans.span_id:
        raise DatabaseCorrupt(
            f"trace {trace_id.hex()} cannot be shown: its spans are damaged",
            hint="look in a copy of the file",
        )
    orphans = find_orphans(spans)
    facts = read_facts(store, trace_id, orphans, now_ns) if orphans else Facts(now_ns)
    root_service = _find_root_service(store.traces([trace_id]).get(trace_id), opened)
    return _Beside(facts, root_service, read_offsets(store, spans) if measured else NO_OFFSETS)


def _find_root_service(row: TraceRow | None, opened: list[SpanRow]) -> str | None:
    """Return the service whose root is the trace's, None if no service has one."""
    if row is not None and row.root_span_id is not None:
        return row.service
    root = find_root(opened) if opened else None
    return root.service if root is not None and root.parent_id is None else None
