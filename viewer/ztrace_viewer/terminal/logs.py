"""Log records on standard error, for commands that run for long."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ztrace_viewer.terminal.saying import complain_lines

#: Loggers of ztrace's packages; those of libraries stay as they are.
_LOGGERS = ("ztrace", "ztrace_collector", "ztrace_viewer")
_PLAIN = "ztrace: %(message)s"
_VERBOSE = "ztrace: %(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"


@contextmanager
def showing_logs(*, verbose: bool) -> Iterator[None]:
    """Print warnings and errors with their tracebacks while the block lasts; if ``verbose``, all records."""
    handler = StandardError(_VERBOSE if verbose else _PLAIN)
    root = logging.getLogger()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    if verbose:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class StandardError(logging.Handler):
    """Handler that looks standard error up for each record: a progress display replaces it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(form, datefmt="%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record on standard error."""
        try:
            complain_lines(self.format(record))
        except Exception:
            self.handleError(record)
