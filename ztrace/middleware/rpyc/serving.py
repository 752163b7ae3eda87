"""Server spans of rpyc: from a request to its reply, in whatever direction of a connection it comes."""

import functools
from collections.abc import Callable
from typing import Any

from ztrace import diagnostics, spans
from ztrace.context import Context, get_current, make_current
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.carriers import read_context_text
from ztrace.middleware.kit import new_span
from ztrace.middleware.rpyc.messages import ARRIVED, SERVED
from ztrace.middleware.rpyc.names import name_served
from ztrace.spans import SERVER, Span


def wrap_dispatch_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._dispatch_request``, which serves a request and replies."""

    @functools.wraps(original)
    def _dispatch_request(self: Any, seq: int, raw_args: Any) -> Any:
        if spans.publisher is None:
            return original(self, seq, raw_args)
        context, span = _begin(self, seq, raw_args)
        if span is None:
            return _serve_within(context, original, self, seq, raw_args)
        served = self.__dict__.setdefault(SERVED, {})
        try:
            try:
                if not span.start().ended:
                    served[seq] = (span, context is not None)
                result = original(self, seq, raw_args)
            except BaseException as exception:
                take_off_frame(exception)
                span.__exit__(None, exception)
                raise
            span.__exit__()
            return result
        except BaseException as exception:
            span.__exit__(None, exception)  # An exception may have arrived in the code above.
            raise
        finally:
            served.pop(seq, None)

    return _dispatch_request


def _begin(connection: Any, seq: int, raw_args: Any) -> tuple[Context | None, Span | None]:
    """Return the caller's context, and the span of a call."""
    context = None
    try:
        arrived = connection.__dict__.get(ARRIVED)
        if arrived:
            context = read_context_text(arrived.pop(seq, None))
        name = name_served(connection, raw_args)
        if name is not None:
            return context, new_span(name, SERVER, {"rpc.system.name": "rpyc"}, context)
    except Exception:
        diagnostics.contain("rpyc")
    return context, None


def _serve_within(context: Context | None, original: Callable[..., Any], *args: Any) -> Any:
    """Serve a request that has no span of its own, with the caller's context current."""
    before = get_current()
    try:
        if context is not None:
            make_current(context)
        return original(*args)
    except BaseException as exception:
        take_off_frame(exception)
        raise
    finally:
        if context is not None:
            make_current(before)
