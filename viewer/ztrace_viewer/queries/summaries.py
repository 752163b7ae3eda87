"""One trace in a list: its row, and its spans without an end.

One idea: ``traces`` counts the spans that have ended. The few that have not are added when the row is read,
by the same rules by which `ztrace_viewer.trees.tree` builds the whole tree from both.
"""

import time
from collections.abc import Mapping, Sequence

from ztrace_viewer.documents.traces import TraceSummary
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.roots import find_root
from ztrace_viewer.queries.stores.answers import SpanCounts, TraceRow
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.spans import SpanRow

#: State of a trace whose root has ended.
FINISHED = "finished"


def is_before(store: Store, root: SpanRow, row: TraceRow) -> bool:
    """Return whether an open root is its trace's root, and not the ended one that the trace may have too.

    A service that has the root of a trace keeps it, whatever another sends.
    """
    if row.root_span_id is None:
        return True
    if row.service != root.service:
        return False
    start_ns = store.root_start(row)
    return start_ns is None or (root.start_ns, root.span_id) < (start_ns, row.root_span_id)


def is_complete(counts: SpanCounts | None) -> bool:
    """Return whether a tree without open spans is complete: it has a root, and each span its parent.

    Agrees with `ztrace_viewer.trees.tree.build_tree`, without reading the spans into memory. Only circles of
    parents, which no working publisher sends, are left to that function.
    """
    return counts is not None and bool(
        counts.spans
        and counts.spans == counts.ids
        and counts.roots
        and not counts.unfinished
        and not counts.orphans
    )


def summarise_all(store: Store, rows: Sequence[TraceRow]) -> list[TraceSummary]:
    """Return the summaries of traces whose roots have ended."""
    return _summarise(
        store, {row.trace_id: row for row in rows}, [row.trace_id for row in rows], time.time_ns()
    )


def read_summaries(store: Store, trace_ids: Sequence[bytes], now_ns: int) -> list[TraceSummary]:
    """Return the summaries of traces, some of whose spans may not have ended."""
    return _summarise(store, store.traces(trace_ids), trace_ids, now_ns)


def _summarise(
    store: Store, rows: Mapping[bytes, TraceRow], trace_ids: Sequence[bytes], now_ns: int
) -> list[TraceSummary]:
    opened: dict[bytes, list[SpanRow]] = {}
    for span in store.open_spans(trace_ids, now_ns):
        opened.setdefault(span.trace_id, []).append(span)
    counts = store.count_spans([trace_id for trace_id in trace_ids if trace_id not in opened])
    return [
        _describe(store, row, opened.get(trace_id, []), counts.get(trace_id), now_ns)
        if (row := rows.get(trace_id)) is not None
        else _describe_open(opened[trace_id], now_ns)
        for trace_id in trace_ids
    ]


def _describe(
    store: Store, row: TraceRow, opened: list[SpanRow], counts: SpanCounts | None, now_ns: int
) -> TraceSummary:
    named = read_json(row.services)
    summary: TraceSummary = {
        "trace_id": row.trace_id.hex(),
        "service": row.service,
        "name": row.name,
        "start_ns": row.start_ns,
        "duration_ns": row.duration_ns,
        "running_ns": None,
        "state": FINISHED,
        "span_count": row.span_count,
        "unfinished_count": 0,
        "error_count": row.error_count,
        "services": [str(each) for each in named] if isinstance(named, list) else [],
        "complete": not opened and is_complete(counts),
    }
    if not opened:
        return summary
    of_open = _describe_open(opened, now_ns)
    summary["span_count"] += of_open["span_count"]
    summary["unfinished_count"] = of_open["span_count"]
    summary["services"] = sorted({*summary["services"], *of_open["services"]})
    root = find_root(opened)
    if root.parent_id is None and is_before(store, root, row):
        summary["start_ns"] = root.start_ns
        summary["service"], summary["name"] = of_open["service"], of_open["name"]
        summary["duration_ns"], summary["running_ns"] = of_open["duration_ns"], of_open["running_ns"]
        summary["state"] = of_open["state"]
    elif row.root_span_id is None:
        summary["start_ns"] = min(row.start_ns, of_open["start_ns"])
        summary["duration_ns"] = row.end_ns - summary["start_ns"]
    return summary


def _describe_open(opened: list[SpanRow], now_ns: int) -> TraceSummary:
    """Return the summary of a trace of which no span has ended."""
    root = find_root(opened)
    assert root.unfinished is not None
    return {
        "trace_id": root.trace_id.hex(),
        "service": root.service,
        "name": root.name,
        "start_ns": root.start_ns if root.parent_id is None else min(span.start_ns for span in opened),
        "duration_ns": None,
        "running_ns": root.running_ns(now_ns),
        "state": root.unfinished["state"],
        "span_count": len(opened),
        "unfinished_count": len(opened),
        "error_count": 0,
        "services": sorted({span.service for span in opened}),
        "complete": False,
    }
