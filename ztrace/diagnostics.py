"""The agent's own failures: counted, logged and never raised into the traced program.

Every entry into ztrace from a traced program that could fail is guarded, and the guard calls `contain`. The
counts travel in each message's header and are shown by ``ztrace status``.
"""

import sys

from ztrace.interpreter.interrupts import is_interrupt

#: Failures and corrections by reason, since the process (or the fork) started.
counts: dict[str, int] = {}

#: Log every failure with its traceback, and not only the first of each reason; set by `ztrace.agent`.
debug = False


def count(reason: str, number: int = 1) -> None:
    """Add to the count of ``reason``."""
    counts[reason] = counts.get(reason, 0) + number


def contain(reason: str) -> None:
    """Count the exception being handled, as `count_failure` does, unless it only interrupted ztrace's code.

    Raises:
        BaseException: the exception being handled, if a signal handler, a timeout or another thread has
            raised it: the program waits for it.
    """
    error = sys.exception()
    if error is not None and is_interrupt(error):
        raise error
    count_failure(reason)


def count_failure(reason: str) -> None:
    """Count the exception being handled as ztrace's own failure, and log the first of each reason."""
    first = reason not in counts
    count(reason)
    if debug:
        _log(f"{reason} failed, {counts[reason]} so far; the program is not affected", with_exception=True)
    elif first:
        _log(
            f"{reason} failed; further failures are counted only (ZTRACE_DEBUG=1 logs them all), and the"
            " program is not affected",
            with_exception=True,
        )


def warn(message: str) -> None:
    """Log a warning that the user can act on."""
    _log(message, with_exception=False)


def make_harmless(message: str) -> str:
    """Return a message on one line without characters that a terminal interprets."""
    if message.isprintable():
        return message
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in message)


def _log(message: str, with_exception: bool) -> None:
    message = make_harmless(message)
    try:
        import logging  # Takes as long to import as all of the agent, and is rarely needed.
    except (ImportError, OSError):  # No descriptor is left to read it with.
        print(f"ztrace: {message}", file=sys.stderr)
        return
    try:
        logging.getLogger("ztrace").warning("ztrace: %s", message, exc_info=with_exception)
    except Exception as error:  # Of a handler or filter of the program, or as the interpreter shuts down.
        if is_interrupt(error):
            raise
        return
