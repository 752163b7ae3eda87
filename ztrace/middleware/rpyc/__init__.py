"""Middleware for rpyc: client and server spans of calls, in both directions of a connection.

One idea: a call through a netref is up to three requests (the attribute, the call, the release), of which
only the call has a span. The other requests carry the current context, so that whatever they run has a
parent. The context, and the answer in a reply, follow the message's data as a trailer
(`ztrace.middleware.trailers`), which brine ignores: a further element would break a peer without ztrace.

    Connection.sync_request, async_request     client spans, and whatever is raised in the caller
    Connection._async_request                  what becomes of the reply, with `Answer`
    Result.wait, Connection._cleanup           asynchronous calls that time out or lose their connection
    Connection._send, _dispatch                trailers
    Connection._dispatch_request               server spans

Source: rpyc 6.0.2, core/protocol.py, brine.py and vinegar.py.
"""

import functools
from typing import Any

from rpyc.core import brine
from rpyc.core.protocol import Connection

from ztrace.middleware.rpyc.calls import (
    wrap_async_request,
    wrap_cleanup,
    wrap_request,
    wrap_sync_request,
)
from ztrace.middleware.rpyc.messages import Trailing, dump_trailing, wrap_dispatch, wrap_send
from ztrace.middleware.rpyc.serving import wrap_dispatch_request


def install() -> None:
    """Patch rpyc's connections, existing and future, once."""
    _wrap_connections()


@functools.cache
def _wrap_connections() -> None:
    brine._dump_registry[Trailing] = dump_trailing
    connection: Any = Connection
    connection._send = wrap_send(connection._send)
    connection._dispatch = wrap_dispatch(connection._dispatch)
    connection._dispatch_request = wrap_dispatch_request(connection._dispatch_request)
    connection._async_request = wrap_request(connection._async_request)
    connection.sync_request = wrap_sync_request(connection.sync_request)
    connection.async_request = wrap_async_request(connection.async_request)
    connection._cleanup = wrap_cleanup(connection._cleanup)
