"""One line on the terminal that tells how the collector is doing.

One idea: it is written over in place, only if somebody can see it, and gone at the end.
"""

import sys
import time
from types import TracebackType
from typing import Self

from ztrace_collector.store import Store

#: How often the line is renewed: often enough to look alive, too seldom to cost anything.
PERIOD_S = 0.5
#: Back to the line's start, and clear to its end.
_CLEAR = "\r\x1b[K"


class Progress:
    """The line, from `__enter__` to `__exit__`."""

    def __init__(self, store: Store, *, shown: bool) -> None:
        self._store = store
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

    def update(self) -> None:
        """Renew the line if it is time to."""
        now_s = time.monotonic()
        elapsed_s = now_s - self._then_s
        if not self._shown or elapsed_s < PERIOD_S:
            return
        count = self._store.span_count
        rate = (count - self._then_count) / elapsed_s
        self._then_s, self._then_count = now_s, count
        self._write(
            f"{_CLEAR}{format_line(count, rate, self._store.publisher_count, self._store.refused_count)}"
        )

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._shown = False  # The terminal has gone; the collector has not.


def format_line(span_count: int, rate: float, publisher_count: int, refused_count: int) -> str:
    """Return the line's text."""
    publishers = f"{publisher_count} publisher" + ("" if publisher_count == 1 else "s")
    return f"{span_count:,} spans stored   {rate:,.0f}/s   {publishers}   {refused_count:,} refused"
