"""Responses of servers that name the origin of their error, as OpenTelemetry's instrumentations send them.

One idea: instrumentations ask a response propagator for headers, and those that do not, or too early to know
the status, have another hook. A framework that answers an exception outside its instrumentation is wrapped.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry.context.context import Context
from opentelemetry.instrumentation import propagators
from opentelemetry.instrumentation.propagators import ResponsePropagator

from ztrace import diagnostics
from ztrace.exceptions import origins
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.importing import call_when_imported
from ztrace.otel.answers import HEADER, find_origin, write_origin
from ztrace.propagation import parse_traceparent


def install() -> None:
    """Answer with origins from servers of this process."""
    before = propagators.get_global_response_propagator()  # type: ignore[no-untyped-call]
    if not isinstance(before, OriginPropagator):
        propagators.set_global_response_propagator(OriginPropagator(before))  # type: ignore[no-untyped-call]
    call_when_imported("opentelemetry.instrumentation.wsgi", wrap_wsgi)
    call_when_imported("starlette.middleware.errors", wrap_starlette)


class OriginPropagator(ResponsePropagator):
    """Response propagator that adds the header, after another propagator if one is set.

    Args:
        before: the other propagator.
    """

    def __init__(self, before: ResponsePropagator | None = None) -> None:
        self._before = before

    def inject(
        self, carrier: Any, context: Context | None = None, setter: Any = propagators.default_setter
    ) -> None:
        """Add the origin of the exception that came up through the current server span."""
        if self._before is not None:
            self._before.inject(carrier, context, setter)
        try:
            text = find_origin(context)
            if text is not None:
                setter.set(carrier, HEADER, text)
        except Exception:
            diagnostics.contain("otel_answer")


@functools.cache
def wrap_wsgi() -> None:
    """Wrap OpenTelemetry's WSGI middleware, which asks no response propagator by itself."""
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    original = OpenTelemetryMiddleware.__call__

    @functools.wraps(original)
    def __call__(self: Any, environ: Any, start_response: Callable[..., Any]) -> Any:
        return original(self, environ, functools.partial(_start_response, start_response))

    OpenTelemetryMiddleware.__call__ = __call__  # type: ignore[method-assign]


def _start_response(original: Callable[..., Any], status: str, headers: Any, *rest: Any) -> Any:
    try:
        headers = list(headers)
        _add_origin(status, headers)
    except Exception:
        diagnostics.contain("otel_answer")
    return original(status, headers, *rest)


def _add_origin(status: str, headers: list[tuple[str, str]]) -> None:
    """Add the origin to the headers of an error, unless a response propagator has."""
    if status[:1] in ("4", "5") and not any(name == HEADER for name, _ in headers):
        text = find_origin(failed=status[:1] == "5")
        if text is not None:
            headers.append((HEADER, text))


def _before_response(span: object, status: str, headers: list[tuple[str, str]]) -> None:
    """Add the origin to an error of Flask, or remove it: the response propagator does not know the status."""
    try:
        if status[:1] not in ("4", "5"):
            headers[:] = [header for header in headers if header[0] != HEADER]
        _add_origin(status, headers)
    except Exception:
        diagnostics.contain("otel_answer")


#: Arguments of `instrument` by the name of the instrumentor's entry point.
HOOKS: dict[str, dict[str, Callable[..., Any]]] = {"flask": {"response_hook": _before_response}}


@functools.cache
def wrap_starlette() -> None:
    """Wrap Starlette's answer to exceptions, which its instrumentation is inside of."""
    from starlette.middleware.errors import ServerErrorMiddleware

    original = ServerErrorMiddleware.__call__

    @functools.wraps(original)
    async def __call__(self: Any, scope: Any, receive: Any, send: Callable[..., Any]) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start" and sys.exception() is not None:
                _add_handled(scope, message)
            await send(message)

        try:
            await original(self, scope, receive, answer if scope["type"] == "http" else send)
        except BaseException as exception:
            take_off_frame(exception)
            raise

    ServerErrorMiddleware.__call__ = __call__  # type: ignore[method-assign]


def _add_handled(scope: Any, message: Any) -> None:
    """Add the origin of the exception that is being handled, if it is in the trace of the request."""
    try:
        exception, headers = sys.exception(), list(message.get("headers", ()))
        origin = None if exception is None else origins.origin_of(exception)
        caller = parse_traceparent(dict(scope["headers"]).get(b"traceparent", b"").decode("ascii", "replace"))
        if origin is None or caller is None or caller.trace_id != origin[0]:
            return
        if not any(name == HEADER.encode() for name, _ in headers):
            message["headers"] = [*headers, (HEADER.encode(), write_origin(origin).encode())]
    except Exception:
        diagnostics.contain("otel_answer")
