"""Connections of all HTTP servers in ztrace: uvicorn's, with bounds that it lacks.

One idea: a connection either has a request in work, which the application bounds, or waits for its peer: for
a head, for the rest of a body, or for the peer to read an answer. Each of these waits has a deadline, and
above a number of connections the one that has waited longest is closed, those without any request so far
first. So a partial request never blocks a complete one.
"""

import asyncio
from contextlib import suppress

from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Maximum of open connections: a browser has six, an exporter one.
MAX_CONNECTIONS = 256
#: Deadline of a request's head, from the connection or from its first byte.
HEAD_S = 10.0
#: Deadline of each `SENT_BYTES` of an answer that the peer is slow to read.
SEND_S, SENT_BYTES = 30.0, 64 << 10
#: Interval between two checks of a connection.
LOOK_S = 1.0


class Connection(H11Protocol):
    """Connection that is closed when it delays others; a server's subclass counts that."""

    #: Time since which a request's head is due; None while a request is in work, or none has started.
    _due_s: float | None = None
    #: Time since which the connection waits for its peer, and whether the peer has sent a request before.
    _since_s = 0.0
    _served = False
    #: Bytes pending for the peer, and the time since which their number has not fallen.
    _unread = 0
    _unread_s = 0.0
    _looking: asyncio.TimerHandle | None = None

    def count_refusal(self, why: str) -> None:
        """Count a connection that is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadlines, and close the connection that has waited longest if there are too many."""
        super().connection_made(transport)
        self._due_s = self._since_s = self.loop.time()
        self._looking = self.loop.call_later(LOOK_S, self._look)
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [each for each in self.connections if isinstance(each, Connection) and each._waits()]
            oldest = min(waiting, key=lambda each: (each._is_idle(), each._since_s))
            oldest._cut(f"more than {MAX_CONNECTIONS} connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop checking the connection."""
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take data, and note whether a head is due."""
        super().data_received(data)
        if self._has_request():
            self._due_s = None
        elif self._due_s is None:
            self._due_s = self.loop.time()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since_s = self.loop.time()
        self._served = True
        super().on_response_complete()
        # The data may contain the beginning of the next request.
        has_begun = not self._has_request() and self.conn.trailing_data[0]
        self._due_s = self._since_s if has_begun else None

    def send_400_response(self, msg: str) -> None:
        """Reject data that is not HTTP, and close the connection."""
        self.count_refusal("not HTTP")
        # While an earlier request is being answered, no other answer can be sent.
        with suppress(LocalProtocolError):
            super().send_400_response(msg)
        self.transport.close()

    def _look(self) -> None:
        """Close the connection if its peer has exceeded a deadline."""
        now_s = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if not unread or unread > self._unread or unread <= self._unread - SENT_BYTES:
            self._unread, self._unread_s = unread, now_s
        if not self._has_request() and self._due_s is not None and now_s - self._due_s > HEAD_S:
            self._cut("no whole request in time")
        elif unread and now_s - self._unread_s > SEND_S:
            self._cut("the answer is not read")
        else:
            self._looking = self.loop.call_later(LOOK_S, self._look)

    def _has_request(self) -> bool:
        """Return whether a request is in work, with at least its head received."""
        return self.cycle is not None and not self.cycle.response_complete

    def _waits(self) -> bool:
        """Return whether the connection waits for its peer and not for the application."""
        return not self._has_request() or self.cycle.more_body or self.flow.write_paused

    def _is_idle(self) -> bool:
        """Return whether the peer has sent a request and read its answer."""
        return self._served and not self._has_request() and not self.transport.get_write_buffer_size()

    def _cut(self, why: str) -> None:
        self.count_refusal(why)
        self.transport.abort()
        self.connections.discard(self)
