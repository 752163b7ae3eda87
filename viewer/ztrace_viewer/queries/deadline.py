"""How long a question may take.

One idea: SQLite asks now and then whether to go on, so no question outlasts its time, whatever it meets; and
what looks further and further asks by itself, and answers with what it has found.
"""

import sqlite3
import time

from ztrace.errors import ZtraceError

#: Steps of SQLite's machine between two looks at the clock: some hundred microseconds.
_STEPS = 20_000


class TooLong(ZtraceError):
    """A question was not answered in its time."""


class Deadline:
    """The end of one question's time.

    Attributes:
        limit_s: how much there was.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s

    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() >= self._end_s

    def guard(self, db: sqlite3.Connection) -> None:
        """Have every statement of this connection end when the time is up."""
        db.set_progress_handler(self.is_over, _STEPS)

    def explain(self) -> TooLong:
        """Return the error for a question that took longer."""
        return TooLong(
            f"not answered within {self.limit_s:g} s", hint="ask for less: a shorter time, fewer traces"
        )
