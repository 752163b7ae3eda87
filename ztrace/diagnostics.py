"""What the agent does with its own failures: count them, log the first, never raise.

Every entry into ztrace from a traced program that could fail is guarded, and the guard calls `count_failure`.
The counts travel in each message's header and are shown by ``ztrace status``.
"""

import logging

_logger = logging.getLogger("ztrace")

#: Failures and mendings by reason, since the process (or the fork) began.
counts: dict[str, int] = {}


def count(reason: str, number: int = 1) -> None:
    """Add to the count of ``reason``."""
    counts[reason] = counts.get(reason, 0) + number


def count_failure(reason: str) -> None:
    """Count an exception of ztrace's own that is being handled; log the first of each reason."""
    first = reason not in counts
    count(reason)
    if first:
        _logger.warning("ztrace: %s failed; counted from now on, the program goes on", reason, exc_info=True)


def warn(message: str) -> None:
    """Say something the user should act on."""
    _logger.warning("ztrace: %s", message)
