"""Frames of a traceback in Python's layout: the place, and the line of source.

One idea: the user's own code stands out, libraries are dimmed or left out, and the line that failed or made
the call is marked.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.style import Style
from rich.text import Text

from ztrace_viewer.documents.exceptions import Frame
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.links import find_line

#: Marks of the line that failed, and of the line that made the call.
FAILED, CALLED = "▸", "→"
#: The user's own frames shown of a run, at its beginning and at its end; JSON has all.
MAX_FIRST, MAX_LAST = 3, 9
#: Local variables shown of a frame, and characters of a line of source.
MAX_LOCALS, MAX_CODE = 12, 256

_STYLES = {FAILED: "bold red", CALLED: "bold cyan"}


def draw_frames(
    frames: Sequence[Frame], width: int, mark: str = FAILED, *, whole: bool = True, libraries: bool = False
) -> Iterator[Text]:
    """Yield the user's own frames and the one that failed, and only names of libraries between these.

    Args:
        frames: outermost first.
        width: columns of the screen; file names are shortened from the left to fit.
        mark: FAILED or CALLED, for the last of the user's own frames, or the last of all.
        whole: show all frames if none is the user's own.
        libraries: show all frames.
    """
    own = [frame for frame in frames if frame["in_app"]]
    marked = own[-1] if own else frames[-1] if frames and mark == FAILED else None
    raising = frames[-1] if own and mark == FAILED else None

    def is_shown(frame: Frame) -> bool:
        return libraries or frame["in_app"] or frame is raising or (whole and not own)

    for shown, group in groupby(frames, key=is_shown):
        run = list(group)
        if not shown:
            yield from _draw_left_out(run)
            continue
        cut = 0 if libraries else max(0, len(run) - MAX_FIRST - MAX_LAST)
        for place, frame in enumerate(run):
            if not cut or place < MAX_FIRST or place >= MAX_FIRST + cut:
                yield from _draw_frame(frame, mark if frame is marked else "", width)
            elif place == MAX_FIRST:
                yield Text(f"  … {cut} frames between", style="dim")


def shorten_path(path: str, width: int) -> str:
    """Return a path without as many leading folders as are needed to fit a width."""
    path = clean(path)
    if len(path) <= width:
        return path
    parts = path.split("/")
    while len(parts) > 1 and len("/".join(parts)) + 2 > width:
        parts.pop(0)
    return "…/" + "/".join(parts)


def name_place(frame: Frame, width: int) -> str:
    """Return ``file:line in function``, with as much of the path as fits, and the file name at least."""
    where = f":{frame['line']} in {clean(frame['function'])}"
    path = shorten_path(frame["file"], width - len(where))
    if len(path) + len(where) > width:
        path = path.rpartition("/")[2]
    return path + where


def same_line(one: Frame, other: Frame) -> bool:
    """Return whether two frames are of the same line of code."""
    return (one["file"], one["line"], one["function"]) == (other["file"], other["line"], other["function"])


def _draw_left_out(run: Sequence[Frame]) -> Iterator[Text]:
    libraries = ", ".join(dict.fromkeys(_library(frame["file"]) for frame in run))
    count = sum(1 + frame["omitted"] for frame in run)
    yield Text(f"  … {plural(count, 'frame')} in {libraries}", style="dim")


def _library(path: str) -> str:
    """Return the name of the package that a file belongs to."""
    for folder in ("site-packages/", "dist-packages/"):
        if folder in path:
            return clean(path.rpartition(folder)[2].partition("/")[0].removesuffix(".py"))
    if not path.startswith("/"):
        return clean(path.removeprefix("src/").partition("/")[0])  # Source of a compiled extension.
    return "Python"


def _draw_frame(frame: Frame, mark: str, width: int) -> Iterator[Text]:
    if frame["omitted"]:
        yield Text(f"  … {plural(frame['omitted'], 'frame')} left out", style="dim")
    style = "" if frame["in_app"] else "dim"
    place = f":{frame['line']} in {clean(frame['function'])}"
    line = Text("  ", style=style)
    shown = shorten_path(frame["file"], max(12, width - len(place) - 2))
    colour = "cyan" if frame["in_app"] else None
    line.append(shown, Style(color=colour, link=find_line(frame["file"], frame["line"])))
    line.append(place)
    yield line
    if code := clean(frame["code"][:MAX_CODE]).strip():
        yield Text.assemble(
            "  ", (f"{mark or ' '} ", _STYLES.get(mark, "")), (code, "bold" if mark == FAILED else style)
        )
    if frame["repeats"]:
        yield Text(f"    … repeats {plural(frame['repeats'], 'more time')}", style="dim")
    named = list((frame["locals"] or {}).items())
    for name, value in named[:MAX_LOCALS]:
        yield Text(f"      {clean(name)} = {clean(value)}", style="dim")
    if len(named) > MAX_LOCALS:
        yield Text(f"      … {len(named) - MAX_LOCALS} more names", style="dim")
