"""Parser of tracebacks as Python prints them, which returns the records of the exceptions.

One idea: a text has its causes above it and its outermost frame first, as the exception object has. A text
that is no traceback of Python's gives no frames, and nothing here raises.

OpenTelemetry's events have exceptions as text only. A text does not name the modules of frames; lines of
locals and markers are skipped, and so are the members of a group.
"""

import re
from collections.abc import Callable

from ztrace.exceptions.frames import INNERMOST, OUTERMOST
from ztrace.records import MAX_CODE, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord

#: Characters parsed, from the end, where the failure is: Python's limit of 1,000 frames makes 100,000.
MAX_TEXT = 1 << 18
#: Causes kept, as of exception objects.
MAX_CAUSES = 8
#: Characters kept of a cause's message, as of exception objects.
MAX_MESSAGE = 4096

_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'  File "(.+)", line (\d+)(?:, in (.+))?\Z')
_REPEATED = re.compile(r"  \[Previous line repeated (\d+) more times?\]\Z")
_MARKERS = re.compile(r"[ ~^]+\Z")
#: Lines that Python writes after a cause, and the relation of the cause.
_BETWEEN = {
    "The above exception was the direct cause of the following exception:": WRAPPED,
    "During handling of the above exception, another exception occurred:": REPLACED,
}
#: First line of a group's traceback, prefix of its other lines, and its end.
_GROUP_HEAD, _GROUP_BAR, _GROUP_END = "  + Exception Group ", "  | ", "  +-+---"


def read_stack_text(
    text: str, in_app: Callable[[str], bool], type_: str = "", message: str | None = None
) -> ExceptionRecord:
    """Parse the text of an exception.

    Args:
        text: as `traceback.format_exception` writes it; any other text gives a record without frames.
        in_app: returns whether a file is the user's own.
        type_: type of the exception if known, instead of the one in the text.
        message: message of the exception if known, instead of the one in the text.

    Returns:
        A record with how=RAISED and causes, without an origin.
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
    """Return the lines of each exception, first raised first, with the relation of the next one to it."""
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
    """Return the record of one exception; lines without a traceback give an empty record."""
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
    """Omit frames in the middle if there are too many, and record their number."""
    left_out = frames[OUTERMOST:-INNERMOST]
    if not left_out:
        return frames
    omitted = sum(1 + frame.repeats for frame in left_out)
    first = frames[-INNERMOST]._replace(omitted=omitted)
    return [*frames[:OUTERMOST], first, *frames[1 - INNERMOST :]]
