"""Exceptions with their frames, as Python writes them, and in one line.

One idea: the user's own code stands out, the rest steps back, and the line that failed is marked.
"""

from collections.abc import Iterator
from itertools import groupby

from rich.text import Text

from ztrace.wire import PASSED, REPLACED, WRAPPED
from ztrace_viewer.characters import clean, clean_lines
from ztrace_viewer.documents import ExceptionDocument, Frame
from ztrace_viewer.screen import plural

#: Frames and message lines shown of one exception; JSON has them all.
MAX_FRAMES = 12
MAX_MESSAGE_LINES = 8

#: How an exception that began elsewhere came to a span; "from …" follows.
HOW_WORDS = {PASSED: "", WRAPPED: "wraps the one ", REPLACED: "replaces the one "}
_LINKS = {WRAPPED: "caused by", REPLACED: "while handling"}


def draw_exception(exception: ExceptionDocument, width: int) -> Iterator[Text]:
    """Yield the lines of an exception: frames, the message, then its causes.

    Args:
        exception: from a document.
        width: columns there are; file names are shortened from the left to fit.
    """
    pending = [(exception, "")]
    while pending:
        shown, link = pending.pop()
        if link:
            yield Text(link, style="dim italic")
        yield from _draw_frames(shown["frames"], width, whole=not link)
        yield from _draw_message(shown)
        pending.extend((cause, _LINKS.get(cause["how"], "caused by")) for cause in reversed(shown["causes"]))


def shorten_type(type_name: str) -> str:
    """Return a class's name without its module, on one line."""
    return clean(type_name).rsplit(".", 1)[-1]


def headline(type_name: str, message: str) -> str:
    """Return ``KeyError: 'x'`` on one line."""
    text = clean(message)
    return f"{clean(type_name)}: {text}" if text else clean(type_name)


def shorten_path(path: str, width: int) -> str:
    """Return a path that fits the width, without its first folders if need be."""
    path = clean(path)
    if len(path) <= width:
        return path
    parts = path.split("/")
    while len(parts) > 1 and len("/".join(parts)) + 2 > width:
        parts.pop(0)
    return "…/" + "/".join(parts)


def _draw_message(exception: ExceptionDocument) -> Iterator[Text]:
    lines = clean_lines(exception["message"])
    if not any(lines):
        lines = [""]
    style = "bold red"
    first = f": {lines[0]}" if lines[0] or len(lines) > 1 else ""
    yield Text(clean(exception["type"]) + first, style=style)
    for line in lines[1:MAX_MESSAGE_LINES]:
        yield Text(f"  {line}", style="red")
    if len(lines) > MAX_MESSAGE_LINES:
        yield Text(f"  … {len(lines) - MAX_MESSAGE_LINES} more lines", style="dim")


def _draw_frames(frames: list[Frame], width: int, whole: bool) -> Iterator[Text]:
    """Yield the user's own frames and the last one; of the libraries' between them only their names.

    Where no frame is the user's own, ``whole`` shows all of them: there is nothing better.
    """
    own = any(frame["in_app"] for frame in frames)

    def is_shown(frame: Frame) -> bool:
        return frame["in_app"] or (own and frame is frames[-1]) or (whole and not own)

    for shown, group in groupby(frames, key=is_shown):
        run = list(group)
        if shown:
            cut = max(0, len(run) - MAX_FRAMES)
            if cut:
                yield Text(f"  … {cut} outer frames", style="dim")
            for frame in run[cut:]:
                yield from _draw_frame(frame, frame is frames[-1], width)
        else:
            libraries = ", ".join(dict.fromkeys(_library(frame["file"]) for frame in run))
            yield Text(f"  … {plural(len(run), 'frame')} in {libraries}", style="dim")


def _library(path: str) -> str:
    """Name the package a file belongs to."""
    for folder in ("site-packages/", "dist-packages/"):
        if folder in path:
            return clean(path.rpartition(folder)[2].partition("/")[0].removesuffix(".py"))
    if not path.startswith("/"):
        return clean(path.removeprefix("src/").partition("/")[0])  # A compiled extension's source.
    return "Python"


def _draw_frame(frame: Frame, failing: bool, width: int) -> Iterator[Text]:
    style = "" if frame["in_app"] else "dim"
    place = f":{frame['line']} in {clean(frame['function'])}"
    line = Text("  ", style=style)
    line.append(
        shorten_path(frame["file"], max(12, width - len(place) - 2)), "cyan" if frame["in_app"] else ""
    )
    line.append(place)
    yield line
    if code := clean(frame["code"]).strip():
        mark = "▸ " if failing else "  "
        yield Text.assemble("  ", (mark, "bold red"), (code, "bold" if failing else style))
