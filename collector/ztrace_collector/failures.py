"""An exception as it travels, to what the tables hold: checked, cut, and with its fingerprint.

One idea: two exceptions are the same problem if the same code of the user's raised them: service, type, and
the functions and source lines of the frames, not line numbers, which every edit moves, nor the message, which
has ids in it.
"""

import hashlib
import json
import re
from typing import Any, NamedTuple

from ztrace.wire import GROUPED, PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord
from ztrace_collector import text
from ztrace_collector.refusals import EXCEPTION, UTF8, Refusals

#: Frames kept of one exception, the innermost: where it was raised.
MAX_FRAMES = 100
#: Causes kept in depth, and side by side.
MAX_DEPTH, MAX_CAUSES = 16, 8
#: Characters kept of a type or a path, of a source line, and of a message.
MAX_NAME, MAX_CODE, MAX_MESSAGE = 1024, 512, 16 << 10

#: Made once: `json.dumps` with options makes an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_HOWS = frozenset((RAISED, PASSED, WRAPPED, REPLACED, GROUPED))
_LAST = (1 << 63) - 1

#: What differs between two messages of the same problem.
_VARIABLE = re.compile(
    r"""'[^']*' | "[^"]*"
      | \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b
      | \b0x[0-9a-f]+\b
      | \b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b
      | \d+""",
    re.VERBOSE | re.IGNORECASE,
)


class Frame(NamedTuple):
    """A frame of a traceback."""

    file: str
    line: int
    function: str
    module: str
    code: str
    in_app: bool

    def shown(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "file": self.file,
            "line": self.line,
            "function": self.function,
            "code": self.code,
            "in_app": self.in_app,
        }


class Failure(NamedTuple):
    """An exception of one span, fit to be stored; frames and causes as JSON, too."""

    type: str
    message: str
    how: str
    origin_trace_id: bytes
    origin_span_id: bytes
    frames: tuple[Frame, ...]
    frames_text: str
    causes_text: str


def read_failure(fields: Any, trace_id: bytes, span_id: bytes, refusals: Refusals) -> Failure | None:
    """Return a span's exception, or None if it cannot be told what it is; what is wrong is counted.

    An exception that names no origin, or was raised here, has this span as its origin.
    """
    reading = _Reading()
    record = reading.record(fields)
    if record is None:
        refusals.note(EXCEPTION, f"exception of span {span_id.hex()} has fields missing or of the wrong type")
        return None
    origin = (record.origin_trace_id, record.origin_span_id)
    if record.how == RAISED or not (_is_id(origin[0], 16) and _is_id(origin[1], 8)):
        if record.how != RAISED:
            reading.replaced = True
        origin = (trace_id, span_id)
    frames = reading.frames(record.frames)
    failure = Failure(
        type=reading.text(record.type, MAX_NAME),
        message=reading.text(record.message, MAX_MESSAGE),
        how=record.how,
        origin_trace_id=origin[0] or b"",
        origin_span_id=origin[1] or b"",
        frames=frames,
        frames_text=_as_json([frame.shown() for frame in frames]),
        causes_text=_as_json(reading.causes(record.causes, MAX_DEPTH)),
    )
    if reading.bad_text:
        refusals.note(UTF8, f"in the exception {failure.type[:64]}")
    if reading.replaced:
        refusals.note(EXCEPTION, f"parts of the exception {failure.type[:64]} left out")
    return failure


def fingerprint(service: str, failure: Failure) -> str:
    """Return 16 hex digits that are the same for the same problem."""
    frames = [frame for frame in failure.frames if frame.in_app] or failure.frames
    lines = [(frame.module, frame.function, " ".join(frame.code.split())) for frame in frames]
    parts: list[Any] = [service, failure.type]
    if lines:
        # Each once: recursion is the same problem however deep it went.
        parts.extend(dict.fromkeys(lines))
    else:
        parts.append(_VARIABLE.sub("?", failure.message))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class _Reading:
    """One exception being read, and whether anything had to change."""

    def __init__(self) -> None:
        self.replaced = False
        self.bad_text = False

    def record(self, fields: Any) -> ExceptionRecord | None:
        if type(fields) is not tuple or len(fields) != len(ExceptionRecord._fields):
            return None
        record = ExceptionRecord(*fields)
        whole = {type(record.type), type(record.message), type(record.how)} == {str} and record.how in _HOWS
        return record if whole else None

    def text(self, value: str, length: int) -> str:
        if not text.is_whole(value):
            self.bad_text = True
            value = text.mended(value)
        return text.cut(value, length)

    def frames(self, frames: Any) -> tuple[Frame, ...]:
        if type(frames) is not tuple:
            self.replaced = True
            return ()
        self.replaced |= len(frames) > MAX_FRAMES
        kept = [self._frame(frame) for frame in frames[-MAX_FRAMES:]]
        return tuple(frame for frame in kept if frame is not None)

    def causes(self, causes: Any, depth: int) -> list[dict[str, Any]]:
        if type(causes) is not tuple or (causes and depth == 0):
            self.replaced = True
            return []
        kept = []
        for fields in causes[:MAX_CAUSES]:
            record = self.record(fields)
            if record is None:
                self.replaced = True
                continue
            kept.append(
                {
                    "type": self.text(record.type, MAX_NAME),
                    "message": self.text(record.message, MAX_MESSAGE),
                    "how": record.how,
                    "frames": [frame.shown() for frame in self.frames(record.frames)],
                    "causes": self.causes(record.causes, depth - 1),
                }
            )
        self.replaced |= len(causes) > MAX_CAUSES
        return kept

    def _frame(self, fields: Any) -> Frame | None:
        types = tuple(map(type, fields)) if type(fields) is tuple else ()
        if types[:8] != (str, int, str, str, str, bool, int, int) or len(types) != 9:
            self.replaced = True
            return None
        file, line, function, module, code, in_app = fields[:6]
        return Frame(
            file=self.text(file, MAX_NAME),
            line=min(max(line, 0), _LAST),
            function=self.text(function, MAX_NAME),
            module=self.text(module, MAX_NAME),
            code=self.text(code, MAX_CODE),
            in_app=in_app,
        )


def _is_id(value: Any, length: int) -> bool:
    return type(value) is bytes and len(value) == length and any(value)


def _as_json(value: list[Any]) -> str:
    return _encode(value) if value else "[]"
