"""Connections of the socket: libzmq's authentication requests answered, open connections counted and bounded.

One idea: libzmq asks before it accepts a peer, and reports each connection that opens or closes. The loop
reads requests and events a little at a time. libzmq never waits for the loop: events queue up without a
bound, and libzmq itself closes connections whose handshake takes too long.

libzmq is made to ask without keys, too: then it rejects peers of ZMTP 1 and 2, from which it would otherwise
accept any bytes and keep the connection for good, since they have neither a handshake nor a heartbeat.
"""

import resource
import socket
import struct
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

import zmq
from zmq.auth.base import Authenticator

from ztrace_collector.receiving.admission import Admission
from ztrace_collector.receiving.weighing import Scales
from ztrace_collector.refusals import (
    CONNECTION_LIMIT,
    HANDSHAKE_DENIED,
    HANDSHAKE_FAILED,
    NO_KEY,
    OVERSIZED,
    Note,
)

#: Timeout of a handshake, after which libzmq closes the connection.
HANDSHAKE_MS = 2000
#: Age of a connection whose handshake has ended, and has been reported by libzmq.
_SETTLED_S = HANDSHAKE_MS / 1000 + 1
#: Maximum of open connections: a publisher has one, and each costs some kilobytes and a descriptor.
MAX_CONNECTIONS = 4096
#: Descriptors reserved for other uses and for connections accepted between two turns: SQLite must always get
#: one, and libzmq retries accepting in a busy loop when none is left.
RESERVE = 512
#: Requests and events handled in one turn, in some milliseconds.
MAX_ANSWERS, MAX_EVENTS = 128, 1024

#: ZAP domain; any name but an empty one makes libzmq ask.
_DOMAIN = "ztrace"
_EVENT = struct.Struct("=hi")
_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)


class Connections:
    """Connections of a socket, from `__enter__`, before the socket is bound, to `__exit__`.

    Attributes:
        sockets: readable when `tend` has something to do.
        scales: bytes that libzmq holds for each connection.
        limit: maximum of open connections.
    """

    def __init__(self, router: "zmq.Socket[bytes]", admission: Admission | None = None) -> None:
        context = router.context
        self.limit = _raise_limit()
        self.scales = Scales()
        self._router = router
        self._keyed = admission is not None
        # Peers without a key close the connection as well, and libzmq reports a mismatch only if it is first.
        kinds = "not ZeroMQ 4, another type of socket" + (", no key" if self._keyed else "")
        self._usual_failure = f"{kinds}, or not finished in time"
        self._authenticator = Authenticator(context)
        if admission is not None:
            self._authenticator.configure_curve_callback(_DOMAIN, admission)
        self._monitor: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        #: Time at which each open connection was accepted, by descriptor, the oldest first.
        self._open: dict[int, float] = {}
        #: Id of the last connection that sent under a descriptor; libzmq does not reuse ids.
        self._routes: dict[int, bytes] = {}
        #: Descriptors that were shut down here, until libzmq reports that they are closed.
        self._cut: set[int] = set()
        #: Handshakes that started, that succeeded, and that were counted as failed.
        self._accepted = self._succeeded = self._told = 0
        self._failure = ""

    def __enter__(self) -> Self:
        self._router.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        self._authenticator.start()
        self._monitor.linger = 0
        # With a bound, libzmq's own thread would wait for this one, and every connection with it.
        self._monitor.rcvhwm = 0
        address = f"inproc://door-{id(self)}"
        self._router.monitor(address, _EVENTS)
        self._monitor.connect(address)
        self.sockets = (self._authenticator.zap_socket, self._monitor)
        return self

    def __exit__(self, *_: object) -> None:
        self._router.disable_monitor()
        self._monitor.close()
        self._authenticator.stop()

    @property
    def open_count(self) -> int:
        """Number of open connections, as of the events read."""
        return len(self._open)

    @property
    def routes(self) -> list[bytes]:
        """Ids by which the socket addresses the open connections that have sent something."""
        return [route for number, route in self._routes.items() if number in self._open]

    def hear(self, number: int, route: bytes) -> None:
        """Note that a message was taken from a connection, given its descriptor and its id at the socket."""
        self.scales.hear(number)
        self._routes[number] = route

    def tend(self, note: Note) -> None:
        """Answer requests, read events, and close connections beyond the limit."""
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
            # Those that were there before are more likely publishers.
            newest = next(reversed(self._open))
            self._cut_off(newest)
            self._told += 1
            note(CONNECTION_LIMIT, f"more than {self.limit} connections")
        for number in self.scales.look(self._open, lambda: not self._router.poll(0)):
            self._cut_off(number)
            note(OVERSIZED, "a message that does not end, or too many messages at once")
        for number in self.scales.silent:
            if number in self._open:
                self._cut_off(number)
        self._count_failed(now_s, note)

    def cut_all(self, note: Note) -> None:
        """Close all connections that were authenticated by now; libzmq reports each before it asks."""
        while self._monitor.poll(0):
            self.tend(note)
        for number in list(self._open):
            self._cut_off(number)
        self._told = self._accepted - self._succeeded  # Those that were cut in their handshake did not fail.

    def _take(self, event: int, value: int, now_s: float, note: Note) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._accepted += 1
            self._cut.discard(value)
            self.scales.forget(value)
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
            if self._keyed:
                self._told += 1
                note(NO_KEY, "no key: give the service a ZTRACE_KEY, made by 'ztrace keys add'")
            else:
                self._failure = "a key, and the collector has none: start it with --keys"

    def _cut_off(self, number: int) -> None:
        """Close a connection; libzmq frees its memory, and reports the end."""
        del self._open[number]
        self._cut.add(number)
        # The connection may be closed by now, and its number that of another new one. A file rejects this.
        with suppress(OSError):
            connection = socket.socket(fileno=number)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()

    def _count_failed(self, now_s: float, note: Note) -> None:
        """Count connections whose handshake failed; libzmq does not report all of them, nor their origin.

        A young connection may still fail. So failures are counted only when there are more of them than young
        connections.
        """
        undecided = 0
        for accepted_s in reversed(self._open.values()):
            if now_s - accepted_s > _SETTLED_S:
                break
            undecided += 1
        failed = self._accepted - self._succeeded - self._told - undecided
        if failed > 0:
            self._told += failed
            note(HANDSHAKE_FAILED, self._failure or self._usual_failure, failed)
            self._failure = ""


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that does not wait for anything."""
    with suppress(StopIteration):
        work.send(None)
        raise RuntimeError("pyzmq's authenticator waits for something")


def _raise_limit() -> int:
    """Raise the limit of descriptors as far as the system allows, and return the limit of connections."""
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
