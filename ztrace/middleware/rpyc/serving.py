"""Server spans of rpyc: from a request to its reply, in whatever direction of a connection it comes."""

import functools
from collections.abc import Callable
from typing import Any

from ztrace import diagnostics, spans
from ztrace.context import SpanContext, get_current, make_current
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.fused.interrupted import fail
from ztrace.fused.serving import ServedSpan, end_served, start_served
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.carriers import read_bytes
from ztrace.middleware.rpyc.messages import ARRIVED, SERVED
from ztrace.middleware.rpyc.names import name_served
from ztrace.native import thread_time_ns
from ztrace.process.sharing import shares_thread
from ztrace.propagation import Caller

#: Attributes of all server spans; a span that gets others copies them.
_ATTRIBUTES: dict[str, Any] = {"rpc.system.name": "rpyc"}


def wrap_dispatch_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``Connection._dispatch_request``, which serves a request and replies."""

    @functools.wraps(original)
    def _dispatch_request(self: Any, seq: int, raw_args: Any) -> Any:
        if spans.publisher is None:
            return original(self, seq, raw_args)
        caller, name = _read_request(self, seq, raw_args)
        if name is None:
            return _serve_within(caller, original, self, seq, raw_args)
        served = self.__dict__.setdefault(SERVED, {})
        span = None
        try:
            try:
                span = ServedSpan()
                start_served(span, name, _ATTRIBUTES, caller, None if shares_thread() else thread_time_ns())
                if not span.ended:
                    served[seq] = (span, caller is not None)
                result = original(self, seq, raw_args)
                end_served(span)
                return result
            except BaseException as exception:
                take_off_frame(exception)
                fail(span, exception)
                raise
        except BaseException as exception:
            insist(fail, span, exception)  # An exception may have arrived in the code above.
            raise
        finally:
            served.pop(seq, None)

    return _dispatch_request


def _read_request(connection: Any, seq: int, raw_args: Any) -> tuple[Caller | None, str | None]:
    """Return the caller's span, and the name of a call."""
    caller = None
    try:
        arrived = connection.__dict__.get(ARRIVED)
        if arrived:
            caller = read_bytes(arrived.pop(seq, None))
        return caller, name_served(connection, raw_args)
    except Exception:
        diagnostics.contain("rpyc")
    return caller, None


def _serve_within(caller: Caller | None, original: Callable[..., Any], *args: Any) -> Any:
    """Serve a request that has no span of its own, with the caller's context current."""
    before = get_current()
    try:
        if caller is not None:
            make_current(SpanContext(*caller))
        return original(*args)
    except BaseException as exception:
        take_off_frame(exception)
        raise
    finally:
        if caller is not None:
            make_current(before)
