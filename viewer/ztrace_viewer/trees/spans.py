"""A span as stored, with its method and its process, and as a document."""

from typing import NamedTuple

from ztrace.records import ERROR, OK, UNFINISHED
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.trees import SpanDocument, UnfinishedState
from ztrace_viewer.trees.details import (
    add_stack,
    read_count,
    read_dropped,
    read_events,
    read_links,
    read_object,
    read_scope,
    read_status_message,
    read_text,
)
from ztrace_viewer.trees.states import RUNNING

#: Names of the status numbers in documents.
STATUS_NAMES = {OK: "ok", ERROR: "error", UNFINISHED: "unfinished"}


class SpanRow(NamedTuple):
    """A row of ``spans`` or ``unfinished_spans``, joined with its method and its process.

    `ztrace_viewer.queries` derives its statements from these fields; a test compares them with those of
    `ztrace.records.Span`.

    Attributes:
        attributes: JSON object, None if there are none.
        links: JSON array, None if there are none.
        lane: that of `ztrace.records.Span`.
        resource: JSON object with the attributes of the process, None if there are none.
        details: JSON object with what only OpenTelemetry records, None if there is none.
        unfinished: state of a span without an end.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    service: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    self_ns: int | None
    cpu_ns: int | None
    lane: int | None
    status: int
    attributes: str | None
    links: str | None
    details: str | None
    instance_id: str
    host: str
    pid: int
    resource: str | None
    unfinished: UnfinishedState | None

    @property
    def end_ns(self) -> int:
        """End of the span, Unix; its start while it has no end."""
        return self.start_ns + (self.duration_ns or 0)

    def running_ns(self, now_ns: int) -> int:
        """Return the time from the start to now, or to the last sign of life; for a span without an end."""
        assert self.unfinished is not None
        is_running = self.unfinished["state"] == RUNNING
        return max(0, (now_ns if is_running else self.unfinished["last_seen_ns"]) - self.start_ns)

    def read_attributes(self) -> dict[str, object]:
        """Return the attributes, empty where the column does not hold an object."""
        return read_object(self.attributes)


def make_span(row: SpanRow, exception: ExceptionDocument | None) -> SpanDocument:
    """Return a span's document, without children."""
    details = read_object(row.details)
    add_stack(exception, details)
    return {
        "span_id": row.span_id.hex(),
        "parent_id": None if row.parent_id is None else row.parent_id.hex(),
        "service": row.service,
        "name": row.name,
        "kind": row.kind,
        "start_ns": row.start_ns,
        "duration_ns": row.duration_ns,
        "self_ns": row.self_ns,
        "critical_ns": None,
        "cpu_ns": row.cpu_ns,
        "status": STATUS_NAMES.get(row.status, "ok"),
        "status_message": read_status_message(details),
        "instance": {"id": row.instance_id, "host": row.host, "pid": row.pid, "clock": None},
        "attributes": row.read_attributes(),
        "events": read_events(details),
        "links": read_links(row.links, details),
        "scope": read_scope(details),
        "trace_state": read_text(details.get("trace_state")),
        "flags": read_count(details.get("flags")),
        "dropped": read_dropped(details),
        "resource": read_object(row.resource),
        "unfinished": row.unfinished,
        "exception": exception,
        "children": [],
    }
