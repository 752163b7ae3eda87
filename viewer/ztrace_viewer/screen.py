"""The terminal: what may be written to it, and how wide it is.

One idea: nothing from the wire reaches the terminal but through `clean`, and always as text, never as markup:
a span's name can neither move the cursor nor turn itself red.
"""

import codecs
import os
import re
import sys
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

#: Columns where there is no terminal to ask: enough for a file or a pipe, and for every table.
PIPE_WIDTH = 120

#: C0 and C1 controls, marks that turn or hide text, line separators, the byte order mark, lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_BLANKS = re.compile(r"[\t\n\r\v\f\u2028\u2029]+")
#: What is drawn where the encoding has no lines and blocks.
_ASCII = str.maketrans("│├└╴─╌█▉▊▋▌▍▎▏▐▕→⇢⇠↑·…▸µ", "||`--.######||#|>><^-~>u")


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
    for part in parts:
        console.print(part, no_wrap=True, overflow="ellipsis", crop=True)


def clean(text: str) -> str:
    """Return text on one line, without anything that a terminal would act on."""
    return _UNSEEN.sub("", _BLANKS.sub(" ", text))


def clean_lines(text: str) -> list[str]:
    """Return the lines of a text, each clean."""
    return [clean(line) for line in re.split(r"\r\n|[\n\r\v\f\u2028\u2029]", text)]


def draw_plainly() -> None:
    """Let characters that the output's encoding lacks become similar ones instead of an error."""
    codecs.register_error("ztrace-plain", _replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="ztrace-plain")


def name_call(service: str, name: str, kind: str = "") -> str:
    """Return what a call is shown as: ``billing.charge``, and from its caller's side ``shop → charge``."""
    between = {"client": " → ", "producer": " ⇢ ", "consumer": " ⇠ "}.get(kind, ".")
    return f"{clean(service)}{between}{clean(name)}"


def plural(count: int, noun: str) -> str:
    """Return ``1 span`` or ``1,200 spans``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def dim(text: str) -> Text:
    """Return text that steps back."""
    return Text(text, style="dim")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return "".join(character if character.isascii() else "?" for character in text), error.end
