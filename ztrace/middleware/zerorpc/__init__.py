"""Middleware for zerorpc: client and server spans of calls, producer and consumer spans of messages.

One idea: zerorpc's hooks see the start of a call and its headers, but not every end. So wrappers around the
few functions through which each call must leave start and end the spans, and the hooks carry the context:

    ClientBase.__call__                sync and async calls, and whatever is raised in the caller's greenlet
    ReqStream.process_answer           streams that are exhausted, fail, are abandoned or never read
    ReqRep/ReqStream.process_call      served calls, with lost remotes and replies that cannot be packed; of
                                       patterns of the program's own as well
    Pusher.__call__, Puller._receiver  messages without replies

The context travels as ``traceparent`` in the event header, which servers without ztrace ignore. The reply
carries the server's duration and the origin of an exception under `REPLY_KEY`. zerorpc's built-in methods
(``_zerorpc_*``) are not traced.

Other code runs between two calls, so this code is cold when it runs and its cost is the number of its
instructions: hooks are short, and nothing is done twice.

Source: core.py and patterns.py of zerorpc 0.6.3; docs/explanation/zerorpc.md explains each wrapper.
"""

import functools
import sys
from collections.abc import MutableMapping
from typing import Any

import zerorpc
from zerorpc import core, patterns

from ztrace import diagnostics, spans
from ztrace.context import make_current
from ztrace.exceptions import messages
from ztrace.fused.calls import end_call
from ztrace.lifecycle.recovery import insist
from ztrace.middleware.kit import OWN_CONTEXT, read_context
from ztrace.middleware.replies import MAX_NS, reply_text, take_reply
from ztrace.middleware.zerorpc.calls import (
    REPLY_KEY,
    calling,
    open_calls,
    take_remote_error,
    unread_streams,
    wrap_call,
    wrap_connect,
    wrap_handle_remote_error,
    wrap_process_answer,
)
from ztrace.middleware.zerorpc.contexts import Registered, find_instances, is_traced, wrap_register
from ztrace.middleware.zerorpc.serving import (
    being_served,
    end_message,
    end_unfinished,
    serve,
    served_calls,
    wrap_patterns,
    wrap_process_call,
    wrap_push,
    wrap_receiver,
    wrap_server,
)
from ztrace.propagation import format_traceparent, inject
from ztrace.spans import Span

#: Callers of `get_task_context` that need no context: a request gets that of its own span in before_request,
#: and a reply has nothing to tell its caller. A tuple, since code objects compare fast and hash slowly.
_NEEDS_NO_CONTEXT = (
    core.ClientBase.__call__.__code__,
    patterns.ReqRep.process_call.__code__,
    patterns.ReqStream.process_call.__code__,
    core.ServerBase._async_task.__code__,
)


class ZerorpcMiddleware(Registered):
    """Hooks for one context: ``context.register_middleware(ZerorpcMiddleware())``.

    `ztrace.instrument` registers an instance with every context; register one yourself to trace only some of
    them. All state is kept in the module, so a second registration has no effect. No hook raises, since
    zerorpc would send that exception to the caller, or no reply at all.
    """

    def __init__(self) -> None:
        _wrap_zerorpc()

    def get_task_context(self) -> dict[str, str]:
        """Return the context of the current span for a message or a forked task."""
        header: dict[str, str] = {}
        try:
            # Frame 0 is this hook, 1 zerorpc's hook_get_task_context, 2 its caller.
            if spans.publisher is not None and sys._getframe(2).f_code not in _NEEDS_NO_CONTEXT:
                inject(header)
                if header and not self.is_alone:
                    header[OWN_CONTEXT] = header["traceparent"]
        except Exception:
            diagnostics.contain("zerorpc")
        return header

    def load_task_context(self, header: MutableMapping[str, Any]) -> None:
        """Make the sender's span current in a task started by `zerorpc.fork_task_context`.

        Headers of requests are passed here too: their spans are started before the method runs, and until
        then only other middleware's hooks need a parent.
        """
        try:
            if spans.publisher is not None and ("message_id" not in header or not self.is_alone):
                make_current(read_context(header))
        except Exception:
            diagnostics.contain("zerorpc")

    def client_before_request(self, request: Any) -> None:
        """Add the context of the call's span to the request."""
        if spans.publisher is None:
            return
        try:
            span = calling.get()
            if span is not None and span.is_unsent:
                header = request.header
                span.message_id = message_id = header["message_id"]
                open_calls[message_id] = span
                span.is_unsent = False
                traceparent = format_traceparent(span)
                if "traceparent" in header:  # Another tracer's.
                    header[OWN_CONTEXT] = traceparent
                else:
                    header["traceparent"] = traceparent
                    if span.w3c[1]:
                        header["tracestate"] = span.w3c[1]
        except Exception:
            diagnostics.contain("zerorpc")

    def client_after_request(self, request: Any, reply: Any, exception: BaseException | None = None) -> None:
        """Read the server's part of the reply; end the span unless an exception is about to be raised."""
        try:
            message_id = request.header["message_id"]
            span = open_calls.get(message_id)
            if span is None:
                return
            answer = None if reply is None else reply.header.get(REPLY_KEY)
            if exception is not None:
                if reply is not None:
                    take_remote_error(span, exception, answer)
                return
            if answer is not None:
                if type(answer) is int and 0 <= answer < MAX_NS:  # As most are.
                    span.covered_ns = answer
                else:
                    take_reply(span, answer)
            end_call(span)
            if unread_streams:
                unread_streams.pop(message_id, None)
            open_calls.pop(message_id, None)
        except Exception:
            diagnostics.contain("zerorpc")

    def server_before_exec(self, request: Any) -> None:
        """Start the consumer span of a message; `process_call` starts the server span of a call."""
        if request.identity is None and spans.publisher is not None:
            serve(request)

    def server_after_exec(self, request: Any, reply: Any) -> None:
        """Add the server's duration to the reply, or end a consumer span."""
        span = served_calls.get(request)
        if span is not None:
            duration_ns = span.reply()
            if "traceparent" in request.header:
                reply.header[REPLY_KEY] = duration_ns
        elif reply is None:
            served, message = being_served.get()
            if served is request and message is not None:
                end_message(message)

    def server_inspect_exception(self, request: Any, reply: Any, context: Any, exc_info: Any) -> None:
        """Add the exception's origin to the reply; record calls of unknown methods, which no wrapper sees."""
        if spans.publisher is None:
            return
        exception = exc_info[1]
        try:
            try:
                span: Span | None = served_calls.get(request)
                if span is None:
                    served, span = being_served.get()
                    if served is not request:  # An unknown method, which was not called.
                        span = serve(request)
                if span is None:
                    return
                if reply is not None:
                    span.reply()
                span.end(exception)
                if reply is None:
                    end_message(span)
                elif "traceparent" in request.header:
                    # The text of a RemoteError is a whole traceback.
                    remote = issubclass(type(exception), zerorpc.RemoteError)
                    message = messages.message_of(exception) if remote else None
                    reply.header[REPLY_KEY] = reply_text(span, exception, message)
            except Exception:
                diagnostics.contain("zerorpc")
        except BaseException:
            insist(end_unfinished, exception)  # No wrapper sees the span of an unknown method.
            raise


def install() -> None:
    """Register the middleware with every zerorpc context, existing and future."""
    if not _wrap_contexts.cache_info().currsize:  # Of contexts made later it is sure.
        for context in find_instances(zerorpc.Context):
            _register(context)
    _wrap_contexts()


def _register(context: Any) -> None:
    if not is_traced(context):
        context.register_middleware(ZerorpcMiddleware())


@functools.cache
def _wrap_contexts() -> None:
    original = zerorpc.Context.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _register(self)

    zerorpc.Context.__init__ = __init__


@functools.cache
def _wrap_zerorpc() -> None:
    """Install the wrappers, once; contexts without the middleware are not affected."""
    core.ClientBase.__call__ = wrap_call(core.ClientBase.__call__)
    core.SocketBase.connect = wrap_connect(core.SocketBase.connect)
    core.SocketBase.bind = wrap_connect(core.SocketBase.bind)
    core.Pusher.__call__ = wrap_push(core.Pusher.__call__)
    core.Puller._receiver = wrap_receiver(core.Puller._receiver)
    core.ClientBase._handle_remote_error = wrap_handle_remote_error(core.ClientBase._handle_remote_error)
    zerorpc.Context.register_middleware = wrap_register(zerorpc.Context.register_middleware)
    patterns.ReqStream.process_answer = wrap_process_answer(patterns.ReqStream.process_answer)
    patterns.ReqStream.process_call = wrap_process_call(patterns.ReqStream.process_call)
    patterns.ReqRep.process_call = wrap_process_call(patterns.ReqRep.process_call)
    core.ServerBase.__init__ = wrap_server(core.ServerBase.__init__)
    for server in find_instances(core.ServerBase):
        wrap_patterns(server)
