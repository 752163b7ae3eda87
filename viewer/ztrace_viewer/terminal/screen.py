"""The terminal: how wide it is, and how things are written to it.

One idea: everything is written as text and never as markup, one line cut at the edge: what came over the wire
can neither colour nor break a picture.
"""

import os
import sys
from collections.abc import Iterable
from itertools import groupby, islice
from typing import cast

from rich.console import Console, RenderableType
from rich.text import Text

from ztrace_viewer.terminal.characters import clean

#: Columns where there is no terminal to ask: enough for a file or a pipe, and for every table.
PIPE_WIDTH = 120
#: Lines of text in one print; enough to make its own cost negligible.
_BATCH = 100


class _Console(Console):
    """A console that lets a closed pipe be handled where all errors are."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def open_screen() -> Console:
    """Return standard output as a place for rich text."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return _Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def write(console: Console, *parts: RenderableType) -> None:
    """Write each part on lines of its own, none wider than the screen."""
    write_all(console, parts)


def write_all(console: Console, parts: Iterable[RenderableType]) -> None:
    """Write parts as they are produced, texts many at a time: each print takes longer than a line of text."""
    for is_text, run in groupby(parts, lambda part: isinstance(part, Text)):
        if is_text:
            while batch := list(islice(run, _BATCH)):
                _print(console, Text("\n").join(cast(list[Text], batch)))
        else:
            for part in run:
                _print(console, part)


def _print(console: Console, part: RenderableType) -> None:
    console.print(part, no_wrap=True, overflow="ellipsis", crop=True)


def name_call(service: str, name: str, kind: str = "") -> str:
    """Return what a call is shown as: ``billing.charge``, and from its caller's side ``shop → charge``."""
    between = {"client": " → ", "producer": " ⇢ ", "consumer": " ⇠ "}.get(kind, ".")
    return f"{clean(service)}{between}{clean(name)}"


def dim(text: str) -> Text:
    """Return text that steps back."""
    return Text(text, style="dim")
