"""The socket that publishers connect to: where it may listen, and what is received at a time.

One idea: libzmq receives in its own thread and takes turns between the connections, so whoever sends much
waits for itself; what is taken from it here is what one transaction is to hold.
"""

import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import zmq

from ztrace.errors import EndpointError
from ztrace.wire import MAX_FRAME_BYTES, TOPIC

#: What a message waits at most for others to share its transaction.
GATHER_S = 0.05
#: What a transaction holds at most: enough to make its commit cheap, and few enough that a busy
#: publisher, which has 32 messages on the way, hears of some before it has to wait.
MAX_MESSAGES, MAX_BYTES = 32, 1 << 20
#: Of one connection; see ``docs/adr`` for what each setting is worth.
_OPTIONS = (
    (zmq.RCVHWM, 64),
    (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
    (zmq.HANDSHAKE_IVL, 2000),
    (zmq.HEARTBEAT_IVL, 1000),
    (zmq.HEARTBEAT_TIMEOUT, 3000),
    (zmq.LINGER, 0),
)

_LOOPBACK = re.compile(r"127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]")
_EXAMPLE = "use an address like tcp://127.0.0.1:4710"


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that other machines could reach, or that ZeroMQ would misread.

    Raises:
        EndpointError: with what is wrong with it.
    """
    protocol, separator, address = endpoint.partition("://")
    if not separator or protocol not in ("tcp", "ipc", "inproc") or not address:
        raise EndpointError(f"{endpoint!r} is not an endpoint", hint=_EXAMPLE)
    if protocol != "tcp":
        return
    host, _, port = address.rpartition(":")
    if not host or not (port == "*" or (port.isascii() and port.isdigit() and int(port) < 1 << 16)):
        raise EndpointError(f"{endpoint!r} has no valid port", hint=_EXAMPLE)
    if not _LOOPBACK.fullmatch(host):
        raise EndpointError(
            f"{endpoint} could be reached from other machines, and there are no keys yet to keep others out",
            hint=f"{_EXAMPLE}, and a tunnel such as 'ssh -R' for other machines",
        )


@contextmanager
def listen(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    """Yield a socket that listens there and has subscribed."""
    _check_ipc(endpoint)
    with zmq.Context() as context, context.socket(zmq.XSUB) as xsub:
        for option, value in _OPTIONS:
            xsub.setsockopt(option, value)
        xsub.ipv6 = "[" in endpoint
        try:
            xsub.bind(endpoint)
        except zmq.ZMQError as error:
            raise _explain(error, endpoint) from error
        xsub.send(b"\x01" + TOPIC)
        yield xsub


def _check_ipc(endpoint: str) -> None:
    """Refuse the path of a socket that somebody listens on: libzmq would take it away without a word."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint or path.startswith(("@", "*")) or len(path.encode()) > zmq.IPC_PATH_MAX_LEN:
        return
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise EndpointError(f"{path} is a file, not a socket", hint="use another path")
    except OSError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    raise EndpointError(f"{endpoint} is in use", hint="stop the collector there, or use another path")


def gather(xsub: "zmq.Socket[bytes]", stopping: Callable[[], bool]) -> list[list[bytes]]:
    """Receive one transaction's messages: what is there, and what comes in within a moment."""
    messages: list[list[bytes]] = []
    byte_count = 0
    deadline_s = time.monotonic() + GATHER_S
    while len(messages) < MAX_MESSAGES and byte_count < MAX_BYTES:
        try:
            frames = xsub.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            remaining_s = deadline_s - time.monotonic()
            if stopping() or remaining_s <= 0:
                break
            xsub.poll(max(1, int(1000 * remaining_s)))
            continue
        messages.append(frames)
        byte_count += sum(map(len, frames))
    return messages


def _explain(error: zmq.ZMQError, endpoint: str) -> EndpointError:
    reason = f"cannot listen on {endpoint}"
    if error.errno == zmq.EADDRINUSE:
        port = "stop what uses the port, or choose another; with port 0 a free one is found"
        return EndpointError(f"{endpoint} is in use", hint=port)
    if error.errno in (1, 13):
        return EndpointError(
            f"{reason}: not permitted", hint="use a port above 1023, or a folder of your own"
        )
    if endpoint.startswith("ipc://") and error.errno == 2:
        return EndpointError(f"{reason}: there is no such folder", hint="make the socket's folder first")
    if endpoint.startswith("ipc://") and error.errno == 36:
        return EndpointError(f"{reason}: the path is too long", hint=f"{zmq.IPC_PATH_MAX_LEN} bytes at most")
    return EndpointError(f"{reason}: {os.strerror(error.errno or 0)}", hint=_EXAMPLE)
