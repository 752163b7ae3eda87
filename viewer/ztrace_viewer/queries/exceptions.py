"""Exceptions as stored, as documents: those of one trace, by the span they ended.

One idea: an exception is stored once, at its origin, and every other span it passed refers to that one and
has only its own part of the way.
"""

import sqlite3
from collections.abc import Mapping

from ztrace.libraries import LIBRARIES
from ztrace_viewer.documents import ExceptionDocument, Frame
from ztrace_viewer.json_text import read_json

#: Attributes with a traceback as text, of any traced library.
_REMOTE_TRACEBACKS = [row.remote_traceback for row in LIBRARIES.values() if row.remote_traceback]
#: Causes and members shown below each other; the agent records eight and four.
_MAX_DEPTH = 16


def read_exceptions(db: sqlite3.Connection, trace_id: bytes) -> dict[bytes, ExceptionDocument]:
    """Return the exceptions of one trace by the span they ended."""
    rows = db.execute(
        "SELECT span_id, origin_trace_id, exceptions.origin_span_id, fingerprint, how, exceptions.type,"
        " exceptions.message, exceptions.frames, causes, notes, members FROM exceptions"
        " LEFT JOIN exception_groups ON exception_groups.id = exception_group"
        " WHERE exceptions.trace_id = ? ORDER BY exceptions.id",
        (trace_id,),
    ).fetchall()
    # A member that began in another span of the trace belongs to the group of that one.
    groups = {
        span_id.hex(): group or ""
        for span_id, origin_trace, origin_span, group, *_ in rows
        if (origin_trace, origin_span) == (trace_id, span_id)
    }
    found: dict[bytes, ExceptionDocument] = {}
    for span_id, origin_trace, origin_span, group, how, type_, message, frames, *nested in rows:
        causes, notes, members = map(read_json, nested)
        document: ExceptionDocument = {
            "type": type_,
            "message": message,
            "how": how,
            "origin": (origin_trace, origin_span) == (trace_id, span_id),
            "origin_span_id": origin_span.hex(),
            "group": group or "",
            "frames": read_frames(read_json(frames)),
            "causes": [],
            "notes": _read_notes(notes),
            "members": [],
        }
        document["causes"] = _read_nested(causes, document, groups, _MAX_DEPTH)
        document["members"] = _read_nested(members, document, groups, _MAX_DEPTH)
        found.setdefault(span_id, document)
    return found


def read_frames(stored: object) -> list[Frame]:
    """Return frames from the JSON a collector stored, leaving out what is none."""
    if not isinstance(stored, list):
        return []
    return [
        {
            "file": str(frame.get("file", "")),
            "line": _count(frame, "line"),
            "function": str(frame.get("function", "")),
            "code": str(frame.get("code", "")),
            "in_app": bool(frame.get("in_app")),
            "repeats": _count(frame, "repeats"),
            "omitted": _count(frame, "omitted"),
            "locals": _read_locals(frame.get("locals")),
        }
        for frame in stored
        if isinstance(frame, Mapping)
    ]


def concerns(exception: ExceptionDocument, origin_span_id: str) -> bool:
    """Tell whether an exception came of the one that began in that span: it is it, or a member of it is."""
    pending = [exception]
    while pending:
        looked_at = pending.pop()
        if looked_at["origin_span_id"] == origin_span_id:
            return True
        pending.extend(looked_at["members"])
        pending.extend(looked_at["causes"])
    return False


def find_remote_traceback(attributes: Mapping[str, object]) -> str | None:
    """Return the traceback that a server without ztrace sent, from the attributes of the call's span."""
    found = (attributes.get(name) for name in _REMOTE_TRACEBACKS)
    return next((text for text in found if isinstance(text, str)), None)


def _read_nested(
    stored: object, above: ExceptionDocument, groups: Mapping[str, str], depth: int
) -> list[ExceptionDocument]:
    """Return causes or members in an exception's full shape.

    They share the group and the origin of the one above, but for members with an origin of their own.
    """
    if not isinstance(stored, list) or depth == 0:
        return []
    documents: list[ExceptionDocument] = []
    for nested in stored:
        if not isinstance(nested, Mapping):
            continue
        origin = nested.get("origin_span_id")
        document: ExceptionDocument = {
            "type": str(nested.get("type", "")),
            "message": str(nested.get("message", "")),
            "how": str(nested.get("how", "")),
            "origin": False,
            "origin_span_id": origin if isinstance(origin, str) else above["origin_span_id"],
            "group": groups.get(origin, "") if isinstance(origin, str) else above["group"],
            "frames": read_frames(nested.get("frames")),
            "causes": [],
            "notes": _read_notes(nested.get("notes")),
            "members": [],
        }
        document["causes"] = _read_nested(nested.get("causes"), document, groups, depth - 1)
        document["members"] = _read_nested(nested.get("members"), document, groups, depth - 1)
        documents.append(document)
    return documents


def _read_notes(stored: object) -> list[str]:
    return [str(note) for note in stored] if isinstance(stored, list) else []


def _read_locals(stored: object) -> dict[str, str] | None:
    if not isinstance(stored, Mapping):
        return None
    return {str(name): str(value) for name, value in stored.items()}


def _count(frame: Mapping[str, object], name: str) -> int:
    value = frame.get(name)
    return value if type(value) is int else 0
