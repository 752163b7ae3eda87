"""Exceptions in Python's own format, for ``exception.stacktrace``.

One idea: a reader of another tool, or a search in its data, finds the text that Python would have printed:
causes first, the members of a group between their lines of dashes. `ztrace.exceptions.texts` parses such
texts.

Source: https://docs.python.org/3/library/traceback.html, and
https://opentelemetry.io/docs/specs/semconv/exceptions/exceptions-spans/ for the attribute.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ztrace.records import WRAPPED

#: Depth of causes and members, as kept by the store.
MAX_DEPTH = 16

_HEAD = "Traceback (most recent call last):"
_BECAUSE = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"
#: Dashes on either side of a member's number, and below the last member.
_DASHES, _LAST_DASHES = "-" * 16, "-" * 36


def format_stacktrace(exception: Mapping[str, Any]) -> str:
    """Return an exception as Python prints it, without a final line feed.

    Args:
        exception: with the fields of a cause in the table ``exceptions``, all of them optional.
    """
    return "\n".join(_lines(exception, MAX_DEPTH, 0))


def _lines(exception: Mapping[str, Any], depth: int, level: int) -> Iterator[str]:
    """Yield the lines of an exception with its causes and members, at a nesting level of groups."""
    margin = f"{'  ' * level}| " if level else ""
    # A Python exception has at most one cause; further ones follow each other.
    for cause in _mappings(exception, "causes") if depth else ():
        yield from _lines(cause, depth - 1, level)
        because = _BECAUSE if cause.get("how") == WRAPPED else _MEANWHILE
        yield from (f"{margin}{line}" for line in ("", because, ""))
    members = _mappings(exception, "members") if depth else []
    if not members:
        yield from (f"{margin}{line}" for line in _own_lines(exception, _HEAD))
        return
    lines = _own_lines(exception, f"Exception Group {_HEAD}")
    if not level:
        level, margin = 1, "  | "
        yield f"  + {next(lines)}"
    yield from (f"{margin}{line}" for line in lines)
    for number, member in enumerate(members, 1):
        yield f"{'  ' * level}{'+-' if number == 1 else '  '}+{_DASHES} {number} {_DASHES}"
        yield from _lines(member, depth - 1, level + 1)
    if not members[-1].get("members"):  # A nested group has drawn the line already.
        yield f"{'  ' * level}  +{_LAST_DASHES}"


def _own_lines(exception: Mapping[str, Any], head: str) -> Iterator[str]:
    """Yield the lines of an exception without causes and members: head, frames, type and message, notes."""
    frames = _mappings(exception, "frames")
    if frames:
        yield head
    for frame in frames:
        if frame.get("omitted"):
            yield f"  [{frame['omitted']} frames left out]"
        yield f'  File "{frame.get("file", "")}", line {frame.get("line", 0)}, in {frame.get("function", "")}'
        if frame.get("code"):
            yield f"    {frame['code']}"
        if frame.get("repeats"):
            yield f"  [Previous line repeated {frame['repeats']} more times]"
    type_, message = str(exception.get("type", "")), exception.get("message")
    yield from (f"{type_}: {message}" if message else type_).split("\n")
    notes = exception.get("notes")
    for note in notes if type(notes) is list else ():
        yield from str(note).split("\n")


def _mappings(exception: Mapping[str, Any], field: str) -> Sequence[Mapping[str, Any]]:
    """Return the items of a field that are mappings; another program may have written the file."""
    items = exception.get(field)
    return [item for item in items if type(item) is dict] if type(items) is list else []
