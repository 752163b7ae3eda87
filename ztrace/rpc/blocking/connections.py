"""Connections of a blocking client, which any number of threads or greenlets may use at once.

One idea: no thread of its own. Of the callers that wait, one reads the sockets for all, and hands this over
when its own answer is there. The lock is held for single operations, never while a caller waits. Any
operation may consume the edge of a socket's descriptor, so each one takes what has arrived, and a caller that
begins to wait need not look before it polls. Another caller may so take the answer of the one that polls, and
wakes it up then.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ztrace import spans
from ztrace.enrolment import Enrolment
from ztrace.rpc import calls, keeper, tracing, wire
from ztrace.rpc.blocking.link import Link
from ztrace.rpc.blocking.parking import Gate, Opening, Poller, Waker, is_green, make_gate, make_poller
from ztrace.rpc.core.calling import UNKNOWN, Call
from ztrace.rpc.core.pool import Pool, Request, Route, bind_keywords
from ztrace.rpc.errors import PeerLost, RemoteError
from ztrace.rpc.hooks import Hooks

#: Seconds between two looks at heartbeats and deadlines, at most.
_TURN_S: Final = 0.5
#: Seconds between attempts to send what a server has no room for.
_RETRY_S: Final = 0.01


class BlockingCall(Call):
    """Call whose caller waits for it, or reads the sockets."""

    __slots__ = ("gate",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.gate: Opening | None = None

    def is_ready(self) -> bool:
        """Return whether the caller has anything to go on with."""
        return self.done or bool(self.items)

    def wake(self) -> None:
        """Resume the caller."""
        if self.gate is not None:
            self.gate.open()


#: Call that has begun, and its request.
Begun = tuple[BlockingCall, Request]


class Connections:
    """Connections of a client.

    Args:
        endpoints: of the servers.
        timeout_s: seconds that a call waits for its answer; None is unlimited.
        heartbeat_s: period of heartbeats; None sends none.
        allowed: classes that may be raised instead of `RemoteError`.
        key: of the client, for servers with keys.
        hooks: around each call.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        timeout_s: float | None,
        heartbeat_s: float | None,
        allowed: Mapping[str, type[BaseException]],
        key: Enrolment | None,
        hooks: Hooks | None = None,
    ) -> None:
        self._hooks = hooks
        self._lock = threading.Lock()
        self._timeout_s, self._heartbeat_s = timeout_s, heartbeat_s
        self._turn_s = _TURN_S if heartbeat_s is None else min(_TURN_S, heartbeat_s / 5)
        self._turned_s = time.monotonic()
        self._pool = Pool([])
        self._links: list[Link] = []
        self._waiting: deque[BlockingCall] = deque()
        self._abandoned: deque[BlockingCall] = deque()
        self._led = False
        self._pollers: dict[bool, Poller] = {}
        self._described: object = None
        self._pack = wire.make_packer()
        self.closed = False
        try:
            for endpoint in endpoints:
                self._links.append(Link(endpoint, self._pool, heartbeat_s, allowed, key))
        except BaseException:
            self.close()
            raise
        self._pool.routes = [link.route for link in self._links]
        self._link_of = {link.route: link for link in self._links}
        self._waker = Waker()
        self._readers = {each: read for link in self._links for each, read in link.readers.items()}
        self._readers[self._waker.descriptor] = self._waker.close_again
        if heartbeat_s is not None:
            keeper.look_after(self)

    def invoke(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a method, and return its answer, or a `Stream`.

        Raises:
            RpcError: the method has raised, or there is no answer.
            TypeError: the arguments cannot be sent.
        """
        if self._hooks is not None:
            with self._hooks.around(name, args, kwargs) as each:
                return self.finish(self.begin(each.name, each.args, each.kwargs))
        return self.finish(self.begin(name, args, kwargs))

    def begin(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], route: Route | None = None
    ) -> Begun:
        """Send the request of a call, for `finish` to return its answer.

        Args:
            name: of the method.
            args: positional arguments.
            kwargs: keyword arguments.
            route: the only server to ask; None for any.

        Raises:
            RpcError: the client is closed, or the deadline has passed.
            TypeError: the arguments cannot be sent.
        """
        call = BlockingCall(name)
        request = Request(name, args, route=route)
        try:
            now_s = time.monotonic()
            call.deadline_s = calls.nearest(None if self._timeout_s is None else now_s + self._timeout_s)
            calls.check_deadline(name, call.deadline_s, now_s)
            if spans.publisher is not None:
                request.context = tracing.start_call(call)
            if kwargs:
                request.name, request.args = self._bind(name, args, kwargs)
            if (meta := calls.metadata_here.get()) is not None:
                request.own = {"meta": meta}
            with self._lock:
                self._open(call, request, now_s)
        except BaseException as error:
            self._fail(call, error)
            raise
        return call, request

    def finish(self, begun: Begun) -> Any:
        """Wait for the answer of a call that has begun, and return it, or a `Stream`.

        Raises:
            RpcError: the method has raised, or there is no answer.
        """
        call, request = begun
        try:
            self.wait(call)
            while call.error is not None and call.items is None:
                with self._lock:
                    if not self._pool.open_again(call, request, time.monotonic()):
                        raise call.error
                    self._receive_after(call)
                self.wait(call)
            if call.items is not None:
                return Stream(self, call)
            if call.span is not None:
                tracing.end_call(call)
            return call.value
        except BaseException as error:
            self._fail(call, error)
            raise

    def _fail(self, call: BlockingCall, error: BaseException) -> None:
        self.cancel(call)
        if call.span is not None:
            tracing.fail_call(call, error)

    def wait(self, call: BlockingCall) -> None:
        """Wait for an answer or an item, or until the call's deadline has ended it."""
        deadline_s = call.deadline_s
        while not call.is_ready():
            with self._lock:
                if call.is_ready():
                    return
                gate = None
                if self._led:
                    call.gate = gate = make_gate()
                    self._waiting.append(call)
                else:
                    self._led = True
            if gate is None:
                self._lead(call, deadline_s)
            else:
                self._follow(call, gate, deadline_s)
            if not call.is_ready() and deadline_s is not None and time.monotonic() >= deadline_s:
                with self._lock:
                    if not call.done and not self.closed:
                        self._pool.expire(call)
                        self._receive_after(call)

    @property
    def routes(self) -> Sequence[Route]:
        """Servers of the client."""
        return self._pool.routes

    def take(self, call: BlockingCall) -> Any:
        """Return the next item of a stream, which must have one."""
        with self._lock:
            item = call.route.core.take(call)
            if not self.closed:
                self._link_of[call.route].receive()
            return item

    def cancel(self, call: BlockingCall, error: BaseException | None = None) -> None:
        """End a call, and tell its server, unless it has ended."""
        with self._lock:
            if not call.done and not self.closed:
                self._pool.cancel(call, error)
                self._receive_after(call)

    def abandon(self, call: BlockingCall) -> None:
        """Have the next operation cancel a call, whatever the current thread holds; for finalizers."""
        self._abandoned.append(call)

    def keep(self, now_s: float) -> None:
        """Send due heartbeats from the keeper's thread, if no caller has read for a while."""
        if self._heartbeat_s is None or now_s - self._turned_s <= self._heartbeat_s * 0.4:
            return
        with self._lock:
            if not self.closed:
                self._turn(now_s)

    def close(self) -> None:
        """Fail the open calls, and close the connections."""
        keeper.release(self)
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for call in list(self._pool.pending):
                self._pool.cancel(call, PeerLost(f"{call.name}: the client has been closed"))
                call.wake()
            for link in self._links:
                link.close()

    def _open(self, call: BlockingCall, request: Request, now_s: float) -> None:
        if self.closed:
            raise PeerLost(f"{call.name}: the client has been closed")
        self._pool.open(call, request, now_s)
        self._receive_after(call)

    def _receive_after(self, call: BlockingCall) -> None:
        """Take what has arrived, after something was sent for a call: the descriptor may not tell of it."""
        if call.route is None:
            self._read()
        else:
            self._link_of[call.route].receive()

    def _lead(self, call: BlockingCall, deadline_s: float | None) -> None:
        """Read the sockets for all callers, until this call is ready or its time is over."""
        try:
            poller = self._poller()
            while True:
                now_s = time.monotonic()
                limit_s = self._turn_s
                for link in self._links:
                    if link.is_full:
                        limit_s = _RETRY_S
                if deadline_s is not None and deadline_s - now_s < limit_s:
                    limit_s = deadline_s - now_s
                    if limit_s <= 0:
                        return
                call.gate = self._waker
                if call.is_ready():  # Another caller has just taken the answer, and may have seen no gate.
                    return
                readable = poller.wait(limit_s)
                call.gate = None
                now_s = time.monotonic()
                with self._lock:
                    if self.closed:
                        return
                    if now_s - self._turned_s >= self._turn_s:
                        self._turn(now_s)
                    elif readable and not self._abandoned:
                        for descriptor in readable:
                            self._readers[descriptor]()
                    else:
                        self._read()
                    if call.is_ready():
                        return
        finally:
            call.gate = None
            with self._lock:
                self._led = False
                if self._waiting:
                    self._waiting[0].wake()

    def _follow(self, call: BlockingCall, gate: Gate, deadline_s: float | None) -> None:
        """Wait until the call is ready, or until there is nobody who reads."""
        try:
            gate.wait(None if deadline_s is None else deadline_s - time.monotonic())
        finally:
            with self._lock:
                self._waiting.remove(call)
                call.gate = None
                if not self._led and self._waiting:
                    self._waiting[0].wake()

    def _read(self) -> None:
        while self._abandoned:
            self._pool.cancel(self._abandoned.popleft())
        for link in self._links:
            link.read()

    def _turn(self, now_s: float) -> None:
        """Read what has arrived, then send due heartbeats and judge who is silent."""
        self._turned_s = now_s
        self._read()
        self._pool.beat(now_s)
        for link in self._links:
            link.receive()
            link.revive(now_s)

    def _poller(self) -> Poller:
        green = is_green()
        poller = self._pollers.get(green)
        if poller is None:
            poller = self._pollers[green] = make_poller(list(self._readers))
        return poller

    def _bind(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
        """Return the event of a call with keyword arguments, once the servers' versions are known."""
        peers = [route.core.peer for route in self._pool.routes if route.up]
        if (not peers or min(peers) < wire.VERSION) and self._described is None:
            try:
                self._described = self.finish(self.begin("_zerorpc_inspect", (), {}))
            except RemoteError:  # zerorpc's own inspection fails on Python 3.11 and later.
                self._described = {}
            peers = [route.core.peer for route in self._pool.routes if route.core.peer != UNKNOWN]
        return bind_keywords(name, args, kwargs, min(peers), self._described)


class Stream:
    """Stream of a call, read by ``for``; `close` cancels it, and so does discarding it."""

    def __init__(self, connections: Connections, call: BlockingCall) -> None:
        self._connections, self._call = connections, call
        self._taken = 0

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        call = self._call
        if not call.items:
            if not call.done:
                try:
                    self._connections.wait(call)
                except BaseException as error:
                    self._connections.cancel(call)
                    self._end(error)
                    raise
            if not call.items:
                self._end(call.error)
                if call.error is not None:
                    raise call.error
                raise StopIteration
        self._taken += 1
        return self._connections.take(call)

    def close(self) -> None:
        """Cancel the stream at the server, unless it has ended."""
        self._end(None)
        self._connections.cancel(self._call)

    def _end(self, error: BaseException | None) -> None:
        if self._call.span is not None:
            tracing.end_stream(self._call, error, self._taken)

    def __del__(self) -> None:
        self._end(None)
        if not self._call.done:
            self._connections.abandon(self._call)
