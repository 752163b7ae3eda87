"""Exceptions in Python's layout: frames, message, notes, members and causes; and in one line.

One idea: an exception, its causes and its members are drawn from one stack, so any depth works, and their
number is bounded.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from ztrace.libraries import LIBRARIES
from ztrace.records import PASSED, REPLACED, WRAPPED
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.queries.identifiers import SHOWN_GROUP_DIGITS
from ztrace_viewer.render.frames import draw_frames
from ztrace_viewer.terminal.characters import clean, clean_lines, split_lines

#: Lines shown of a message, of the traceback of a server without ztrace, and of a stack trace of another
#: language; JSON has all.
MAX_MESSAGE_LINES, MAX_REMOTE_LINES, MAX_STACK_LINES = 8, 40, 40
#: Text of a failure without an exception, if its span says nothing else.
NO_REASON = "failed"
#: Exceptions drawn of one exception with its causes and members.
MAX_EXCEPTIONS = 24

#: Classes by which the traced libraries carry an exception from the other side.
_REMOTE_ERRORS = frozenset(row.remote_error for row in LIBRARIES.values() if row.remote_error)
_LINKS = {WRAPPED: "caused by", REPLACED: "while handling"}


@dataclass(frozen=True, slots=True)
class _Part:
    """An exception to draw, with the guides of the groups it is a member of."""

    exception: ExceptionDocument
    guide: str = ""
    guide_below: str = ""
    link: str = ""
    member: bool = False


def draw_exception(exception: ExceptionDocument, width: int, *, libraries: bool = False) -> Iterator[Text]:
    """Yield the lines of an exception: frames, message and notes, then its members, then its causes.

    Args:
        exception: exception of a document.
        width: columns of the screen; file names are shortened from the left to fit.
        libraries: include frames of libraries.
    """
    pending = [_Part(exception)]
    drawn = 0
    while pending and drawn < MAX_EXCEPTIONS:
        part = pending.pop()
        drawn += 1
        yield from _draw_part(part, width, libraries)
        shown = part.exception
        nested = [
            _Part(cause, part.guide_below, part.guide_below, _LINKS.get(cause["how"], "caused by"))
            for cause in shown["causes"]
        ]
        pending.extend(reversed(nested))
        pending.extend(reversed(_place_members(shown["members"], part.guide_below, last=not nested)))
    if pending:
        yield Text(f"… {len(pending)} more exceptions; --json has them", style="dim")


def draw_stack(text: str) -> Iterator[Text]:
    """Yield the beginning of a stack trace of another language, line by line as it was sent."""
    lines = [clean(line.expandtabs(4)) for line in split_lines(text.strip("\n"))]
    for line in lines[:MAX_STACK_LINES]:
        yield Text(f"  {line}")
    if len(lines) > MAX_STACK_LINES:
        yield Text(f"  … {len(lines) - MAX_STACK_LINES} more lines; --json has them", style="dim")


def draw_remote(text: str) -> Iterator[Text]:
    """Yield the end of the traceback that a server without ztrace sent."""
    lines = [line for line in clean_lines(text.rstrip()) if line.strip()]
    yield Text("  remote traceback, as sent with the error:", style="dim italic")
    if len(lines) > MAX_REMOTE_LINES:
        yield Text(f"    … {len(lines) - MAX_REMOTE_LINES} lines before", style="dim")
    for line in lines[-MAX_REMOTE_LINES:]:
        yield Text(f"    {line}")


def shorten_type(type_name: str) -> str:
    """Return a class's name without its module, on one line."""
    return clean(type_name).rsplit(".", 1)[-1]


def headline(type_name: str, message: str) -> str:
    """Return ``KeyError: 'x'`` on one line; of a failure without an exception, its reason."""
    text = clean(message)
    if not type_name:
        return text or NO_REASON
    return f"{clean(type_name)}: {text}" if text else clean(type_name)


def as_raised(type_name: str, message: str) -> str:
    """Return the headline of an exception as in the process where it was raised.

    The message of a remote error begins with the name of the exception in the other process.
    """
    name, text = shorten_type(type_name), clean(message)
    return text if _is_remote(name, text) else headline(name, text)


def _is_remote(type_name: str, message: str) -> bool:
    return type_name.rpartition(".")[2] in _REMOTE_ERRORS and ": " in message


def _draw_message(exception: ExceptionDocument, width: int) -> Iterator[Text]:
    """Yield the exception's type and message, and its notes, on as many lines as needed."""
    name, message = exception["type"], exception["message"]
    if not name:
        yield from _draw_lines(message if message.strip() else NO_REASON, width, "bold red")
    elif exception["how"] == PASSED and _is_remote(name, message):
        yield from _draw_lines(message, width, "bold red")
    else:
        yield from _draw_lines(f"{name}: {message}" if message.strip() else name, width, "bold red")
    for note in exception["notes"]:
        for line in _draw_lines(note, width - 2, ""):
            yield Text("  ") + line


def _draw_lines(text: str, width: int, style: str) -> Iterator[Text]:
    """Yield the first lines of a text, wrapped to the width."""
    given = clean_lines(text)
    lines: list[str] = []
    for line in given[:MAX_MESSAGE_LINES]:
        # Wide characters take two columns.
        most = max(20, width if cell_len(line) == len(line) else width // 2)
        lines.extend(textwrap.wrap(line[: most * (MAX_MESSAGE_LINES + 1)], most) or [""])
    for line in lines[:MAX_MESSAGE_LINES]:
        yield Text(line, style=style)
    if len(given) > MAX_MESSAGE_LINES:
        yield Text(f"  … {len(given) - MAX_MESSAGE_LINES} more lines", style="dim")
    elif len(lines) > MAX_MESSAGE_LINES:
        yield Text("  … and more", style="dim")


def _draw_part(part: _Part, width: int, libraries: bool) -> Iterator[Text]:
    exception = part.exception
    if part.link:
        yield Text.assemble((part.guide, "dim"), (part.link, "dim italic"))
    room = width - len(part.guide_below)
    frames = draw_frames(exception["frames"], room, whole=not part.link, libraries=libraries)
    if not part.member:
        # The innermost call comes first in other languages, so the message is above it.
        stack = draw_stack(exception["stack"]) if exception["stack"] else ()
        for line in (*frames, *_draw_message(exception, room), *stack):
            yield Text.assemble((part.guide, "dim"), line)
        return
    # The message of a member comes first, since the guides lead to it.
    lead = part.guide
    for line in _draw_message(exception, room):
        yield Text.assemble((lead, "dim"), line)
        lead = part.guide_below
    if exception["how"] == PASSED:
        digits = exception["group"][:SHOWN_GROUP_DIGITS]
        yield Text.assemble(
            (lead, "dim"), ("  began elsewhere", "dim"), (f": error {digits}" if digits else "", "dim")
        )
    for line in frames:
        yield Text.assemble((part.guide_below, "dim"), line)


def _place_members(members: Sequence[ExceptionDocument], guide: str, *, last: bool) -> list[_Part]:
    parts = []
    for place, member in enumerate(members):
        end = last and place == len(members) - 1
        own, below = ("└╴", "  ") if end else ("├╴", "│ ")
        parts.append(_Part(member, guide + own, guide + below, member=True))
    return parts
