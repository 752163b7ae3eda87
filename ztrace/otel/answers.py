"""Origins of exceptions in HTTP responses, through the hooks of OpenTelemetry's instrumentations.

One idea: an HTTP error is the end of an exception at the server and the start of another at the client. The
server's response names the origin in one header; the client marks its span, and the exception that
``raise_for_status`` raises, with that origin. The header holds ids only, and only goes to a client that has
sent its trace context. A client accepts only origins in its own trace.
"""

import functools
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.instrumentation import propagators
from opentelemetry.instrumentation.propagators import ResponsePropagator

from ztrace import diagnostics
from ztrace.context import find_current
from ztrace.exceptions import origins
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.importing import call_when_imported
from ztrace.otel.context import HOW, ORIGIN_SPAN_ID, ORIGIN_TRACE_ID
from ztrace.records import PASSED

#: Response header with the trace id and span id of an exception's origin, and its form.
HEADER = "ztrace"
_ORIGIN = re.compile(r"o=([0-9a-f]{32})-([0-9a-f]{16})\Z")

#: Lowest HTTP status that is an error.
_ERROR = 400

#: Modules with a class whose ``raise_for_status`` raises the exception of an HTTP error.
_RESPONSES = {
    "requests.models": "Response",
    "httpx": "Response",
    "aiohttp.client_reqrep": "ClientResponse",
}


def install() -> None:
    """Answer with origins from servers of this process, and have its clients read them."""
    before = propagators.get_global_response_propagator()  # type: ignore[no-untyped-call]
    if not isinstance(before, OriginPropagator):
        propagators.set_global_response_propagator(OriginPropagator(before))  # type: ignore[no-untyped-call]
    call_when_imported("opentelemetry.instrumentation.wsgi", _wrap_wsgi)
    for module in _RESPONSES:
        call_when_imported(module, _INSTALLERS[module])


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
            text = _find_origin(trace.get_current_span(context))
            if text is not None:
                setter.set(carrier, HEADER, text)
        except Exception:
            diagnostics.contain("otel_answer")


def _find_origin(span: trace.Span) -> str | None:
    """Return the header for the latest exception that came up through a span with a remote parent."""
    parent = getattr(span, "parent", None)  # An attribute of the SDK's spans.
    if parent is None or not parent.is_remote:
        return None
    handled = sys.exception()
    origin = None if handled is None else origins.origin_of(handled)
    if origin is None:
        origin = origins.find_passed(span.get_span_context().span_id.to_bytes(8))
    return None if origin is None else f"o={origin[0].hex()}-{origin[1].hex()}"


@functools.cache
def _wrap_wsgi() -> None:
    """Wrap OpenTelemetry's WSGI middleware, which asks no response propagator by itself."""
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    original = OpenTelemetryMiddleware.__call__

    @functools.wraps(original)
    def __call__(self: Any, environ: Any, start_response: Callable[..., Any]) -> Any:
        return original(self, environ, functools.partial(_start_response, start_response))

    OpenTelemetryMiddleware.__call__ = __call__  # type: ignore[method-assign]


def _start_response(original: Callable[..., Any], status: str, headers: Any, *rest: Any) -> Any:
    try:
        if status[:1] in ("4", "5") and not any(name == HEADER for name, _ in headers):
            text = _find_origin(trace.get_current_span())
            if text is not None:
                headers = [*headers, (HEADER, text)]
    except Exception:
        diagnostics.contain("otel_answer")
    return original(status, headers, *rest)


def _read(headers: Mapping[str, Any] | None, trace_id: bytes | None) -> tuple[bytes, bytes] | None:
    """Return the origin in a response's headers, None unless there is one in the given trace."""
    text = None if headers is None else headers.get(HEADER)
    match = _ORIGIN.match(text) if type(text) is str else None
    if match is None:
        return None
    origin = bytes.fromhex(match[1]), bytes.fromhex(match[2])
    return origin if trace_id is None or origin[0] == trace_id else None


def take_response(span: trace.Span, status: int, headers: Mapping[str, Any] | None) -> None:
    """Record in a client's span that an HTTP error ends an exception with an origin further down."""
    try:
        if status < _ERROR or not span.is_recording():
            return
        origin = _read(headers, span.get_span_context().trace_id.to_bytes(16))
        if origin is not None:
            span.add_event("exception", {"exception.type": f"HTTP {status}", "exception.message": ""})
            span.set_attributes(
                {HOW: PASSED, ORIGIN_TRACE_ID: origin[0].hex(), ORIGIN_SPAN_ID: origin[1].hex()}
            )
    except Exception:
        diagnostics.contain("otel_answer")


def _after_request(span: trace.Span, request: Any, response: Any) -> None:
    take_response(span, response.status_code, response.headers)


async def _after_async_request(span: trace.Span, request: Any, response: Any) -> None:
    take_response(span, response.status_code, response.headers)


def _after_pool_request(span: trace.Span, pool: Any, response: Any) -> None:
    take_response(span, response.status, response.headers)


def _after_traced_request(span: trace.Span, parameters: Any) -> None:
    response = getattr(parameters, "response", None)
    if response is not None:
        take_response(span, response.status, response.headers)


#: Arguments of `instrument` by the name of the instrumentor's entry point.
HOOKS: dict[str, dict[str, Callable[..., Any]]] = {
    "requests": {"response_hook": _after_request},
    "httpx": {"response_hook": _after_request, "async_response_hook": _after_async_request},
    "urllib3": {"response_hook": _after_pool_request},
    "aiohttp-client": {"response_hook": _after_traced_request},
}


def _installer(module: str) -> Callable[[], None]:
    def wrap() -> None:
        _wrap_response(getattr(sys.modules[module], _RESPONSES[module]))

    return wrap


#: By module; the same object each time, so that it waits for a module once.
_INSTALLERS = {module: _installer(module) for module in _RESPONSES}


@functools.cache
def _wrap_response(cls: Any) -> None:
    """Wrap ``raise_for_status`` of a class of responses, whose exception is the server's further on."""
    original = cls.raise_for_status

    @functools.wraps(original)
    def raise_for_status(self: Any) -> Any:
        try:
            return original(self)
        except BaseException as exception:
            take_off_frame(exception)
            _mark(exception, self)
            raise

    cls.raise_for_status = raise_for_status


def _mark(exception: BaseException, response: Any) -> None:
    try:
        current = find_current()
        origin = _read(response.headers, None if current is None else current.trace_id)
        if origin is not None and origins.origin_of(exception) is None:
            origins.mark_origin(exception, *origin, current)
    except Exception:
        diagnostics.contain("otel_answer")
