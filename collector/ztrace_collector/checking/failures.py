"""Exceptions of spans, validated and truncated for the tables.

One idea: unreadable parts are left out and counted, and the rest of the exception is kept: where it was
raised is worth knowing even if a frame, a cause or a note is invalid.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ztrace.records import GROUPED, INT64_MAX, PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord
from ztrace_collector.checking import text
from ztrace_collector.checking.scalars import is_id
from ztrace_collector.refusals import EXCEPTION, UTF8, Refusals

#: Frames kept of one exception, the innermost ones.
MAX_FRAMES = 100
#: Depth of causes and members that is kept, and the numbers of siblings.
MAX_DEPTH, MAX_CAUSES, MAX_MEMBERS = 16, 8, 16
#: Notes kept; the agent may add one with the number of those that it left out.
MAX_NOTES = 17
#: Characters kept of a type or a path, of a source line, and of a message or a note.
MAX_NAME, MAX_CODE, MAX_MESSAGE = 1024, 512, 16 << 10
#: Variables kept of a frame, and characters of each.
MAX_LOCALS, MAX_LOCAL = 64, 1024
#: Characters of a frame that is cached; with the size of the cache, 24 MB at most.
MAX_CACHED = 1024
#: Origins kept of an exception with causes and members; a tree of groups may have more.
MAX_ORIGINS = 64

#: Shared encoder: `json.dumps` with options creates one for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_HOWS = frozenset((RAISED, PASSED, WRAPPED, REPLACED, GROUPED))
_FRAME_TYPES = (str, int, str, str, str, bool, int, int)


class Frame(NamedTuple):
    """Frame of a traceback: the parts that identify a problem, and the whole as JSON."""

    file: str
    function: str
    module: str
    code: str
    in_app: bool
    text: str


class Failure(NamedTuple):
    """Exception of one span, or one of its causes or members, valid for the tables.

    Attributes:
        origin_trace_id: trace of the span in which it was first raised; None for a cause, and for a member
            that was raised in the same span.
        origin_span_id: id of that span; None likewise.
    """

    type: str
    message: str
    how: str
    origin_trace_id: bytes | None
    origin_span_id: bytes | None
    frames: tuple[Frame, ...]
    causes: tuple["Failure", ...]
    notes: tuple[str, ...]
    members: tuple["Failure", ...]

    @property
    def frames_text(self) -> str:
        """Frames as JSON."""
        return _array([frame.text for frame in self.frames])

    @property
    def causes_text(self) -> str:
        """Causes as JSON."""
        return _array([cause.text for cause in self.causes])

    @property
    def notes_text(self) -> str:
        """Notes as JSON."""
        return _array([_encode(note) for note in self.notes])

    @property
    def members_text(self) -> str:
        """Members as JSON."""
        return _array([member.text for member in self.members])

    @property
    def text(self) -> str:
        """JSON of the exception as a cause or a member."""
        fields = {
            "type": _encode(self.type),
            "message": _encode(self.message),
            "how": _encode(self.how),
            "frames": self.frames_text,
            "causes": self.causes_text,
        }
        if self.origin_trace_id is not None and self.origin_span_id is not None:
            fields["origin_trace_id"] = _encode(self.origin_trace_id.hex())
            fields["origin_span_id"] = _encode(self.origin_span_id.hex())
        if self.notes:
            fields["notes"] = self.notes_text
        if self.members:
            fields["members"] = self.members_text
        return f"{{{','.join(f'{_encode(name)}:{value}' for name, value in fields.items())}}}"

    def origins(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the trace and span ids of its origin, and of those of its causes and members."""
        if self.origin_trace_id is not None and self.origin_span_id is not None:
            yield self.origin_trace_id, self.origin_span_id
        for part in (*self.causes, *self.members):
            yield from part.origins()


def read_failure(fields: Any, trace_id: bytes, span_id: bytes, refusals: Refusals) -> Failure | None:
    """Return a span's exception, or None if the record is unreadable; invalid parts are counted.

    An exception that names no origin, or that was raised in the span, has the span as its origin.
    """
    reading = _Reading()
    failure = reading.failure(fields, MAX_DEPTH)
    if failure is None:
        refusals.note(EXCEPTION, f"exception of span {span_id.hex()} has fields missing or of the wrong type")
        return None
    if failure.how == RAISED or failure.origin_span_id is None:
        if failure.how != RAISED:
            reading.replaced = True
        failure = failure._replace(origin_trace_id=trace_id, origin_span_id=span_id)
    if reading.bad_text:
        refusals.note(UTF8, f"in the exception {failure.type[:64]}")
    if reading.replaced:
        refusals.note(EXCEPTION, f"parts of the exception {failure.type[:64]} left out")
    return failure


class _Reading:
    """Validation of one exception, with a record of what was changed."""

    def __init__(self) -> None:
        self.replaced = False
        self.bad_text = False

    def failure(self, fields: Any, depth: int) -> Failure | None:
        if type(fields) is not tuple or len(fields) != len(ExceptionRecord._fields):
            return None
        record = ExceptionRecord(*fields)
        if {type(record.type), type(record.message), type(record.how)} != {str} or record.how not in _HOWS:
            return None
        whole = is_id(record.origin_trace_id, 16) and is_id(record.origin_span_id, 8)
        return Failure(
            type=self._text(record.type, MAX_NAME),
            message=self._text(record.message, MAX_MESSAGE),
            how=record.how,
            origin_trace_id=record.origin_trace_id if whole else None,
            origin_span_id=record.origin_span_id if whole else None,
            frames=self._frames(record.frames),
            causes=self._failures(record.causes, MAX_CAUSES, depth) if record.causes != () else (),
            notes=self._notes(record.notes),
            members=self._failures(record.members, MAX_MEMBERS, depth) if record.members != () else (),
        )

    def _text(self, value: str, length: int) -> str:
        if not text.is_whole(value):
            self.bad_text = True
            value = text.mended(value)
        return text.cut(value, length)

    def _list(self, value: Any) -> tuple[Any, ...]:
        if type(value) is tuple:
            return value
        self.replaced = True
        return ()

    def _frames(self, frames: Any) -> tuple[Frame, ...]:
        frames = self._list(frames)
        self.replaced |= len(frames) > MAX_FRAMES
        kept = [self._frame(frame) for frame in frames[-MAX_FRAMES:]]
        return tuple([frame for frame in kept if frame is not None])

    def _failures(self, records: Any, most: int, depth: int) -> tuple[Failure, ...]:
        records = self._list(records)
        if depth == 0:
            self.replaced |= bool(records)
            return ()
        read = [self.failure(fields, depth - 1) for fields in records[:most]]
        kept = tuple([failure for failure in read if failure is not None])
        self.replaced |= len(kept) < len(records)
        return kept

    def _notes(self, notes: Any) -> tuple[str, ...]:
        notes = self._list(notes)
        kept = [self._text(note, MAX_MESSAGE) for note in notes[:MAX_NOTES] if type(note) is str]
        self.replaced |= len(kept) < len(notes)
        return tuple(kept)

    def _frame(self, fields: Any) -> Frame | None:
        types = tuple(map(type, fields)) if type(fields) is tuple else ()
        if types[:-1] != _FRAME_TYPES:
            self.replaced = True
            return None
        if fields[-1] is None and sum(map(len, (fields[0], *fields[2:5]))) <= MAX_CACHED:
            frame, is_whole = _read_frame(fields)
            self.bad_text |= not is_whole
            return frame
        return self.frame(FrameRecord(*fields))

    def frame(self, record: FrameRecord) -> Frame:
        """Return a frame from a record whose fields, except the locals, have the right types."""
        file, function = self._text(record.file, MAX_NAME), self._text(record.function, MAX_NAME)
        module, code = self._text(record.module, MAX_NAME), self._text(record.code, MAX_CODE)
        shown: dict[str, Any] = {
            "file": file,
            "line": min(max(record.line, 0), INT64_MAX),
            "function": function,
            "code": code,
            "in_app": record.in_app,
        }
        if module:  # A part of the fingerprint, so it has to be forwarded as well.
            shown["module"] = module
        if record.repeats > 0:
            shown["repeats"] = min(record.repeats, INT64_MAX)
        if record.omitted > 0:
            shown["omitted"] = min(record.omitted, INT64_MAX)
        if record.locals is not None:
            shown["locals"] = self._locals(record.locals)
        return Frame(file, function, module, code, record.in_app, _encode(shown))

    def _locals(self, values: Any) -> dict[str, str] | None:
        if type(values) is not dict:
            self.replaced = True
            return None
        kept = {
            self._text(name, MAX_NAME): self._text(value, MAX_LOCAL)
            for name, value in list(values.items())[:MAX_LOCALS]
            if type(name) is type(value) is str
        }
        self.replaced |= len(kept) < len(values)
        return kept


@lru_cache(maxsize=2048)
def _read_frame(fields: tuple[Any, ...]) -> tuple[Frame, bool]:
    """Return a frame, and whether its text was valid; cached, since most frames occur again."""
    reading = _Reading()
    return reading.frame(FrameRecord(*fields)), not reading.bad_text


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"
