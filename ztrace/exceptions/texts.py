"""From a traceback as Python prints it to the records that it would have left.

One idea: the text says what the exception object said: outermost frame first, and above it what it was raised
from. What is no traceback of Python's gives no frames, and nothing here fails.

This is for exceptions that come as text alone, as OpenTelemetry has them in its events. A text does not tell
in which module a frame is; lines of locals and markers are passed over, and so are the members of a group.
"""

import re
from collections.abc import Callable

from ztrace.exceptions.frames import INNERMOST, OUTERMOST
from ztrace.records import MAX_CODE, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord

#: Characters looked at: the end is where it happened. Python's own limit of a thousand frames makes 100,000.
MAX_TEXT = 1 << 18
#: Causes kept, as of exceptions that are there.
MAX_CAUSES = 8
#: Characters kept of a cause's message, as of exceptions that are there.
MAX_MESSAGE = 4096

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "(.+)", line (\d+)(?:, in (.+))?\Z')
_REPEATED = re.compile(r"  \[Previous line repeated (\d+) more times?\]\Z")
_MARKERS = re.compile(r"[ ~^]+\Z")
#: What Python writes between an exception and the one that was raised of it, and what that makes the first.
_BETWEEN = {
    "The above exception was the direct cause of the following exception:": WRAPPED,
    "During handling of the above exception, another exception occurred:": REPLACED,
}
#: How a group's traceback begins, what is before each of its lines, and what ends it.
_GROUP_HEAD, _GROUP_BAR, _GROUP_END = "  + Exception Group ", "  | ", "  +-+---"


def read_stack_text(
    text: str, in_app: Callable[[str], bool], type_: str = "", message: str | None = None
) -> ExceptionRecord:
    """Return the record of an exception of which there is a text.

    Args:
        text: as `traceback.format_exception` makes it; anything else gives a record without frames.
        in_app: tells of a file whether it is the user's own.
        type_: the exception's type, if it is known; the text has it too.
        message: likewise.

    Returns:
        A record that was raised, with causes and without an origin.
    """
    parts = _split(text[-MAX_TEXT:])
    record = _read_part(parts[-1][1], in_app)
    causes: list[ExceptionRecord] = []
    for how, lines in parts[:-1][-MAX_CAUSES:]:
        cause = _read_part(lines, in_app)._replace(how=how, causes=causes)
        causes = [cause]
    return record._replace(
        type=type_ or record.type,
        message=record.message if message is None else message,
        causes=causes,
    )


def _split(text: str) -> list[tuple[str, list[str]]]:
    """Return the lines of each exception, first raised first, and how the next was raised of it."""
    parts: list[tuple[str, list[str]]] = []
    lines: list[str] = []
    for line in text.splitlines():
        how = _BETWEEN.get(line)
        if how is not None and any(before.endswith(_HEAD) for before in lines):
            parts.append((how, lines))
            lines = []
        else:
            lines.append(line)
    parts.append((RAISED, lines))
    return parts


def _read_part(lines: list[str], in_app: Callable[[str], bool]) -> ExceptionRecord:
    """Return one exception's record; of what has no frames only what may be its type and message."""
    head = next((place for place, line in enumerate(lines) if line.endswith(_HEAD)), None)
    if head is None:
        return ExceptionRecord("", "", [], [], RAISED, None, None)
    rest = lines[head + 1 :]
    if lines[head].startswith(_GROUP_HEAD):
        end = next((place for place, line in enumerate(rest) if line.startswith(_GROUP_END)), len(rest))
        rest = [line.removeprefix(_GROUP_BAR) for line in rest[:end]]
    frames: list[FrameRecord] = []
    end = len(rest)
    for place, line in enumerate(rest):
        if match := _FRAME.match(line):
            file, number, function = match.groups()
            frame = FrameRecord(file, int(number[:9]), function or "", "", "", in_app(file))
            if frames and frames[-1]._replace(code="", repeats=0) == frame:
                frames[-1] = frames[-1]._replace(repeats=frames[-1].repeats + 1)
            else:
                frames.append(frame)
        elif frames and (repeated := _REPEATED.match(line)):
            frames[-1] = frames[-1]._replace(repeats=frames[-1].repeats + int(repeated[1][:9]))
        elif frames and line.startswith("    "):
            if not (frames[-1].code or _MARKERS.match(line)):
                frames[-1] = frames[-1]._replace(code=line.strip()[:MAX_CODE])
        elif line and line[0] != " ":
            end = place
            break
    type_, _, message = "\n".join(rest[end:]).strip().partition(": ")
    if "\n" in type_ or " " in type_:  # No message, and notes below.
        type_, _, message = "\n".join(rest[end:]).strip().partition("\n")
    return ExceptionRecord(type_[:MAX_CODE], message[:MAX_MESSAGE], _cap(frames), [], RAISED, None, None)


def _cap(frames: list[FrameRecord]) -> list[FrameRecord]:
    """Leave out frames in the middle where there are too many, and say how many they were."""
    left_out = frames[OUTERMOST:-INNERMOST]
    if not left_out:
        return frames
    omitted = sum(1 + frame.repeats for frame in left_out)
    first = frames[-INNERMOST]._replace(omitted=omitted)
    return [*frames[:OUTERMOST], first, *frames[1 - INNERMOST :]]
