"""Served calls: requests become calls, their outcomes become replies, and every call ends exactly once."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from ztrace.rpc import failures, wire
from ztrace.rpc.core.batching import MAX_BYTES, Batch
from ztrace.rpc.core.requests import ServerBusy, ServerClosing, are_keywords, explain_invalid
from ztrace.rpc.core.results import PACKED_OK, Packed, unsendable
from ztrace.rpc.errors import DeadlineExceeded, ProtocolError
from ztrace.rpc.failures import Failure

#: Periods without a word from a peer after which its calls are cancelled.
LOST_PERIODS: Final = 3
#: Largest credit that a peer's numbers add up to.
MAX_CREDIT: Final = 1 << 20
#: Calls of one peer that are served at once, and of all peers.
MAX_CALLS_PER_PEER: Final = 20_000
MAX_CALLS: Final = 100_000

#: Reasons for which a call is cancelled.
CANCELLED: Final = "cancelled"
PEER_LOST: Final = "peer lost"
DEADLINE: Final = "deadline"
SHUTDOWN: Final = "shutdown"

Frames = Sequence[bytes]


class Served:
    """Call that is being served.

    Attributes:
        name: of the method.
        args: positional arguments.
        kwargs: keyword arguments.
        header: of the request, as it came.
        own: ztrace's part of the header; None from other clients.
        deadline_s: when the caller stops waiting, None if unknown.
        credit: items that the caller has room for.
        batch: items of the stream that wait to be sent; None where each is sent by itself.
        wake: called when the credit rises above zero.
        handle: whatever the driver keeps with the call.
        span: of the call while it is traced.
        service: of the client, by its key; "" without keys.
        reason: why the call was cancelled, "" while it was not.
    """

    __slots__ = (
        "args", "batch", "beat_s", "credit", "deadline_s", "handle", "header", "heard_s", "id", "key",
        "kwargs", "name", "own", "passive", "prefix", "reason", "service", "span", "streaming", "version",
        "wake",
    )  # fmt: skip

    prefix: list[bytes]
    key: tuple[Any, ...]
    id: bytes | str | int
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    header: dict[str, Any]
    own: dict[str, Any] | None
    deadline_s: float | None
    credit: int
    batch: Batch | None
    wake: Callable[[], None] | None
    handle: Any
    span: Any
    service: str
    reason: str
    version: int
    passive: bool
    streaming: bool
    heard_s: float
    beat_s: float


class ServerCore:
    """Protocol of a server, without its socket.

    Args:
        send: takes the frames of each message to a client, the client's identity first.
        start: begins to serve a call; ends with `answer`, `fail` or `finish`, unless `stop` is called.
        stop: ends a call early; its later outcome is ignored.
        heartbeat_s: period of heartbeats; None sends none, and takes no peer for lost.
    """

    def __init__(
        self,
        send: Callable[[Frames], None],
        start: Callable[[Served], None],
        stop: Callable[[Served], None],
        *,
        heartbeat_s: float | None = 5.0,
        max_calls_per_peer: int = MAX_CALLS_PER_PEER,
    ) -> None:
        self.calls: dict[tuple[Any, ...], Served] = {}
        self.counts: Counter[str] = Counter()
        self.closing = False
        #: Called with a stream whose items wait, to call `send_batch` soon; None sends each by itself.
        self.send_soon: Callable[[Served], None] | None = None
        #: Time of the last refusal of a call by a client that would send the call to another server.
        self.refused_s = 0.0
        self._send, self._start, self._stop = send, start, stop
        self._period_s = heartbeat_s
        self._max_per_peer = max_calls_per_peer
        self._per_peer: Counter[bytes] = Counter()
        self._pack, self._next_id = wire.make_packer(), wire.make_ids()

    def receive(self, frames: list[bytes], now_s: float) -> None:
        """Take a message: a request, or an event of an open call."""
        try:
            header, name, args = wire.unpack(frames[-1])
            if "response_to" in header and header["response_to"] is not None:
                call = self.calls.get((*frames[:-1], header["response_to"]))
                if call is not None:
                    self._follow(call, name, args, now_s)
                return
            if type(header) is dict and type(name) is str and type(args) is list:
                self._open(frames, header, name, args, now_s)
                return
        except Exception:
            self.counts["invalid"] += 1
        self._refuse_invalid(frames)

    def answer(
        self,
        call: Served,
        value: object,
        own: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Send the result of a call.

        Args:
            call: that was started.
            value: to return, or its `Packed` bytes.
            own: what to add to ztrace's part of the header.
            extra: further keys of the header.

        Raises:
            TypeError: the value cannot be sent; the call stays open.
        """
        if call.key not in self.calls:
            return
        header = self._header(call, own)
        if extra:
            header.update(extra)
        if type(value) is Packed:
            data = b"".join((b"\x93", self._pack(header), PACKED_OK, value))
        else:
            try:
                data = self._pack((header, wire.OK, (value,)))
            except Exception:
                raise unsendable(call.name, value) from None
        if len(data) > wire.MAX_MESSAGE and call.own is not None:
            raise wire.refuse_size(f"the result of {call.name}", data)
        self._close(call)
        self.counts["answered"] += 1
        self._send([*call.prefix, data])

    def fail(
        self,
        call: Served,
        failure: Failure,
        own: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Send the exception of a call."""
        self.send_batch(call)
        if self._close(call):
            self._send_failure(call, failure, own, extra)

    def put(self, call: Served, item: object) -> None:
        """Send an item of a stream, for which there must be credit.

        Raises:
            TypeError: the item cannot be sent; the call stays open.
        """
        if call.key not in self.calls:
            return
        if call.batch is not None:
            self._put_in_batch(call, call.batch, item)
            return
        own = None
        if not call.streaming and call.own is not None and call.credit > 1:
            own = {"credit": call.credit}
        try:
            data = self._pack((self._header(call, own), wire.STREAM, item))
        except Exception:
            raise unsendable(call.name, item, "an item") from None
        if len(data) > wire.MAX_MESSAGE and call.own is not None:
            raise wire.refuse_size(f"an item of {call.name}", data)
        if self.send_soon is not None and call.own is not None and call.own.get("v") == wire.VERSION:
            call.batch = Batch()
        call.streaming = True
        call.credit -= 1
        self.counts["items"] += 1
        self._send([*call.prefix, data])

    def _put_in_batch(self, call: Served, batch: Batch, item: object) -> None:
        """Keep an item for the next event, and have the event sent soon."""
        packed = batch.pack(call.name, item, self._pack)
        if len(packed) > MAX_BYTES:
            self.send_batch(call)
        call.credit -= 1
        self.counts["items"] += 1
        if batch.add(packed):
            self.send_batch(call)
        elif len(batch) == 1:
            assert self.send_soon is not None
            self.send_soon(call)

    def send_batch(self, call: Served) -> None:
        """Send the items of a stream that wait."""
        if call.batch and call.key in self.calls:
            self._send([*call.prefix, call.batch.take(self._pack(self._header(call, None)))])

    def finish(
        self, call: Served, own: dict[str, Any] | None = None, extra: dict[str, Any] | None = None
    ) -> None:
        """End a stream, for which there must be credit."""
        self.send_batch(call)
        if self._close(call):
            self.counts["answered"] += 1
            header = self._header(call, own)
            if extra:
                header.update(extra)
            self._send([*call.prefix, self._pack((header, wire.STREAM_DONE, None))])

    def cancel(self, call: Served, reason: str) -> None:
        """End a call whose outcome has no recipient any more."""
        if self._close(call):
            self.counts["cancelled"] += 1
            call.reason = reason
            self._stop(call)

    def drop_peer(self, identity: bytes) -> None:
        """Cancel the calls of a client that has disconnected."""
        for call in [each for each in self.calls.values() if each.prefix[0] == identity]:
            self.cancel(call, PEER_LOST)

    def beat(self, now_s: float) -> None:
        """Send due heartbeats, and cancel calls of silent peers and calls whose deadline has passed."""
        for call in list(self.calls.values()):
            if call.deadline_s is not None and now_s >= call.deadline_s:
                if self._close(call):
                    call.reason = DEADLINE
                    # In the client's words: who notices the deadline first is a matter of microseconds.
                    late = DeadlineExceeded(f"{call.name}: no answer in time")
                    self._send_failure(call, failures.refuse(failures.LATE, late), None)
                    self._stop(call)
            elif self._period_s is None or call.passive:
                continue
            elif now_s - call.heard_s > LOST_PERIODS * self._period_s:
                self.cancel(call, PEER_LOST)
            elif now_s >= call.beat_s:
                call.beat_s = now_s + self._period_s
                self._send([*call.prefix, self._pack((self._header(call, None), wire.HEARTBEAT, (0,)))])

    def due_beats(self, now_s: float, pack: Callable[[object], bytes]) -> list[list[bytes]]:
        """Return due heartbeats for another thread to send, which packs them itself."""
        if self._period_s is None:
            return []
        messages = []
        for call in list(self.calls.values()):
            if now_s >= call.beat_s and not call.passive:
                call.beat_s = now_s + self._period_s
                messages.append([*call.prefix, pack((self._header(call, None), wire.HEARTBEAT, (0,)))])
        return messages

    def _open(self, frames: list[bytes], header: Any, name: str, args: list[Any], now_s: float) -> None:
        message_id = wire.take_id(header)
        if message_id is None:
            self.counts["no_id"] += 1
            return
        call = Served()
        call.prefix, call.id, call.name, call.args, call.header = frames[:-1], message_id, name, args, header
        call.key = (*call.prefix, message_id)
        call.kwargs, call.wake, call.handle, call.span = {}, None, None, None
        call.reason = call.service = ""
        call.streaming, call.credit, call.batch, call.deadline_s = False, 1, None, None
        version = header.get("v", 1)
        call.version = version if type(version) is int else wire.PROTOCOL
        call.passive = call.version < 2
        call.heard_s = now_s
        call.beat_s = now_s + (self._period_s or 0.0)
        own = call.own = header.get(wire.OWN)
        self.counts["calls"] += 1
        if own is not None:
            if type(own) is not dict:
                call.own = None
            else:
                remaining, credit = own.get("ms"), own.get("credit")
                if type(credit) is int and 1 <= credit <= MAX_CREDIT:
                    call.credit = credit
                if type(remaining) is int:
                    call.deadline_s = now_s + remaining / 1000
                    if remaining <= 0:
                        late = DeadlineExceeded(f"{name}: no answer in time: it arrived after its deadline")
                        self._refuse(call, failures.LATE, late)
                        return
        peer = frames[0]
        if call.key in self.calls:
            self._refuse(call, failures.INVALID, ProtocolError("a call with this message id is open"))
        elif self.closing:
            if call.own is not None:
                self.refused_s = now_s
            self._refuse(call, failures.CLOSING, ServerClosing("the server is shutting down"))
        elif self._per_peer[peer] >= self._max_per_peer or len(self.calls) >= MAX_CALLS:
            self._refuse(call, failures.BUSY, ServerBusy("too many calls are open"))
        elif name == wire.CALL and not are_keywords(args):
            self._refuse(call, failures.INVALID, ProtocolError(f"{name} takes a name, a list and a map"))
        else:
            if name == wire.CALL:
                call.name, call.args, call.kwargs = args
            self._per_peer[peer] += 1
            self.calls[call.key] = call
            self._start(call)

    def _follow(self, call: Served, name: object, args: object, now_s: float) -> None:
        call.heard_s = now_s
        if name == wire.CANCEL:
            self.cancel(call, CANCELLED)
            return
        if name == wire.HEARTBEAT:
            call.passive = False
            if call.version >= wire.PROTOCOL:
                return
        elif name != wire.MORE:
            return
        try:
            granted = int(args[0])  # type: ignore[index]  # As zerorpc reads it: from a float or a text too.
        except Exception:
            return
        if granted > 0:
            call.credit = min(call.credit + granted, MAX_CREDIT)
            if call.wake is not None and call.credit > 0:
                call.wake()

    def _refuse(self, call: Served, reason: str, error: Exception) -> None:
        self._send_failure(call, failures.refuse(reason, error))

    def _refuse_invalid(self, frames: list[bytes]) -> None:
        """Answer an invalid request with an error where its id can be read."""
        found = explain_invalid(frames)
        if found is None:
            return
        message_id, told = found
        if message_id is None:
            self.counts["no_id"] += 1
            return
        call = Served()
        call.prefix, call.id, call.name, call.version = frames[:-1], message_id, "", wire.PROTOCOL
        call.own = None
        self.counts["calls"] += 1
        self._refuse(call, failures.INVALID, told)

    def _close(self, call: Served) -> bool:
        """Take a call out of the open ones; return False if the call has ended before."""
        if self.calls.pop(call.key, None) is None:
            return False
        peer = call.prefix[0]
        left = self._per_peer[peer] - 1
        if left:
            self._per_peer[peer] = left
        else:
            del self._per_peer[peer]
        return True

    def _send_failure(
        self,
        call: Served,
        failure: Failure,
        own: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.counts["failed"] += 1
        if call.own is not None:
            own = {**(own or {}), "error": failure.details}
        header = self._header(call, own)
        if extra:
            header.update(extra)
        self._send([*call.prefix, self._pack((header, wire.ERR, failure.format(call.version)))])

    def _header(self, call: Served, own: dict[str, Any] | None) -> dict[str, Any]:
        header = {"message_id": self._next_id(), "v": wire.PROTOCOL, "response_to": call.id}
        if call.own is not None:
            if own is None:
                own = _VERSION
            else:
                own["v"] = wire.VERSION
            header[wire.OWN] = own
        return header


#: ztrace's part of a reply that has nothing else to say.
_VERSION: Final = {"v": wire.VERSION}
