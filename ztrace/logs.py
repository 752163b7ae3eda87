"""Trace and span ids in the records of the standard library's logging.

One idea: the ids are those of the span that is current where the record is made, so a record keeps ids that
it has. They may come from the program, from another tracer, or from a filter that saw the record before it
went to another thread.

`logging` is imported only when the program asks for it here: it takes as long to import as all of the agent.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ztrace import diagnostics, spans
from ztrace.context import RUNNING, find_current, get_current
from ztrace.exceptions.tracebacks import take_off_frame

if TYPE_CHECKING:
    import logging

#: Attributes of a record that hold the ids.
_NAMES = ("trace_id", "span_id")


class LogFilter:
    """Filter of a logger or handler that lets every record pass, and adds the ids to it."""

    def filter(self, record: "logging.LogRecord") -> bool:
        """Add the ids of the current span, and return True."""
        _add_ids(record)
        return True


def logging_filter() -> LogFilter:
    """Return a filter that adds ``trace_id`` and ``span_id``, in hex, to the records it sees.

    Put it on handlers: the filters of a logger do not see the records of its children. Both are empty while
    no span is current, and without `configure`. A record that has ids already keeps them.
    """
    return LogFilter()


def install_log_record_factory() -> None:
    """Add ``trace_id`` and ``span_id`` to every log record of the process, as `logging_filter` does.

    The present factory stays in use. A second call does nothing.
    """
    try:
        import logging

        factory = logging.getLogRecordFactory()
        if factory not in _factories:
            logging.setLogRecordFactory(_extend(factory))
            _permit_extra(logging.Logger)
    except Exception:
        diagnostics.contain("logging")


#: Factories that `install_log_record_factory` has set.
_factories: set[Callable[..., Any]] = set()


def _extend(original: Callable[..., Any]) -> Callable[..., Any]:
    def make_record(*args: Any, **kwargs: Any) -> Any:
        try:
            record = original(*args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        add_ids(record)
        return record

    add_ids = _add_ids
    _factories.add(make_record)
    return make_record


def _add_ids(record: Any) -> None:
    try:
        attributes = record.__dict__
        if "trace_id" in attributes:
            return
        span = get_current() if spans.publisher is not None else None
        if span is not None and span._state is not RUNNING:
            span = find_current()
        if span is None:
            attributes["trace_id"] = attributes["span_id"] = ""
        else:
            attributes["trace_id"], attributes["span_id"] = span.trace_id.hex(), span.span_id.hex()
    except Exception:
        diagnostics.contain("logging")


@functools.cache
def _permit_extra(logger: "type[logging.Logger]") -> None:
    """Wrap ``Logger.makeRecord``, which rejects the names of a record's attributes in ``extra``.

    A program that passes its own ``trace_id`` there must not fail because the factory has set one.
    """
    original = logger.makeRecord

    @functools.wraps(original)
    def makeRecord(
        self: Any,
        name: Any,
        level: Any,
        fn: Any,
        lno: Any,
        msg: Any,
        args: Any,
        exc_info: Any,
        func: Any = None,
        extra: Any = None,
        sinfo: Any = None,
    ) -> Any:
        own = None
        try:
            if extra is not None and any(name in extra for name in _NAMES):
                own = {name: extra[name] for name in _NAMES if name in extra}
                extra = {key: extra[key] for key in extra if key not in own}
            record = original(self, name, level, fn, lno, msg, args, exc_info, func, extra, sinfo)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        if own is not None:
            record.__dict__.update(own)
        return record

    logger.makeRecord = makeRecord  # type: ignore[method-assign]
