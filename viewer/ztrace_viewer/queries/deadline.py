"""Deadline of a request.

One idea: a store interrupts its own statements at the deadline, so none outlasts it. A search that reads page
by page checks it by itself, and returns what it has found.
"""

import time

from ztrace.errors import ZtraceError


class TooLong(ZtraceError):
    """A request was not answered before its deadline."""


class Deadline:
    """Deadline of one request.

    Attributes:
        limit_s: time from the start of the request.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """Time until the deadline, negative behind it."""
        return self._end_s - time.monotonic()

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return time.monotonic() >= self._end_s

    def explain(self) -> TooLong:
        """Return the error of a request that took too long."""
        return TooLong(
            f"not answered within {self.limit_s:g} s", hint="select a shorter time or fewer traces"
        )
