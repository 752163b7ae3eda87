"""Way of an exception: from the incoming call through every process to the origin.

One idea: the way is the chain of parents from the origin up to the root. Only its spans are read in full, and
the callee of a failed call; of the rest of the trace only ids are read.
"""

import time
from collections.abc import Sequence

from ztrace.errors import NotFoundError, SettingsError, quote
from ztrace_viewer.documents.errors import Callee, ErrorDocument, GroupSummary, Hop, Sample
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import Instance, Missing
from ztrace_viewer.queries.exceptions import concerns, find_remote_traceback, read_exceptions
from ztrace_viewer.queries.groups import read_group
from ztrace_viewer.queries.identifiers import is_trace
from ztrace_viewer.queries.losses import read_facts
from ztrace_viewer.queries.stores.answers import Link
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.details import add_stack, read_object
from ztrace_viewer.trees.missing import CIRCLE, REMOTE_KINDS, Orphan, explain_orphan
from ztrace_viewer.trees.spans import STATUS_NAMES, SpanRow

#: Names of occurrences, beside the beginning of a trace id.
FIRST, LATEST = "first", "latest"


def read_error(store: Store, group: str, sample: str = LATEST, now_ns: int | None = None) -> ErrorDocument:
    """Return one group, and the way of one of its occurrences.

    Args:
        store: the store.
        group: the group's whole id; see `ztrace_viewer.queries.identifiers.find_group`.
        sample: FIRST, LATEST, or the beginning of the trace id of one of its samples.
        now_ns: present time, by which a process is silent or not; None for now.

    Raises:
        NotFoundError: there is no such group or sample.
        SettingsError: the beginning of the trace id is ambiguous.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    summary = read_group(store, group)
    shown = _choose(summary, sample)
    trace_id, origin_id = bytes.fromhex(shown["trace_id"]), bytes.fromhex(shown["origin_span_id"])
    exceptions = read_exceptions(store, trace_id, failures=True)
    trace = _Trace(store, trace_id, now_ns)
    way = trace.climb(origin_id)
    origin = way[-1] if way else None
    exception = exceptions.get(origin_id)
    if origin is not None:
        add_stack(exception, read_object(origin.details))
    called = origin is not None and origin.kind == "client"
    return {
        "group": summary,
        "shown": shown,
        "exception": exception,
        "hops": [_hop(row, exceptions.get(row.span_id), shown["origin_span_id"]) for row in way],
        "missing": trace.explain(way[0]) if way else None,
        "failed_ns": origin.end_ns if origin is not None and called else None,
        "callee": trace.find_callee(origin_id) if called else None,
        "remote_traceback": find_remote_traceback(origin.read_attributes()) if origin is not None else None,
    }


class _Trace:
    """Spans of one trace by id, ended or not."""

    def __init__(self, store: Store, trace_id: bytes, now_ns: int) -> None:
        self._store = store
        self._trace_id = trace_id
        self._now_ns = now_ns
        self._open = {span.span_id: span for span in store.open_spans([trace_id], now_ns)}
        #: Parent's id and link, by span id; the first counts if an id is repeated.
        self._parents: dict[bytes, bytes | None] = {}
        self._links: dict[bytes, Link] = {}
        for span in store.links(trace_id):
            self._links.setdefault(span.span_id, span)
            self._parents.setdefault(span.span_id, span.parent_id)
        for opened in self._open.values():
            self._parents.setdefault(opened.span_id, opened.parent_id)

    def climb(self, origin_id: bytes) -> list[SpanRow]:
        """Return the spans from the root down to the origin, or from where a circle of parents begins."""
        way: dict[bytes, None] = {}
        step: bytes | None = origin_id
        while step is not None and step not in way and step in self._parents:
            way[step] = None
            step = self._parents[step]
        return self._read([*way][::-1])

    def explain(self, top: SpanRow) -> Missing | None:
        """Return the reason for which the way begins at a span that is not a root."""
        if top.parent_id is None:
            return None
        if top.parent_id in self._parents:
            return {"reason": CIRCLE, "span_id": top.span_id.hex(), "parent_id": top.parent_id.hex()}
        orphan = Orphan(top.span_id, top.parent_id, top.kind, top.instance_id, top.start_ns, top.end_ns)
        return explain_orphan(orphan, read_facts(self._store, self._trace_id, [orphan], self._now_ns))

    def find_callee(self, span_id: bytes) -> Callee | None:
        """Return the first span in another process below a call."""
        below = self._read([child for child, parent in self._parents.items() if parent == span_id])
        remote = [row for row in below if row.kind in REMOTE_KINDS]
        if not remote:
            return None
        row = min(remote, key=lambda row: row.start_ns)
        return {
            "span_id": row.span_id.hex(),
            "service": row.service,
            "name": row.name,
            "kind": row.kind,
            "start_ns": row.start_ns,
            "duration_ns": row.duration_ns,
            "status": STATUS_NAMES.get(row.status, "ok"),
            "instance": _instance(row),
            "unfinished": row.unfinished,
        }

    def _read(self, span_ids: Sequence[bytes]) -> list[SpanRow]:
        links = [self._links[span_id] for span_id in span_ids if span_id in self._links]
        rows = {**self._open, **self._store.linked_spans(self._trace_id, links)}
        return [rows[span_id] for span_id in span_ids]


def _choose(group: GroupSummary, sample: str) -> Sample:
    """Return the sample with a name or a trace id."""
    samples = group["samples"]
    if sample == FIRST:
        return samples[0]
    if sample == LATEST:
        latest = (group["trace_id"], group["origin_span_id"])
        return next(each for each in samples if (each["trace_id"], each["origin_span_id"]) == latest)
    prefix = sample.strip().lower()
    found = [each for each in samples if is_trace(prefix, each["trace_id"])]
    if not found:
        raise NotFoundError(
            f"no sample {quote(sample)} of error {group['group']}",
            hint="give first, latest, or the beginning of an id under 'samples'",
        )
    if len({each["trace_id"] for each in found}) > 1:
        raise SettingsError(f"{quote(sample)} is ambiguous among the samples", hint="give more digits")
    return found[-1]


def _hop(row: SpanRow, exception: ExceptionDocument | None, origin_span_id: str) -> Hop:
    """Return a span on the way, without an exception of another origin."""
    came = exception if exception is not None and concerns(exception, origin_span_id) else None
    return {
        "span_id": row.span_id.hex(),
        "service": row.service,
        "name": row.name,
        "kind": row.kind,
        "status": STATUS_NAMES.get(row.status, "ok"),
        "instance": _instance(row),
        "how": came["how"] if came else None,
        "type": came["type"] if came else None,
        "message": came["message"] if came else None,
        "frames": came["frames"] if came else [],
        "notes": came["notes"] if came else [],
        "members": came["members"] if came else [],
    }


def _instance(row: SpanRow) -> Instance:
    return {"id": row.instance_id, "host": row.host, "pid": row.pid}
