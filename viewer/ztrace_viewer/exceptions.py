"""Exceptions as stored, as documents: in a span, as groups, and one group with the way it travelled.

One idea: an exception is stored once, at its origin, and every other span it passed refers to that one; so a
group's count is a count of origins, and the way is read from the spans above the origin.
"""

import sqlite3
from collections.abc import Mapping

from ztrace_viewer.documents import (
    ErrorDocument,
    ErrorsDocument,
    ExceptionDocument,
    Frame,
    GroupSummary,
    Hop,
)
from ztrace_viewer.json_text import read_json
from ztrace_viewer.selection import EVERYTHING, Selection, match_names

#: Causes shown below each other; the agent records eight.
_MAX_CAUSES = 16
_MINUTE_NS = 60_000_000_000

_GROUP_COLUMNS = (
    "fingerprint, type, message, service, name, kind, first_ns, last_ns, trace_id, origin_span_id, frames"
)


def read_exceptions(db: sqlite3.Connection, trace_id: bytes) -> dict[bytes, ExceptionDocument]:
    """Return the exceptions of one trace by the span they ended."""
    rows = db.execute(
        "SELECT span_id, origin_trace_id, exceptions.origin_span_id, fingerprint, how, exceptions.type,"
        " exceptions.message, exceptions.frames, causes FROM exceptions"
        " LEFT JOIN exception_groups ON exception_groups.id = exception_group"
        " WHERE exceptions.trace_id = ? ORDER BY exceptions.id",
        (trace_id,),
    )
    found: dict[bytes, ExceptionDocument] = {}
    for span_id, origin_trace, origin_span, group, how, type_, message, frames, causes in rows:
        document: ExceptionDocument = {
            "type": type_,
            "message": message,
            "how": how,
            "origin": (origin_trace, origin_span) == (trace_id, span_id),
            "origin_span_id": origin_span.hex(),
            "group": group or "",
            "frames": read_frames(read_json(frames)),
            "causes": [],
        }
        document["causes"] = _causes(read_json(causes), document, _MAX_CAUSES)
        found.setdefault(span_id, document)
    return found


def read_frames(stored: object) -> list[Frame]:
    """Return frames from the JSON a collector stored, leaving out what is none."""
    if not isinstance(stored, list):
        return []
    return [
        {
            "file": str(frame.get("file", "")),
            "line": line if isinstance(line := frame.get("line"), int) else 0,
            "function": str(frame.get("function", "")),
            "code": str(frame.get("code", "")),
            "in_app": bool(frame.get("in_app")),
        }
        for frame in stored
        if isinstance(frame, Mapping)
    ]


def list_groups(
    db: sqlite3.Connection, selection: Selection = EVERYTHING, limit: int | None = None
) -> ErrorsDocument:
    """Return the exception groups of a selection, the newest first.

    Within a stretch of time a group's count is that of the minutes it touches, whole minutes at both ends.
    """
    conditions, values = match_names(selection, "service", "name")
    count = "count"
    counted: list[object] = []
    if selection.in_time:
        count = (
            "(SELECT sum(m.count) FROM exception_minutes AS m"
            " WHERE m.exception_group = exception_groups.id AND minute BETWEEN ? AND ?)"
        )
        first = (selection.since_ns or 0) // _MINUTE_NS
        last = (1 << 62) if selection.until_ns is None else (selection.until_ns - 1) // _MINUTE_NS
        counted = [first, last]
        conditions += ["last_ns >= ?", "first_ns < ?", "counted > 0"]
        values += [
            selection.since_ns or 0,
            (1 << 63) - 1 if selection.until_ns is None else selection.until_ns,
        ]
    rows = db.execute(
        f"SELECT {_GROUP_COLUMNS}, {count} AS counted FROM exception_groups"
        f" WHERE {' AND '.join(conditions) or '1'} ORDER BY last_ns DESC, id DESC LIMIT ?",
        [*counted, *values, -1 if limit is None else limit],
    )
    return {"groups": [_group(*row) for row in rows]}


def read_error(db: sqlite3.Connection, group: str) -> ErrorDocument:
    """Return one group, its latest occurrence and the spans it passed.

    Args:
        db: from `open_database`.
        group: the group's whole id; see `ztrace_viewer.identifiers.find_group`.
    """
    row = db.execute(
        f"SELECT {_GROUP_COLUMNS}, count FROM exception_groups WHERE fingerprint = ?", (group,)
    ).fetchone()
    summary = _group(*row)
    trace_id, origin = bytes.fromhex(summary["trace_id"]), bytes.fromhex(summary["origin_span_id"])
    exceptions = read_exceptions(db, trace_id)
    return {
        "group": summary,
        "exception": exceptions.get(origin),
        "hops": _hops(db, trace_id, origin, exceptions),
    }


def _hops(
    db: sqlite3.Connection, trace_id: bytes, origin: bytes, exceptions: Mapping[bytes, ExceptionDocument]
) -> list[Hop]:
    """Return the spans from the root down to the origin; circles in what was sent end the way up."""
    spans = {
        span_id: (parent_id, service, name, kind)
        for span_id, parent_id, service, name, kind in db.execute(
            "SELECT span_id, parent_id, service, name, kind FROM spans"
            " JOIN methods ON methods.id = method WHERE trace_id = ? ORDER BY spans.id DESC",
            (trace_id,),
        )
    }
    hops: list[Hop] = []
    step: bytes | None = origin
    while step is not None and step in spans:
        parent_id, service, name, kind = spans.pop(step)
        exception = exceptions.get(step)
        hops.append(
            {
                "span_id": step.hex(),
                "service": service,
                "name": name,
                "kind": kind,
                "how": exception["how"] if exception else None,
                "type": exception["type"] if exception else None,
                "message": exception["message"] if exception else None,
            }
        )
        step = parent_id
    return hops[::-1]


def _causes(stored: object, above: ExceptionDocument, depth: int) -> list[ExceptionDocument]:
    """Return causes in an exception's full shape: they share the group and the origin of the one above."""
    if not isinstance(stored, list) or depth == 0:
        return []
    return [
        {
            "type": str(cause.get("type", "")),
            "message": str(cause.get("message", "")),
            "how": str(cause.get("how", "")),
            "origin": False,
            "origin_span_id": above["origin_span_id"],
            "group": above["group"],
            "frames": read_frames(cause.get("frames")),
            "causes": _causes(cause.get("causes"), above, depth - 1),
        }
        for cause in stored
        if isinstance(cause, Mapping)
    ]


def _group(
    fingerprint: str,
    type_: str,
    message: str,
    service: str,
    name: str,
    kind: str,
    first_ns: int,
    last_ns: int,
    trace_id: bytes,
    origin_span_id: bytes,
    frames: str,
    count: int,
) -> GroupSummary:
    return {
        "group": fingerprint,
        "type": type_,
        "message": message,
        "service": service,
        "name": name,
        "kind": kind,
        "count": count,
        "first_ns": first_ns,
        "last_ns": last_ns,
        "trace_id": trace_id.hex(),
        "origin_span_id": origin_span_id.hex(),
        "frames": read_frames(read_json(frames)),
    }
