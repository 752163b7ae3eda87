"""Sampled code on the terminal: the innermost lines of stacks, with their share and state."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from rich.text import Text

from ztrace_viewer.documents.profile import Behind, Frame, PathStep, SpanStack, Stack
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call

#: Words for the states.
_STATES = {"run": "runs", "wait": "waits", "wait_busy": "waits, busy"}
#: Methods whose code is shown with a profile, those on the hottest paths, and lines for each.
MOST_CODE = 5, 3
#: Frames shown of a stack, the innermost.
_FRAMES = 3
#: Stacks of a span that are shown, and other spans that it waited behind.
_SPAN_STACKS, _BEHIND = 20, 3
#: Code of stacks without frames.
_UNKNOWN = "(unknown code)"

_OF_METHODS = (
    Column("CODE", flexible=16),
    Column("SHARE", right=True),
    Column("STATE"),
    Column("LINE, AND ITS CALLERS", flexible=24),
)
_OF_SPAN = (
    Column("TIME", right=True),
    Column("SHARE", right=True, goes=1),
    Column("STATE"),
    Column("LINE, AND ITS CALLERS", flexible=24),
    Column("BEHIND", flexible=12),
)


def draw_code_of_methods(
    methods: Iterable[tuple[PathStep, Sequence[Stack]]], width: int, note: str
) -> Iterator[Text]:
    """Yield the code of methods, of each once and of the first ones alone, and a note below it."""
    rows: list[tuple[Text, ...]] = []
    shown: set[tuple[str, str, str]] = set()
    for step, stacks in methods:
        key = step["service"], step["name"], step["kind"]
        if key in shown or not stacks or len(shown) == MOST_CODE[0]:
            continue
        shown.add(key)
        whole_ns = sum(stack["ns"] for stack in stacks)
        for place, stack in enumerate(stacks[: MOST_CODE[1]]):
            call = Text(name_call(*key), "bold") if place == 0 else Text()
            rows.append((call, *_draw_stack(stack, whole_ns)))
    if rows:
        yield Text()
        yield from draw_grid(_OF_METHODS, rows, width)
        yield Text(note, "dim")


def draw_code_of_span(stacks: Sequence[SpanStack], width: int) -> Iterator[Text]:
    """Yield the code of one span: the lines that ran, those that waited, and behind which spans."""
    whole_ns = sum(stack["ns"] for stack in stacks)
    told = ", ".join(
        f"{word} {format_duration(ns)}"
        for state, word in _STATES.items()
        if (ns := sum(stack["ns"] for stack in stacks if stack["state"] == state))
    )
    yield Text.assemble(("sampled ", "dim"), f"{format_duration(whole_ns)}: {told}")
    rows = [
        (
            Text(format_duration(stack["ns"])),
            *_draw_stack(stack, whole_ns),
            Text(_tell_behind(stack["behind"]), "yellow"),
        )
        for stack in stacks[:_SPAN_STACKS]
    ]
    yield from draw_grid(_OF_SPAN, rows, width)
    if (left := len(stacks) - _SPAN_STACKS) > 0:
        yield Text(f"… and {plural(left, 'more stack')}; --json has all", "bold")


def name_frame(frame: Frame) -> str:
    """Return the display name of a line of code: ``load shop/stock.py:26``."""
    file = "/".join(PurePath(frame["file"]).parts[-2:]) or "?"
    return f"{clean(frame['function'])} {clean(file)}:{frame['line']}"


def _draw_stack(stack: Stack, whole_ns: int) -> tuple[Text, Text, Text]:
    frames = stack["frames"]
    # The innermost first: the end of a line may be cut.
    lines = " < ".join(name_frame(frame) for frame in frames[: -_FRAMES - 1 : -1]) or _UNKNOWN
    if len(frames) > _FRAMES:
        lines += " < …"
    runs = stack["state"] == "run"
    return (
        Text(f"{stack['ns'] / whole_ns:.1%}" if whole_ns else ""),
        Text(_STATES.get(stack["state"], ""), "green" if runs else ""),
        Text(lines),
    )


def _tell_behind(others: Sequence[Behind]) -> str:
    told = [
        f"{name_call(other['service'], other['name'])} {other['span_id'][:4]}: {format_duration(other['ns'])}"
        for other in others[:_BEHIND]
    ]
    return ", ".join(told + (["…"] if len(others) > _BEHIND else []))
