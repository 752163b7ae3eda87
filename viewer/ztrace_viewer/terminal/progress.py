"""One line on the terminal that shows how far an export, an import or a collector has come.

One idea: it is written over in place, only if somebody can see it, and gone at the end.
"""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ztrace_collector.service import Counts

#: How often the line is renewed.
PERIOD_S = 0.1
#: How often the line of a collector is renewed, which runs for days.
COLLECTOR_PERIOD_S = 0.5
#: Characters of the bar.
_WIDTH = 24
#: Back to the line's start, and clear to its end.
_CLEAR = "\r\x1b[K"


class Progress:
    """The line, from `__enter__` to `__exit__`."""

    def __init__(self, unit: str, *, shown: bool = True) -> None:
        """Begin.

        Args:
            unit: what is counted, in the plural.
            shown: False where something else is written to the same terminal.
        """
        self._unit = unit
        self._shown = shown and sys.stderr.isatty()
        self._began_s = self._then_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write(_CLEAR)

    def update(self, done: int, share: float | None) -> None:
        """Renew the line if it is time to.

        Args:
            done: how many.
            share: which part of all that is, 0 to 1; None if nobody knows.
        """
        now_s = time.monotonic()
        if self._shown and now_s - self._then_s >= PERIOD_S:
            self._then_s = now_s
            self._write(_CLEAR + format_line(done, self._unit, share, now_s - self._began_s))

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False  # The terminal has gone; what is done for has not.


def format_line(done: int, unit: str, share: float | None, elapsed_s: float) -> str:
    """Return the line's text."""
    told = f"{done:,} {unit}   {done / max(elapsed_s, 1e-9):,.0f}/s"
    if share is None:
        return told
    share = min(1.0, max(0.0, share))
    filled = round(share * _WIDTH)
    return f"{'█' * filled}{'·' * (_WIDTH - filled)} {share:4.0%}   {told}"


class CollectorProgress:
    """Line of a running collector, from `__enter__` to `__exit__`; lines of `say` are printed above it."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._then_s = time.monotonic()
        self._then_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write(_CLEAR)

    def update(self, counts: "Counts") -> None:
        """Redraw the line if it is time to."""
        now_s = time.monotonic()
        elapsed_s = now_s - self._then_s
        if not self._shown or elapsed_s < COLLECTOR_PERIOD_S:
            return
        count = counts.span_count
        rate = (count - self._then_count) / elapsed_s
        self._then_s, self._then_count = now_s, count
        line = format_counts(
            count, rate, counts.publisher_count, counts.refused_count, holding=counts.holding
        )
        self._write(f"{_CLEAR}{line}")

    def say(self, line: str) -> None:
        """Print a line that stays, terminal or not."""
        self._write(f"{_CLEAR if self._shown else ''}ztrace: {line}\n")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False  # The terminal has gone; the collector has not.


def format_counts(
    span_count: int, rate: float, publisher_count: int, refused_count: int, *, holding: bool = False
) -> str:
    """Return the text of a collector's line."""
    publishers = f"{publisher_count} publisher" + ("" if publisher_count == 1 else "s")
    return (
        f"{span_count:,} spans stored   {'holding' if holding else f'{rate:,.0f}/s'}   {publishers}"
        f"   {refused_count:,} refused"
    )
