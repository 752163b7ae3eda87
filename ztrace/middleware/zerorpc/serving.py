"""Server spans of zerorpc calls, and producer and consumer spans of messages."""

import functools
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from types import FunctionType
from typing import Any

from ztrace import diagnostics, spans
from ztrace.context import HOLDS, RUNS, make_current
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.interrupted import fail, has_started
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.kit import new_serving, new_span, read_caller, read_context
from ztrace.middleware.zerorpc.contexts import is_traced
from ztrace.spans import CONSUMER, PRODUCER, SERVER, Span

#: Attributes of all server spans; a span that gets others copies them.
_ATTRIBUTES: dict[str, Any] = {"rpc.system.name": "zerorpc"}
#: Spans of the requests that `wrap_process_call` sees, while their methods run.
served_calls: dict[Any, ServedSpan] = {}
#: Message that this greenlet serves, or request that has failed or that no wrapper sees; and its span.
being_served: ContextVar[tuple[Any, Span | None]] = ContextVar(
    "ztrace_zerorpc_being_served", default=(None, None)
)
#: Arguments of a static ``process_call``; patterns that call the one they override may give them by name.
_ARGUMENTS = 4
#: Functions that `wrap_process_call` has returned.
_wrapped: set[Callable[..., Any]] = set()


def wrap_process_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``process_call`` of a pattern, through which lost remotes and unpackable replies leave too.

    It takes a context, a channel, the request and the method, after ``self`` if it is no static method.
    """

    @functools.wraps(original)
    def process_call(*args: Any, **kwargs: Any) -> Any:
        span = request = None
        try:
            try:
                if spans.publisher is not None and len(args) >= _ARGUMENTS:
                    request = args[-2]
                    if request not in served_calls and (
                        args[-4].__dict__.get("_ztrace") or is_traced(args[-4])
                    ):
                        name, header = request.name, request.header
                        if name[:9] != "_zerorpc_":  # The built-in methods have no span.
                            caller = read_caller(header)
                            span = ServedSpan()
                            # The thread runs other greenlets as well: its CPU time is not measured.
                            start_served(span, name, _ATTRIBUTES, caller, None)
                            if span._state in RUNS:
                                served_calls[request] = span
                result = original(*args, **kwargs)
                if span is not None:
                    served_calls.pop(request, None)
                    end_served(span)
                return result
            except BaseException as exception:
                take_off_frame(exception)
                _fail(span, request, exception)
                raise
        except BaseException as exception:
            insist(_fail, span, request, exception)  # An exception may have arrived in the code above.
            raise

    _wrapped.add(process_call)
    return process_call


def _fail(span: ServedSpan | None, request: Any, exception: BaseException) -> None:
    """End the span of a request that an exception leaves, and keep it for `server_inspect_exception`."""
    if span is None:
        return
    running = has_started(span)
    if being_served.get()[0] is not request:
        _set_served(request, span if running else None)
    served_calls.pop(request, None)
    if running:
        span.reply()  # Recording the exception is not part of the method's time.
        fail(span, exception)


def wrap_server(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``ServerBase.__init__``, to wrap ``process_call`` of patterns that are not zerorpc's own."""

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            original(self, *args, **kwargs)
        except BaseException as exception:
            take_off_frame(exception)
            raise
        wrap_patterns(self)

    return __init__


def wrap_patterns(server: Any) -> None:
    """Wrap ``process_call`` of the patterns of a server's methods, which may be the program's own."""
    try:
        methods = vars(server).get("_methods", {})  # None yet, if the server is being made in this moment.
        for functor in list(methods.values()):
            pattern = getattr(functor, "pattern", None)
            kind = pattern if isinstance(pattern, type) else type(pattern)
            for owner in (pattern, *kind.__mro__):
                _wrap_pattern(owner, kind.__name__)
    except Exception:
        diagnostics.contain("zerorpc")


def _wrap_pattern(owner: Any, name: str) -> None:
    """Wrap ``process_call`` of a pattern or of one of its classes, if it is defined there."""
    found: Any = getattr(owner, "__dict__", {}).get("process_call")
    kind: Any = type(found)
    function = found.__func__ if kind is staticmethod or kind is classmethod else found
    if type(function) is FunctionType:
        if function not in _wrapped:
            wrapper = wrap_process_call(function)
            owner.process_call = wrapper if function is found else kind(wrapper)
    elif found is not None:
        _warn_of_pattern(name)


@functools.cache
def _warn_of_pattern(name: str) -> None:
    diagnostics.warn(f"calls with the zerorpc pattern {name} are not traced: make process_call a method")


def serve(request: Any) -> Span | None:
    """Start the span of a request or message that no wrapper sees; a later hook ends it."""
    span = new_served(request)
    if span is not None and span.start().ended:
        _set_served(request, None)
    return being_served.get()[1]


def new_served(request: Any) -> Span | None:
    """Create the span of a request; pulled and published messages are those without an identity."""
    span = None
    try:
        name = request.name
        if name[:9] != "_zerorpc_":
            if request.identity is not None:
                parent = read_context(request.header)
                span = new_span(name, SERVER, {"rpc.system.name": "zerorpc"}, parent)
            else:
                span = new_serving(name, CONSUMER, {"messaging.system": "zerorpc"}, request.header)
    except Exception:
        diagnostics.contain("zerorpc")
    _set_served(request, span)
    return span


def _set_served(request: Any, span: Span | None) -> None:
    _held = copy_context() if HOLDS else None
    being_served.set((request, span))


def wrap_push(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Pusher.__call__``, since none of zerorpc's hooks for messages knows the method."""

    @functools.wraps(original)
    def __call__(self: Any, method: Any, *args: Any) -> Any:
        span = None
        try:
            try:
                if spans.publisher is not None and is_traced(self._context):
                    span = new_span(method, PRODUCER, {"messaging.system": "zerorpc"})
                    span.start()
                original(self, method, *args)
            except BaseException as exception:
                take_off_frame(exception)
                if span is not None:
                    span.__exit__(None, exception)
                raise
            if span is not None:
                span.__exit__()
        except BaseException as exception:
            if span is not None:  # An exception may have arrived in the code above.
                insist(span.__exit__, None, exception)
            raise

    return __call__


def wrap_receiver(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Puller._receiver``, the greenlet that serves all messages of a socket."""

    @functools.wraps(original)
    def _receiver(self: Any) -> Any:
        try:
            try:
                is_traced(self._context)  # Has hooks in their places before the first is called.
                return original(self)
            except BaseException as exception:  # Killed or timed out while serving a message.
                take_off_frame(exception)
                end_unfinished(exception)
                raise
        except BaseException as exception:
            insist(end_unfinished, exception)  # Another exception may have arrived in the code above.
            raise

    return _receiver


def end_unfinished(exception: BaseException) -> None:
    """End the span of what this greenlet serves, if it still runs."""
    span = being_served.get()[1]
    if span is not None:
        end_message(span, exception)


def end_message(span: Span, exception: BaseException | None = None) -> None:
    """End a consumer span, and clear the current span for the next message."""
    span.end(exception)
    _set_served(None, None)
    make_current(None)
