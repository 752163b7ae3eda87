"""Exceptions in documents, with their frames."""

from typing import TypedDict


class Frame(TypedDict):
    """A line of Python in a traceback; lists of frames begin with the outermost.

    Extra: how often it, or the few frames before it that form a cycle with it, was repeated in a row
    (``repeats``); frames left out before it (``omitted``); local variables, if they were recorded.
    """

    file: str
    line: int
    function: str
    code: str
    in_app: bool
    repeats: int
    omitted: int
    locals: dict[str, str] | None


class ExceptionDocument(TypedDict):
    """An exception in a span, one of its causes, or a member of an exception group.

    ``origin`` says whether it was first raised in this span; ``origin_span_id`` is the span in which it was.
    ``group`` is the origin's group, empty while the origin is not stored. A cause, and a member first raised
    in the same span, has the group and the origin span of the exception above. Extra: ``how``, one of raised,
    passed, wrapped, replaced, grouped; its notes; its members, if it is an exception group; and as ``stack``
    the stack trace as it was sent, if it is not Python's and so has no frames.
    """

    type: str
    message: str
    how: str
    origin: bool
    origin_span_id: str
    group: str
    frames: list[Frame]
    causes: list["ExceptionDocument"]
    notes: list[str]
    members: list["ExceptionDocument"]
    stack: str | None
