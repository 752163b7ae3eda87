"""What the agent does with its own failures: count them, log the first, never raise.

Every entry into ztrace from a traced program that could fail is guarded, and the guard calls `count_failure`.
The counts travel in each message's header and are shown by ``ztrace status``.
"""

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
        _log(f"{reason} failed; counted from now on, the program goes on", with_exception=True)


def warn(message: str) -> None:
    """Say something the user should act on."""
    _log(message, with_exception=False)


def _log(message: str, with_exception: bool) -> None:
    try:
        import logging  # Takes as long to import as all of the agent, and mostly is not needed.

        logging.getLogger("ztrace").warning("ztrace: %s", message, exc_info=with_exception)
    except Exception:  # A handler or a filter of the program's own that fails, or an interpreter at its end.
        return
