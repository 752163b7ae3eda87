"""Polling for a condition, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60.0

T = TypeVar("T")


def wait_for(condition: Callable[[], T], why: Callable[[], object] = lambda: "timed out") -> T:
    """Poll until the condition is true, and return its result; on timeout fail with `why`."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s, why()
        time.sleep(0.002)
    return result
