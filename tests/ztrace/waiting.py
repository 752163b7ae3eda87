"""Waiting for a condition."""

import time
from collections.abc import Callable
from typing import TypeVar

#: Longer than anything takes: reached only by a failure.
DEADLINE_S = 20.0

T = TypeVar("T")


def wait_for(condition: Callable[[], T]) -> T:
    """Return the condition's result once it is true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s, "timed out"
        time.sleep(0.002)
    return result
