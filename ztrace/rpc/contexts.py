"""ZeroMQ contexts of sockets whose last messages matter.

One idea: a closed socket still sends, in libzmq's thread, which ends with the process. To terminate the
socket's context waits until the messages have left. So each object that has promised delivery has a context
of its own, and terminates it once its sockets are closed.
"""

import sys
from typing import Any, TypeAlias

import zmq

Context: TypeAlias = zmq.Context[zmq.Socket[bytes]]


def terminate(context: Context) -> None:
    """Wait until the last messages of closed sockets have left, as long as these linger.

    Greenlets of gevent go on meanwhile.
    """
    gevent: Any = sys.modules.get("gevent._hub_local")
    hub = None if gevent is None else gevent.get_hub_if_exists()
    if hub is None:
        context.term()
    else:
        hub.threadpool.apply(context.term)
