"""Clients that read the origin in an HTTP error, through hooks of OpenTelemetry's instrumentations.

The hook marks the client's span. The exception that ``raise_for_status`` raises later is marked as well.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from ztrace import diagnostics
from ztrace.context import find_current
from ztrace.exceptions import origins
from ztrace.exceptions.tracebacks import take_off_frame
from ztrace.middleware.importing import call_when_imported
from ztrace.otel.answers import read_origin, take_response

#: Modules with a class whose ``raise_for_status`` raises the exception of an HTTP error.
_RESPONSES = {
    "requests.models": "Response",
    "httpx": "Response",
    "aiohttp.client_reqrep": "ClientResponse",
}


def install() -> None:
    """Have the responses that clients of this process get mark the exceptions that they raise."""
    for module in _RESPONSES:
        call_when_imported(module, _INSTALLERS[module])


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
        origin = read_origin(response.headers, None if current is None else current.trace_id)
        if origin is not None and origins.origin_of(exception) is None:
            origins.mark_origin(exception, *origin, current)
    except Exception:
        diagnostics.contain("otel_answer")
