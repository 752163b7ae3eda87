"""Delays between retries of a destination that does not answer."""

import random

#: First and longest delay before a retry; delays double, with a jitter of a fifth.
FIRST_PAUSE_S, LONGEST_PAUSE_S, JITTER = 0.5, 30.0, 0.2
#: Longest delay that a receiver may ask for: one that asks for a year has a wrong clock.
MAX_ASKED_S = 3600.0


class Pauses:
    """Retry schedule of one destination."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def reset(self) -> None:
        """Start over after an answer."""
        self._pause_s = FIRST_PAUSE_S

    def next_s(self, asked_s: float | None) -> float:
        """Return the next delay, which grows each time and is at least what the receiver asked for."""
        pause_s = self._pause_s * random.uniform(1 - JITTER, 1 + JITTER)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
        return pause_s if asked_s is None else max(min(asked_s, MAX_ASKED_S), FIRST_PAUSE_S / 10)
