"""Server spans of zerorpc calls, and producer and consumer spans of messages."""

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ztrace import diagnostics, spans
from ztrace.context import make_current
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.kit import begin_serving
from ztrace.middleware.zerorpc.contexts import is_traced
from ztrace.spans import CONSUMER, PRODUCER, SERVER, Span, start_span

#: Request that this greenlet serves, and its span.
being_served: ContextVar[tuple[Any, Span | None]] = ContextVar(
    "ztrace_zerorpc_being_served", default=(None, None)
)


def wrap_process_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``process_call`` of a pattern, through which lost remotes and unpackable replies leave too."""

    @functools.wraps(original)
    def process_call(self: Any, context: Any, channel: Any, request: Any, functor: Any) -> Any:
        span = None
        try:
            if spans.publisher is not None and (context.__dict__.get("_ztrace") or is_traced(context)):
                span = serve(request)
            result = original(self, context, channel, request, functor)
        except BaseException as exception:
            take_off_frame(exception)
            if span is not None:
                span.reply()  # Recording the exception is not part of the method's time.
                span.__exit__(None, exception)
            raise
        if span is not None:
            span.__exit__()
        return result

    return process_call


def serve(request: Any) -> Span | None:
    """Start the span of a request; pulled and published messages are those without an identity."""
    span = None
    try:
        name = request.name
        if name[:9] != "_zerorpc_":
            if request.identity is not None:
                span = begin_serving(name, SERVER, {"rpc.system.name": "zerorpc"}, request.header)
            else:
                span = begin_serving(name, CONSUMER, {"messaging.system": "zerorpc"}, request.header)
    except Exception:
        diagnostics.count_failure("zerorpc")
    being_served.set((request, span))
    return span


def wrap_push(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Pusher.__call__``, since none of zerorpc's hooks for messages knows the method."""

    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any) -> Any:
        span = None
        try:
            if spans.publisher is not None and is_traced(self._context):
                span = start_span(method, PRODUCER, {"messaging.system": "zerorpc"})
            original(self, method, *args)
        except BaseException as exception:
            take_off_frame(exception)
            if span is not None:
                span.end(exception)
            raise
        if span is not None:
            span.end()

    return __call__


def wrap_receiver(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Puller._receiver``, the greenlet that serves all messages of a socket."""

    @functools.wraps(original)
    def _receiver(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:  # Killed or timed out while serving a message.
            take_off_frame(exception)
            span = being_served.get()[1]
            if span is not None:
                end_message(span, exception)
            raise

    return _receiver


def end_message(span: Span, exception: BaseException | None = None) -> None:
    """End a consumer span, and clear the current span for the next message."""
    span.end(exception)
    being_served.set((None, None))
    make_current(None)
