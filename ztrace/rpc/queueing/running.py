"""One run of a job: the call of its function, with the trace, the deadline and the cancellation around it."""

import inspect
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from contextvars import Context
from typing import Any

from ztrace import spans
from ztrace.context import make_current
from ztrace.exceptions import origins
from ztrace.middleware.kit import new_span, read_context, write_context
from ztrace.rpc import calls, failures, wire
from ztrace.rpc.core.serving import CANCELLED, Served
from ztrace.rpc.exposing import Method
from ztrace.rpc.failures import Failure
from ztrace.spans import CONSUMER, Span


class Run:
    """Run of a job in a thread of the pool.

    Attributes:
        name: function to call.
        result: what it has returned.
        failure: its exception; None if there was none.
        context: trace context of the run, for the next attempt to link to.
    """

    def __init__(self, header: Mapping[str, Any], args: Any, methods: Mapping[str, Method]) -> None:
        self._content, self._header, self._methods = args, header, methods
        own = header.get(wire.OWN)
        self._own: dict[str, Any] = own if type(own) is dict else {}
        self.name = ""
        self.result: Any = None
        self.failure: Failure | None = None
        self.context: dict[str, str] = {}
        self._served = self._make_served()
        self._awaited: Future[Any] | None = None

    def run(self, run_coroutine: Callable[[Any], "Future[Any]"]) -> None:
        """Call the function, and keep its result or its exception.

        Args:
            run_coroutine: runs an awaitable in an event loop.
        """
        try:
            Context().run(self._run, run_coroutine)
        except BaseException as error:
            self.failure = failures.describe(error)
            origin = None if spans.publisher is None else origins.origin_of(error)
            if origin is not None:
                self.failure.details["origin"] = origin[0] + origin[1]

    def cancel(self) -> None:
        """Cancel the run: it does not start, or is interrupted at its next await; a function may ask."""
        self._served.reason = CANCELLED
        if self._awaited is not None:
            self._awaited.cancel()

    def _run(self, run_coroutine: Callable[[Any], "Future[Any]"]) -> None:
        body, self._job_id, self._attempt = self._content
        self.name, self._args, self._kwargs = wire.unpack(body)
        self._served.name, self._served.args, self._served.kwargs = self.name, self._args, self._kwargs
        calls.serving.set(self._served)
        if spans.publisher is None:
            self.result = self._call(run_coroutine)
            return
        span = self._new_span()
        with span:
            write_context(span, self.context)
            self.result = self._call(run_coroutine)

    def _call(self, run_coroutine: Callable[[Any], "Future[Any]"]) -> Any:
        if self._served.reason:
            raise CancelledError("cancelled before it started")
        method = self._methods.get(self.name)
        if method is None:
            raise NameError(f"{self.name}: the worker has {', '.join(sorted(self._methods)[:20])}")
        result = method.function(*self._args, **self._kwargs)
        if not inspect.isawaitable(result):
            return result
        self._awaited = run_coroutine(result)
        if self._served.reason:
            self._awaited.cancel()
        return self._awaited.result()

    def _new_span(self) -> Span:
        """Create the span of this run: the producer's child, with links to it and to the attempt before."""
        parent = read_context(self._header)
        previous = self._own.get("previous")
        before = read_context(previous) if type(previous) is dict else None
        make_current(None)
        attributes = {
            "messaging.system": "ztrace",
            "messaging.message.id": self._job_id,
            "rpc.job.attempt": self._attempt,
        }
        links = [each for each in (parent, before) if each is not None]
        return new_span(self.name, CONSUMER, attributes, parent, links)

    def _make_served(self) -> Served:
        served = Served()
        served.prefix, served.service = [b""], ""
        served.header, served.own, served.reason = dict(self._header), self._own, ""
        milliseconds = self._own.get("ms")
        served.deadline_s = None
        if type(milliseconds) is int:
            served.deadline_s = time.monotonic() + milliseconds / 1000
        return served
