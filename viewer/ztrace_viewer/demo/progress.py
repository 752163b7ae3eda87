"""One line on the terminal that tells what the demo is doing.

One idea: it is written over in place and gone at the end, as the collector's is. Where there is no terminal,
each new stage is a line, and nothing moves.
"""

import sys
from itertools import cycle

#: Back to the line's start, and clear to its end.
_CLEAR = "\r\x1b[K"
#: Shown in turn in front of the line.
_SPINNER = "|/-\\"


class Progress:
    """The line, as long as the ``with`` block lasts."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._spinner = cycle(_SPINNER)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._write(_CLEAR)

    def begin(self, stage: str) -> None:
        """Tell what is done from now on."""
        if self._shown:
            self.update(stage)
        else:
            self._write(f"{stage}\n")

    def update(self, text: str) -> None:
        """Renew the line on a terminal."""
        if self._shown:
            self._write(f"{_CLEAR}{next(self._spinner)} {text}")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
