"""Streams: calls that are served step by step, long after the method has returned an iterator."""

from collections.abc import Iterator
from typing import Any, Self

from ztrace.context import Context, get_current, make_current
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.spans import Span


def watch_stream(steps: Iterator[Any], span: Span, system: str) -> "Stream":
    """Return an iterator over the same items that ends the span, which is current only while a step runs.

    Args:
        steps: as a method has returned them.
        span: of the call; it runs, and is no longer current afterwards.
        system: name of the library, which begins the name of the attribute.
    """
    span.apart.cpu_ns = None  # Between two steps the thread does other work.
    if get_current() is span:
        make_current(span.apart.before)
    return Stream(steps, span, system)


class Stream:
    """Iterator over another's items, whose span is current while a step runs and ends with the items.

    The span ends with the exception if a step fails, and with the attribute ``<system>.stream`` "abandoned"
    if the stream is closed or freed before its end.
    """

    __slots__ = ("__weakref__", "_inside", "_span", "_steps", "_system")

    def __init__(self, steps: Iterator[Any], span: Span, system: str) -> None:
        self._span = span
        self._system = system
        self._steps = steps
        #: Current within the steps: the span, or one that the stream's code holds open between two steps.
        self._inside: Context | None = span

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the next item."""
        before = get_current()
        try:
            make_current(self._inside)
            item = next(self._steps)
            self._inside = get_current()
            return item
        except StopIteration:
            self._span.end()
            raise
        except BaseException as exception:
            take_off_frame(exception)
            self._span.reply()  # Recording the exception is not part of the method's time.
            self._span.end(exception)
            raise
        finally:
            make_current(before)

    def close(self) -> None:
        """Close the stream as its reader does that needs no more items."""
        before = get_current()
        try:
            make_current(self._inside)
            close = getattr(self._steps, "close", None)
            if close is not None:
                close()
        except BaseException as exception:
            take_off_frame(exception)
            self._span.end(exception)
            raise
        finally:
            make_current(before)
            self._abandon()

    def __del__(self) -> None:
        self._abandon()

    def _abandon(self) -> None:
        span = getattr(self, "_span", None)  # Unset if an exception arrived as the stream was made.
        if span is not None and not span.ended:
            span.set(**{f"{self._system}.stream": "abandoned"})
            span.end()
