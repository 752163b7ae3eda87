"""zerorpc: a client and a server span for every call, a producer and a consumer span for every message.

One idea: zerorpc's hooks see a call begin and see the header travel, but they do not see every end. So
wrappers around the few functions that every call must leave through start and end the spans, and hooks
carry context:

    ClientBase.__call__                whatever the caller's greenlet is hit by; async calls
    ReqStream.process_answer           a stream read to its end, failed, abandoned or never read
    ReqRep/ReqStream.process_call      the server's side, lost remotes and unpackable replies included
    Pusher.__call__, Puller._receiver  messages without replies

Context travels as ``traceparent`` in the event header, which servers without ztrace ignore. Back comes, under
`REPLY_KEY`, the server's own duration and the origin of an exception. zerorpc's built-in methods
(``_zerorpc_*``) are not traced.

Between two calls a process does other things, and this code is cold when it runs: what counts is how much of
it runs at all, which is why hooks are short and nothing is done twice.

Source: zerorpc 0.6.3's core.py and patterns.py; docs/explanation/zerorpc.md tells what each wrapper is for.
"""

import functools
import sys
from collections.abc import MutableMapping
from typing import Any

import zerorpc
from zerorpc import core, patterns

from ztrace import diagnostics, spans
from ztrace.context import make_current
from ztrace.exceptions import recording
from ztrace.middleware.kit import DURATION, describe_error, take_duration, write_context
from ztrace.middleware.zerorpc.calls import (
    calling,
    open_calls,
    take_remote_error,
    unread_streams,
    wrap_call,
    wrap_connect,
    wrap_process_answer,
)
from ztrace.middleware.zerorpc.contexts import Registered, is_traced
from ztrace.middleware.zerorpc.serving import (
    being_served,
    end_message,
    serve,
    wrap_process_call,
    wrap_push,
    wrap_receiver,
)
from ztrace.propagation import extract, inject

#: Key of ztrace's map in a reply's header; `ztrace.middleware.kit` has the keys within.
REPLY_KEY = "ztrace"
#: Where zerorpc asks for a task context that is not needed: a request gets its own span's in before_request,
#: and a reply tells its caller nothing new.
#: A tuple: code objects are quick to tell apart, and slow to hash.
_NEEDS_NO_CONTEXT = (
    core.ClientBase.__call__.__code__,
    patterns.ReqRep.process_call.__code__,
    patterns.ReqStream.process_call.__code__,
    core.ServerBase._async_task.__code__,
)


class ZerorpcMiddleware(Registered):
    """The hooks, for ``context.register_middleware(ZerorpcMiddleware())``.

    `ztrace.instrument` registers one with every context; this class is for tracing some of them only. All
    state is the module's, so registering twice traces once. No hook raises: zerorpc would answer the caller
    with that, or not at all.
    """

    def __init__(self) -> None:
        _wrap_zerorpc()

    def get_task_context(self) -> dict[str, str]:
        """Give a message or a forked task the current span."""
        header: dict[str, str] = {}
        try:
            # This hook, hook_get_task_context, and who called that.
            if spans.publisher is not None and sys._getframe(2).f_code not in _NEEDS_NO_CONTEXT:
                inject(header)
        except Exception:
            diagnostics.count_failure("zerorpc")
        return header

    def load_task_context(self, header: MutableMapping[str, Any]) -> None:
        """Make the sender's span current in a task that `zerorpc.fork_task_context` began.

        A request's header comes here too; its span is started, and made current, before the method runs.
        """
        if spans.publisher is not None and "message_id" not in header:
            make_current(extract(header))

    def client_before_request(self, request: Any) -> None:
        """Send the context of the call's span along."""
        if spans.publisher is None:
            return
        try:
            call = calling.get()
            if call is not None and not call.span.ended:
                span, header = call.span, request.header
                write_context(span, header)
                call.message_id = message_id = header["message_id"]
                open_calls[message_id] = span
        except Exception:
            diagnostics.count_failure("zerorpc")

    def client_after_request(self, request: Any, reply: Any, exception: BaseException | None = None) -> None:
        """Take what the server sent back; end the span unless an exception is about to be raised."""
        try:
            message_id = request.header["message_id"]
            span = open_calls.get(message_id)
            if span is None:
                return
            answer = reply.header.get(REPLY_KEY) if reply is not None else None
            if type(answer) is not dict:
                answer = {}
            else:
                take_duration(span, answer)
            if exception is not None:
                if reply is not None:
                    take_remote_error(span, exception, answer)
                return
            del open_calls[message_id]
            if unread_streams:
                unread_streams.pop(message_id, None)
            span.__exit__()
        except Exception:
            diagnostics.count_failure("zerorpc")

    def server_before_exec(self, request: Any) -> None:
        """Start the consumer span of a message; a call's server span is started around this."""
        if request.identity is None and spans.publisher is not None:
            serve(request)

    def server_after_exec(self, request: Any, reply: Any) -> None:
        """Send the server's duration back; end a consumer span."""
        served, span = being_served.get()
        if served is not request or span is None:
            return
        if reply is None:
            end_message(span)
        elif "traceparent" in request.header:
            reply.header[REPLY_KEY] = {DURATION: span.reply()}
        else:
            span.reply()

    def server_inspect_exception(self, request: Any, reply: Any, context: Any, exc_info: Any) -> None:
        """Send the exception's origin back; record methods that do not exist, which nothing else sees."""
        if spans.publisher is None:
            return
        try:
            exception = exc_info[1]
            served, span = being_served.get()
            if served is not request:  # An unknown method: nothing was called.
                span = serve(request)
            if span is None:
                return
            if reply is not None:
                span.reply()
            span.end(exception)
            if reply is None:
                end_message(span)
            elif "traceparent" in request.header:
                # The text of an error that came from further on is a whole traceback by now.
                remote = isinstance(exception, zerorpc.RemoteError)
                message = recording.message_of(exception) if remote else None
                reply.header[REPLY_KEY] = describe_error(span, exception, message)
        except Exception:
            diagnostics.count_failure("zerorpc")


def install() -> None:
    """Register the middleware with every zerorpc context, those that exist and those to come."""
    _wrap_contexts()
    if zerorpc.Context._instance is not None:
        _register(zerorpc.Context._instance)


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
    """Put the wrappers in place, once; they find nothing to end for contexts without the middleware."""
    core.ClientBase.__call__ = wrap_call(core.ClientBase.__call__)
    core.SocketBase.connect = wrap_connect(core.SocketBase.connect)
    core.SocketBase.bind = wrap_connect(core.SocketBase.bind)
    core.Pusher.__call__ = wrap_push(core.Pusher.__call__)
    core.Puller._receiver = wrap_receiver(core.Puller._receiver)
    patterns.ReqStream.process_answer = wrap_process_answer(patterns.ReqStream.process_answer)
    patterns.ReqStream.process_call = wrap_process_call(patterns.ReqStream.process_call)
    patterns.ReqRep.process_call = wrap_process_call(patterns.ReqRep.process_call)
