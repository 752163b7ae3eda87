"""Calls of a client on one connection: requests go out, and each call ends exactly once."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ztrace.rpc import failures, wire
from ztrace.rpc.errors import DeadlineExceeded, PeerLost, ProtocolError, RemoteError

#: Items of a stream that a client has room for, as zerorpc's clients do.
SLOTS: Final = 100
#: Seconds before its own deadline at which a call may hear that a call of its method has exceeded it.
_EARLIEST_S: Final = 0.05
#: Periods without a word from the server after which a call fails.
LOST_PERIODS: Final = 3
#: Share of the newest answer in the mean.
_NEWEST: Final = 0.2

#: Versions of ztrace's additions: of a server not heard yet, and of one that has none.
UNKNOWN: Final = -1
FOREIGN: Final = 0


class Call:
    """Call in flight. A driver's subclass resumes the caller in `wake`.

    Attributes:
        id: message id of the request.
        name: of the method.
        done: the call has ended, with `value`, `error`, or as a stream.
        value: that the server returned.
        error: that ended the call.
        items: of a stream, not read yet; None while the answer is no stream.
        own: ztrace's part of the last answer's header.
        reply: what a traced server of zerorpc has sent beside its answer.
        deadline_s: after which nobody waits for the answer; None if unlimited.
        route: connection that the call was sent on, set by its pool; None before.
        slots: items that the client has room for.
        span: of the call while it is traced.
    """

    __slots__ = (
        "beat_s", "deadline_s", "done", "error", "heard_s", "id", "items", "name", "own", "rank",
        "reply", "route", "sent_s", "slots", "span", "value", "window",
    )  # fmt: skip

    id: bytes
    beat_s: float
    heard_s: float
    sent_s: float
    rank: int

    def __init__(self, name: str, slots: int = SLOTS) -> None:
        self.name = name
        self.slots = slots
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.items: deque[Any] | None = None
        self.own: dict[str, Any] | None = None
        self.reply: object = None
        self.deadline_s: float | None = None
        self.route: Any = None
        self.span: Any = None
        self.window = 1

    def wake(self) -> None:
        """Resume the caller: the call has ended, or an item has arrived."""


def _as_own_deadline(call: Call, error: BaseException, now_s: float) -> BaseException:
    """Return the error to raise where the method has run into the deadline that it inherited from a call."""
    if call.deadline_s is None or call.deadline_s - now_s > _EARLIEST_S or type(error) is not RemoteError:
        return error
    if error.type != failures.qualify(DeadlineExceeded):
        return error
    late = DeadlineExceeded(f"{call.name}: no answer in time")
    late.__cause__ = error
    return late


class ClientCore:
    """Protocol of a client on one connection, without its socket.

    Args:
        send: takes the frames of each message to the server.
        heartbeat_s: period of heartbeats; None sends none, and takes no server for lost.
        allowed: classes that may be raised instead of `RemoteError`, from `failures.name_classes`.

    Attributes:
        calls: in flight, by id.
        peer: version of the server's additions, `UNKNOWN` or `FOREIGN`.
        share_s: time of the latest answers, each divided by the calls that were open when it was sent, itself
            included: what one more call adds to the wait. 0 before the first.
        counts: of calls, answers, failures, cancellations, and of messages that were ignored.
    """

    def __init__(
        self,
        send: Callable[[Sequence[bytes]], None],
        *,
        heartbeat_s: float | None = 5.0,
        allowed: Mapping[str, type[BaseException]] | None = None,
    ) -> None:
        self.calls: dict[bytes, Call] = {}
        self.counts: Counter[str] = Counter()
        self.peer = UNKNOWN
        self.share_s = 0.0
        self._send = send
        self._period_s = heartbeat_s
        self._allowed = allowed or {}
        self._pack, self._next_id = wire.make_packer(), wire.make_ids()

    def open(
        self,
        call: Call,
        args: Sequence[Any],
        now_s: float,
        *,
        own: Mapping[str, Any] | None = None,
        context: tuple[bytes, str] | None = None,
        name: str | None = None,
    ) -> None:
        """Send the request of a call.

        Args:
            call: that was just created.
            args: positional arguments.
            now_s: the time.
            own: what to add to ztrace's part of the header.
            context: trace context: ids and flags in 25 bytes, and the W3C state.
            name: of the event, if it is not the method's.

        Raises:
            TypeError: the arguments cannot be sent.
        """
        mine: dict[str, Any] = {"v": wire.VERSION, "credit": call.slots}
        if call.deadline_s is not None:
            mine["ms"] = max(0, int((call.deadline_s - now_s) * 1000))
        if own:
            mine.update(own)
        call.id = self._next_id()
        header = {"message_id": call.id, "v": wire.PROTOCOL, wire.OWN: mine}
        if context is not None:
            if self.peer >= wire.VERSION:
                mine["tc"] = context[0]
                if context[1]:
                    mine["ts"] = context[1]
            else:
                header.update(wire.write_context(*context))
        try:
            data = self._pack((header, name or call.name, args))
        except Exception:
            where = wire.find_unpackable(list(args))
            raise TypeError(f"the arguments of {call.name} cannot be sent: {where}") from None
        if len(data) > wire.MAX_MESSAGE and self.peer != FOREIGN:
            raise wire.refuse_size(f"the arguments of {call.name}", data)
        call.sent_s = call.heard_s = now_s
        call.beat_s = now_s + (self._period_s or 0.0)
        self.calls[call.id] = call
        call.rank = len(self.calls)
        self.counts["calls"] += 1
        self._send((b"", data))

    def receive(self, frames: Sequence[bytes], now_s: float) -> None:
        """Take a message of the server."""
        try:
            header, name, args = wire.unpack(frames[-1])
            call = self.calls.get(header["response_to"])
        except Exception:
            self._take_invalid(frames)
            return
        if call is None:
            self.counts["unknown"] += 1
            return
        call.heard_s = now_s
        own = header.get(wire.OWN)
        if type(own) is dict:
            self.peer = wire.VERSION
            call.own = own
        else:
            if self.peer == UNKNOWN:
                self.peer = FOREIGN
            call.reply = header.get(wire.REPLY)
        if name == wire.OK and type(args) is list and args:
            call.value = args[0]
            share_s = (now_s - call.sent_s) / call.rank
            self.share_s += _NEWEST * (share_s - self.share_s) if self.share_s else share_s
            self._end(call, "answered")
        elif name == wire.STREAM:
            self._take_item(call, args, own)
        elif name == wire.ITEMS and type(args) is list:
            self._take_items(call, args)
        elif name == wire.STREAM_DONE:
            if call.items is None:
                call.items = deque()
            self._end(call, "answered")
        elif name == wire.ERR:
            error = failures.rebuild(args, (call.own or {}).get("error"), self._allowed)
            self._fail(call, _as_own_deadline(call, error, now_s))
        elif name == wire.OK:
            self._fail(call, ProtocolError(f"the result of {call.name} is not in an array"))

    def take(self, call: Call) -> Any:
        """Return the next item of a stream, which must have one, and grant credit where it is due."""
        items = call.items
        assert items is not None
        item = items.popleft()
        held = call.window + len(items)
        if held < call.slots // 2 and not call.done:
            granted = call.slots - held
            call.window += granted
            self._emit(call, wire.MORE, granted)
        return item

    def cancel(self, call: Call, error: BaseException | None = None) -> None:
        """End a call that the caller no longer waits for, and tell the server."""
        if self.calls.pop(call.id, None) is None:
            return
        self.counts["cancelled"] += 1
        call.done = True
        call.error = error
        self._emit(call, wire.CANCEL, 0)

    def lose(self, reason: str) -> None:
        """Fail all calls: the connection or the server is gone. Another server may take its place."""
        self.peer, self.share_s = UNKNOWN, 0.0
        for call in list(self.calls.values()):
            self._fail(call, PeerLost(f"{call.name}: {reason}"))

    def close(self) -> None:
        """Cancel all calls, for their callers as well: the client closes."""
        for call in list(self.calls.values()):
            self.cancel(call, PeerLost(f"{call.name}: the client has been closed"))
            call.wake()

    def beat(self, now_s: float) -> None:
        """Send due heartbeats, and fail calls whose server is silent or whose deadline has passed."""
        for call in list(self.calls.values()):
            if call.deadline_s is not None and now_s >= call.deadline_s:
                self.cancel(call, DeadlineExceeded(f"{call.name}: no answer in time"))
                call.wake()
            elif self._period_s is None:
                continue
            elif now_s - call.heard_s > LOST_PERIODS * self._period_s:
                self._fail(call, PeerLost(f"{call.name}: the server has sent no heartbeat"))
            elif now_s >= call.beat_s:
                call.beat_s = now_s + self._period_s
                self._emit(call, wire.HEARTBEAT, 0)

    def due_beats(self, now_s: float, pack: Callable[[object], bytes]) -> list[tuple[bytes, bytes]]:
        """Return due heartbeats for another thread to send, which packs them itself."""
        period_s = self._period_s
        if period_s is None:
            return []
        messages = []
        for call in list(self.calls.values()):
            if now_s >= call.beat_s:
                call.beat_s = now_s + period_s
                messages.append((b"", pack((self._header(call), wire.HEARTBEAT, (0,)))))
        return messages

    def _take_item(self, call: Call, item: object, own: object) -> None:
        if call.items is None:
            call.items = deque()
            confirmed = own.get("credit") if type(own) is dict else None
            if type(confirmed) is int and 0 < confirmed <= call.slots:
                call.window = confirmed
        self._take_items(call, (item,))

    def _take_items(self, call: Call, items: Sequence[object]) -> None:
        if call.items is None:
            call.items = deque()
        call.window -= len(items)
        if call.window < -call.slots:
            self.cancel(call, ProtocolError(f"{call.name} sends more items than it was granted"))
            call.wake()
            return
        call.items.extend(items)
        self.counts["items"] += len(items)
        call.wake()

    def _take_invalid(self, frames: Sequence[bytes]) -> None:
        """Fail the call of an answer that cannot be read; ignore one whose call is unknown."""
        self.counts["invalid"] += 1
        message_id = wire.read_id(frames[-1], "response_to") if frames else None
        call = self.calls.get(message_id) if isinstance(message_id, bytes) else None
        if call is not None:
            self._fail(call, ProtocolError(f"the answer of {call.name} cannot be read"))

    def _end(self, call: Call, count: str) -> None:
        if self.calls.pop(call.id, None) is None:
            return
        self.counts[count] += 1
        call.done = True
        call.wake()

    def _fail(self, call: Call, error: BaseException) -> None:
        call.error = error
        self._end(call, "failed")

    def _emit(self, call: Call, name: str, number: int) -> None:
        self._send((b"", self._pack((self._header(call), name, (number,)))))

    def _header(self, call: Call) -> dict[str, Any]:
        return {"message_id": self._next_id(), "v": wire.PROTOCOL, "response_to": call.id}
