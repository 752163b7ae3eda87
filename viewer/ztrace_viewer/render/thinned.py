"""Line under answers from spans of a time whose traces have been thinned."""

from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.terminal.moments import format_moment


def draw_thinned(until_ns: int | None, what: str) -> Iterator[Text]:
    """Yield the line, unless there is nothing to say.

    Args:
        until_ns: time until which traces have been thinned; None if those of the answer have not.
        what: the part of the answer that is not of all traces.
    """
    if until_ns is not None:
        yield Text(f"{what} of what is kept: traces up to {format_moment(until_ns)} are thinned", "yellow")
