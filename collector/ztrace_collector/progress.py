"""One line on the terminal that tells how the collector is doing.

One idea: it is written over in place, only if somebody can see it, and gone at the end.
"""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

#: How often the line is renewed: often enough to look alive, too seldom to cost anything.
PERIOD_S = 0.5
#: Back to the line's start, and clear to its end.
_CLEAR = "\r\x1b[K"


class Told(Protocol):
    """What the line tells of."""

    holding: bool

    @property
    def span_count(self) -> int:
        """Spans stored."""

    @property
    def refused_count(self) -> int:
        """Messages and spans refused or mended."""

    @property
    def publisher_count(self) -> int:
        """Publishers that are there now."""


class Progress:
    """The line, from `__enter__` to `__exit__`."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._then_s = time.monotonic()
        self._then_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write(_CLEAR)

    def update(self, told: Told) -> None:
        """Renew the line if it is time to."""
        now_s = time.monotonic()
        elapsed_s = now_s - self._then_s
        if not self._shown or elapsed_s < PERIOD_S:
            return
        count = told.span_count
        rate = (count - self._then_count) / elapsed_s
        self._then_s, self._then_count = now_s, count
        line = format_line(count, rate, told.publisher_count, told.refused_count, holding=told.holding)
        self._write(f"{_CLEAR}{line}")

    def say(self, line: str) -> None:
        """Write a line that stays, terminal or not."""
        self._write(f"{_CLEAR if self._shown else ''}ztrace: {line}\n")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False  # The terminal has gone; the collector has not.


def format_line(
    span_count: int, rate: float, publisher_count: int, refused_count: int, *, holding: bool = False
) -> str:
    """Return the line's text."""
    publishers = f"{publisher_count} publisher" + ("" if publisher_count == 1 else "s")
    return (
        f"{span_count:,} spans stored   {'holding' if holding else f'{rate:,.0f}/s'}   {publishers}"
        f"   {refused_count:,} refused"
    )
