"""TCP proxy between publishers and the collector that injects network faults.

One idea: each fault is a mode that can be changed at any time. A black hole accepts no connection, reads and
forwards nothing and closes nothing, so neither side is notified. Acknowledgements are dropped as whole ZMTP
frames, so the stream stays valid and only the acknowledgement is missing.
"""

import random
import selectors
import socket
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

from ztrace.wire import ACK

#: Interval at which the thread checks for a change of mode.
_GLANCE_S = 0.02
#: Sizes of a read, and of the backlog at which reading stops: as little as a network buffers.
_CHUNK_BYTES, _MOST_BYTES = 1 << 16, 1 << 18
#: ZMTP: a greeting, then frames of a flags byte, a length of one or eight bytes, and the body.
_GREETING_BYTES = 64
_MORE, _LONG, _COMMAND = 1, 2, 4


class Proxy:
    """Proxy that runs in a thread.

    Attributes:
        endpoint: the address for publishers.
        hole: whether to forward nothing.
        delay_s: the latency in each direction.
        ack_loss: the share of acknowledgements to drop; 0 from the start for a stream that is not ZMTP.
        dropped_acks: the number of acknowledgements dropped.
    """

    def __init__(self, target: str, ack_loss: float = 0.0, seed: int = 1) -> None:
        self.hole = False
        self.delay_s = 0.0
        self.ack_loss = ack_loss
        self.reads_frames = ack_loss > 0
        self.dropped_acks = 0
        host, _, port = target.partition("://")[2].partition("/")[0].rpartition(":")
        self._target = host, int(port)
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pipes: list[_Pipe] = []
        self._cutting = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def is_called(self) -> bool:
        """Return whether a publisher is connecting, which is not answered during a black hole."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            return bool(selector.select(0))

    def cut(self) -> None:
        """Close every open connection."""
        self._cutting.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._cutting.is_set():
                self._cutting.clear()
                self._close_all()
            if self.hole:
                time.sleep(_GLANCE_S)
            else:
                self._turn()
        self._close_all()
        self._listener.close()

    def _turn(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            for pipe in self._pipes:
                pipe.register(selector)
            for key, events in selector.select(_GLANCE_S):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pump(key.data, key.fileobj, events)
        for pipe in [pipe for pipe in self._pipes if pipe.is_done()]:
            pipe.close()
            self._pipes.remove(pipe)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except BlockingIOError:
            return
        try:
            far = socket.create_connection(self._target, timeout=1.0)
        except OSError:
            near.close()  # The collector is down: the publisher must notice.
            return
        self._pipes.append(_Pipe(self, near, far))

    def _pump(self, pipe: "_Pipe", end: object, events: int) -> None:
        try:
            pipe.pump(end, events)
        except OSError:
            pipe.broken = True

    def _close_all(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        self._pipes.clear()

    def drops_ack(self) -> bool:
        """Decide whether to drop an acknowledgement, and count it."""
        if self._random.random() >= self.ack_loss:
            return False
        self.dropped_acks += 1
        return True


class _Way:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.ended = False
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.waiting_bytes = 0

    def put(self, data: bytes, due_s: float) -> None:
        self.waiting.append((due_s, data))
        self.waiting_bytes += len(data)

    def drain(self) -> None:
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            due_s, data = self.waiting.popleft()
            try:
                sent = self.sink.send(data)
            except BlockingIOError:
                sent = 0
            self.waiting_bytes -= sent
            if sent < len(data):
                self.waiting.appendleft((due_s, data[sent:]))
                return

    def is_due(self) -> bool:
        return bool(self.waiting) and self.waiting[0][0] <= time.monotonic()


class _Pipe:
    """Connection: two directions, and a parser of the frames from the collector."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self.broken = False
        self._proxy = proxy
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways = (_Way(near, far), _Way(far, near))
        self._frames = _Frames(proxy) if proxy.reads_frames else None

    def register(self, selector: selectors.BaseSelector) -> None:
        wanted: dict[socket.socket, int] = {}
        for way in self._ways:
            if not way.ended and way.waiting_bytes < _MOST_BYTES:
                wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
            if way.is_due():
                wanted[way.sink] = wanted.get(way.sink, 0) | selectors.EVENT_WRITE
        for end, events in wanted.items():
            selector.register(end, events, self)

    def pump(self, end: object, events: int) -> None:
        for way in self._ways:
            if end is way.source and events & selectors.EVENT_READ:
                self._read(way)
            if end is way.sink and events & selectors.EVENT_WRITE:
                way.drain()

    def _read(self, way: _Way) -> None:
        data = way.source.recv(_CHUNK_BYTES)
        if not data:
            way.ended = True
            return
        if self._frames is not None and way is self._ways[1]:
            data = self._frames.filter(data)
        if data:
            way.put(data, time.monotonic() + self._proxy.delay_s)
            way.drain()

    def is_done(self) -> bool:
        """Return whether a side has closed and all of its data is forwarded."""
        return self.broken or any(way.ended and not way.waiting for way in self._ways)

    def close(self) -> None:
        for way in self._ways:
            way.source.close()


class _Frames:
    """Filter that removes acknowledgements from a ZMTP stream."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._rest = b""
        self._greeted = 0

    def filter(self, data: bytes) -> bytes:
        """Return the data to forward."""
        greeting = data[: _GREETING_BYTES - self._greeted]
        self._greeted += len(greeting)
        self._rest += data[len(greeting) :]
        passed = [greeting]
        while (size := _frame_bytes(self._rest)) is not None and len(self._rest) >= size:
            frame, self._rest = self._rest[:size], self._rest[size:]
            if not (_is_ack(frame) and self._proxy.drops_ack()):
                passed.append(frame)
        return b"".join(passed)


def _frame_bytes(data: bytes) -> int | None:
    """Return the length of the frame at the start of the data, or None if incomplete."""
    if len(data) < 2:
        return None
    if not data[0] & _LONG:
        return 2 + data[1]
    return None if len(data) < 9 else 9 + int.from_bytes(data[1:9], "big")


def _is_ack(frame: bytes) -> bool:
    if frame[0] & (_COMMAND | _MORE):
        return False
    return frame[9 if frame[0] & _LONG else 2 :].startswith(ACK)
