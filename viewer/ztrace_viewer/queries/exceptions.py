"""Exceptions of one trace as documents, by the span they ended.

One idea: an exception is stored once, at its origin. Every other span it passed refers to the origin, and
stores its own part of the way only.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ztrace.libraries import LIBRARIES
from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.stores.answers import ExceptionRow
from ztrace_viewer.queries.stores.store import Trees

#: Attributes in which the traced libraries store a traceback as text.
_REMOTE_TRACEBACKS = [row.remote_traceback for row in LIBRARIES.values() if row.remote_traceback]
#: Depth to which causes and members are read; the agent records eight and four.
_MAX_DEPTH = 16


def read_exceptions(
    store: Trees, trace_id: bytes, *, failures: bool = False
) -> dict[bytes, ExceptionDocument]:
    """Return the exceptions of one trace by the span they ended.

    Args:
        store: the store.
        trace_id: 16 bytes.
        failures: include spans that failed without an exception, with no type and the reason as message.
    """
    rows = [row for row in store.exceptions(trace_id) if row.type or failures]
    # A member that began in another span of the trace belongs to that span's group.
    groups = {row.span_id.hex(): row.fingerprint or "" for row in rows if _is_origin(row, trace_id)}
    found: dict[bytes, ExceptionDocument] = {}
    for row in rows:
        document: ExceptionDocument = {
            "type": row.type,
            "message": row.message,
            "how": row.how,
            "origin": _is_origin(row, trace_id),
            "origin_span_id": row.origin_span_id.hex(),
            "group": row.fingerprint or "",
            "frames": read_frames(read_json(row.frames)),
            "causes": [],
            "notes": _read_notes(read_json(row.notes)),
            "members": [],
            "stack": None,
        }
        document["causes"] = _read_nested(read_json(row.causes), document, groups, _MAX_DEPTH)
        document["members"] = _read_nested(read_json(row.members), document, groups, _MAX_DEPTH)
        found.setdefault(row.span_id, document)
    return found


class Raised(NamedTuple):
    """An exception by its text alone."""

    type: str
    message: str
    how: str
    is_origin: bool
    group: str


def read_raised(store: Trees, trace_id: bytes) -> dict[bytes, Raised]:
    """Return the exceptions of one trace by the span they ended, without frames and causes."""
    found: dict[bytes, Raised] = {}
    for row in store.raised(trace_id):
        origin = (row.origin_trace_id, row.origin_span_id) == (trace_id, row.span_id)
        raised = Raised(row.type, row.message, row.how, origin, row.fingerprint or "")
        found.setdefault(row.span_id, raised)
    return found


def _is_origin(row: ExceptionRow, trace_id: bytes) -> bool:
    return (row.origin_trace_id, row.origin_span_id) == (trace_id, row.span_id)


def read_frames(stored: object) -> list[Frame]:
    """Return the frames in stored JSON, ignoring items that are not frames."""
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
    """Return whether an exception, or one of its causes and members, began in a span."""
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
    """Return causes or members as documents.

    They have the group and the origin of the exception above, except members with an origin of their own.
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
            "stack": None,
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
