"""Standard output as a screen for rich text.

One idea: everything is printed as text and never as markup, and each line is cut at the edge, so text from
the wire can neither colour nor break a drawing.
"""

import os
import sys
from collections.abc import Iterable
from itertools import groupby, islice
from typing import cast

from rich.console import Console, RenderableType
from rich.text import Text

from ztrace_viewer.terminal.characters import clean

#: Columns without a terminal: enough for every table.
PIPE_WIDTH = 120
#: Display name of a service or a span without one.
UNNAMED = "(no name)"
#: Lines of text in one print; enough to make its own cost negligible.
_BATCH = 100


class _Console(Console):
    """Console that raises for a closed pipe, which `ztrace_viewer.entry` handles."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def open_screen() -> Console:
    """Return a console on standard output."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return _Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def write(console: Console, *parts: RenderableType) -> None:
    """Print each part on lines of its own, none wider than the screen."""
    write_all(console, parts)


def write_all(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print parts as they are produced, texts in batches: a print takes longer than a line of text."""
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
    """Return the display name of a call: ``billing.charge``, or ``shop → charge`` on its caller's side."""
    between = {"client": " → ", "producer": " ⇢ ", "consumer": " ⇠ "}.get(kind, ".")
    return f"{clean(service) or UNNAMED}{between}{clean(name) or UNNAMED}"


def dim(text: str) -> Text:
    """Return a text that is dimmed."""
    return Text(text, style="dim")
