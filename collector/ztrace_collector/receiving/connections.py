"""Who may connect: libzmq's questions answered, and the open connections counted and bounded.

One idea: libzmq asks before it lets anyone in, and tells of whatever comes and goes. Both are read a little
at a time in the collector's one loop. libzmq never waits for it: events queue up without a bound, and who
has not finished a handshake in time is cut by libzmq itself.

It asks without keys, too: with somebody to ask it turns away peers of ZMTP 1 and 2. As such it would take any
bytes at all, and keep them for good, since those know neither a handshake nor a heartbeat.
"""

import resource
import socket
import struct
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Protocol, Self

import zmq
from zmq.auth.base import Authenticator

from ztrace_collector.refusals import CONNECTION_LIMIT, HANDSHAKE_DENIED, HANDSHAKE_FAILED, Note

#: What a handshake may take; libzmq cuts who takes longer.
HANDSHAKE_MS = 2000
#: After this every handshake has come to an end, and libzmq has told of it.
_SETTLED_S = HANDSHAKE_MS / 1000 + 1
#: Open connections at most: a publisher has one, and each costs libzmq some kilobytes and a descriptor.
MAX_CONNECTIONS = 4096
#: Descriptors for everything else, and for connections that come between two looks: SQLite must always get
#: one, and libzmq, when there is none left, asks for the next connection again and again without a pause.
RESERVE = 512
#: Questions and events taken at a look: some milliseconds.
MAX_ANSWERS, MAX_EVENTS = 128, 1024

#: What libzmq asks about; any name but an empty one will do.
_DOMAIN = "ztrace"
_EVENT = struct.Struct("=hi")
_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


class Admits(Protocol):
    """Who knows which keys are good, as pyzmq calls it."""

    def callback(self, domain: str, key: bytes) -> bool:
        """Tell whether a public key, in Z85, is."""
        ...


class Connections:
    """What goes on at the door of a socket, from `__enter__`, before it is bound, to `__exit__`.

    Attributes:
        sockets: readable when `tend` has something to do.
        limit: how many connections may be open.
    """

    def __init__(self, xsub: "zmq.Socket[bytes]", admits: Admits | None = None) -> None:
        context = xsub.context
        self.limit = _raise_limit()
        self._xsub = xsub
        self._authenticator = Authenticator(context)
        if admits is not None:
            self._authenticator.configure_curve_callback(_DOMAIN, admits)
        self._monitor: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._forget()

    def __enter__(self) -> Self:
        self._xsub.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        self._authenticator.start()
        self._monitor.linger = 0
        # With a bound, libzmq's own thread would wait here for us, and every connection with it.
        self._monitor.rcvhwm = 0
        address = f"inproc://door-{id(self)}"
        self._xsub.monitor(address, _EVENTS)
        self._monitor.connect(address)
        self.sockets = (self._authenticator.zap_socket, self._monitor)
        return self

    def __exit__(self, *_: object) -> None:
        self._xsub.disable_monitor()
        self._monitor.close()
        self._authenticator.stop()

    @property
    def open_count(self) -> int:
        """How many connections are open, as far as has been told."""
        return len(self._open)

    def tend(self, note: Note) -> None:
        """Answer, count, and cut what is too much."""
        for _ in range(MAX_ANSWERS):
            try:
                question = self._authenticator.zap_socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            _finish(self._authenticator.handle_zap_message(question))
        now_s = time.monotonic()
        for _ in range(MAX_EVENTS):
            try:
                event, _address = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            number, value = _EVENT.unpack(event)
            self._take(number, value, now_s, note)
        while len(self._open) > self.limit:
            self._cut_newest(note)
        self._count_failed(now_s, note)

    def reopened(self, note: Note) -> None:
        """Begin anew: every connection has been closed from this side, of which libzmq does not tell."""
        while self._monitor.poll(0):
            self.tend(note)
        self._forget()

    def _forget(self) -> None:
        #: When each open connection was accepted, by its descriptor, the oldest first.
        self._open: dict[int, float] = {}
        #: Descriptors that were shut down here, until libzmq tells that they are closed.
        self._cut: set[int] = set()
        #: Handshakes that began, and how many of them ended in which way.
        self._accepted = self._succeeded = self._told = 0
        self._failure = ""

    def _take(self, event: int, value: int, now_s: float, note: Note) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._accepted += 1
            self._cut.discard(value)
            self._open.pop(value, None)
            self._open[value] = now_s
        elif event == zmq.EVENT_DISCONNECTED:
            if value in self._cut:
                self._cut.remove(value)
            else:
                self._open.pop(value, None)
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._succeeded += 1
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._told += 1
            note(HANDSHAKE_DENIED, "a key that is unknown or revoked")
        elif value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            self._failure = "one side has keys and the other has not"

    def _cut_newest(self, note: Note) -> None:
        """Close the connection that came last: those that were there before are more likely publishers."""
        number, _ = self._open.popitem()
        self._cut.add(number)
        self._told += 1
        note(CONNECTION_LIMIT, f"more than {self.limit} connections")
        # It may be closed by now, and its number another's that is just as new; no file takes a shutdown.
        with suppress(OSError):
            connection = socket.socket(fileno=number)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()

    def _count_failed(self, now_s: float, note: Note) -> None:
        """Count who was accepted and got no further. libzmq does not tell of all of them, nor of whom.

        While connections are young it is not known which of them are on the way to failing: none is counted
        until there are more than those.
        """
        undecided = 0
        for accepted_s in reversed(self._open.values()):
            if now_s - accepted_s > _SETTLED_S:
                break
            undecided += 1
        failed = self._accepted - self._succeeded - self._told - undecided
        if failed > 0:
            self._told += failed
            note(HANDSHAKE_FAILED, self._failure or "not ZeroMQ 4, or not finished in time", failed)
            self._failure = ""


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that has nothing to wait for."""
    with suppress(StopIteration):
        work.send(None)
        raise RuntimeError("pyzmq's authenticator waits for something")


def _raise_limit() -> int:
    """Get the descriptors that are needed, if the system grants them; return the limit on connections."""
    wanted = MAX_CONNECTIONS + RESERVE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS
    return max(soft - RESERVE, soft // 2)
