"""Hostile collectors, and what they cost a traced program: memory, processor time, and no span.

One idea: the attacker sends bytes prepared in advance over a plain socket, faster than any ZeroMQ peer, to
every connection that the program makes; then a real collector takes its place and gets all spans.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress

import msgpack

from tests.faults import identity
from tests.faults.attacks import MAX_GROWN_MB, measured
from tests.faults.making import Plan
from tests.faults.rubbish import GREETING
from tests.faults.running import Length
from tests.faults.stage import DEADLINE_S, MakerProcess, Stage, wait_for
from tests.faults.table import Row
from ztrace.wire import ACK, MAX_ACKS, VERSION, WELCOME

#: READY command of a collector's socket.
_READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
#: Heartbeat of ZeroMQ, and an attack by one behind more messages than a program takes at once.
_PING = b"\x04\x07\x04PING\x00\x00"
RESETTING = "a heartbeat before a reset"
#: Bytes prepared for an attack, which are repeated.
_PREPARED = 4 << 20
#: Share of a processor that the program may use under attack.
MAX_SHARE = 0.5


def _frame(content: bytes, *, more: bool = False) -> bytes:
    """Return a frame as on the wire."""
    if len(content) < 256:
        return bytes([more, len(content)]) + content
    return bytes([2 + more]) + len(content).to_bytes(8, "big") + content


def _acknowledge() -> bytes:
    frames = (
        _frame(ACK + msgpack.packb((VERSION, {os.urandom(16): 1 for _ in range(MAX_ACKS)})))
        for _ in range(_PREPARED // (MAX_ACKS * 20))
    )
    return b"".join(frames)


def _prepare() -> Mapping[str, bytes]:
    """Return the bytes of each attack by its name; RESETTING is followed by the end of the connection."""
    return {
        "acknowledgements": _acknowledge(),
        "small acknowledgements": _frame(ACK + msgpack.packb((VERSION, {}))) * 400_000,
        "welcomes": _frame(WELCOME) * 200_000,
        "unknown frames": _frame(b"\xff\x00") * 1_000_000,
        "frames over the limit": _frame(bytes(2 << 20)),
        "a message that never ends": _frame(bytes(8_000), more=True) * 500,
        "a message of empty frames": _frame(b"", more=True) * 2_000_000,
        RESETTING: _frame(ACK + msgpack.packb((VERSION, {}))) * 60 + _PING,
    }


@contextmanager
def _attacking(port: int, content: bytes) -> Iterator[list[int]]:
    """Listen on a port, and send the content again and again to every connection.

    Yields:
        The number of bytes sent over each connection that is over.
    """
    sent: list[int] = []
    listener = socket.create_server(("127.0.0.1", port))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError):
                accepted, _ = listener.accept()
                with closing(accepted):
                    accepted.settimeout(0.2)
                    accepted.sendall(GREETING + _READY)
                    while b"READY" not in accepted.recv(1000):  # Before that, only a handshake is accepted.
                        pass
                    accepted.sendall(_frame(WELCOME))
                    if content.endswith(_PING):
                        _reset(accepted, content, sent)
                    else:
                        _send(accepted, content, over, sent)

    listener.settimeout(0.2)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join(DEADLINE_S)
        listener.close()


def _reset(accepted: socket.socket, content: bytes, sent: list[int]) -> None:
    """Send the content, and end the connection without waiting for the other side."""
    accepted.sendall(content)
    sent.append(len(content))
    time.sleep(0.01)  # Both come with one look of libzmq otherwise, which reads nothing then.
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _send(accepted: socket.socket, content: bytes, over: threading.Event, sent: list[int]) -> None:
    """Send the content until the attack is over, or the program has closed the connection."""
    sent.append(0)
    left = memoryview(b"")
    while not over.is_set():
        left = left or memoryview(content)
        with suppress(TimeoutError):
            count = accepted.send(left)
            left = left[count:]
            sent[-1] += count


def besiege_program(length: Length) -> Row:
    """Attack traced programs in every way a collector can, one way each, then give them a real one."""
    seconds = length.of(20.0, 2.0)
    attacks = _prepare()
    grown_mb, share, worst, busiest = 0.0, 0.0, "", ""
    with Stage() as stage:
        collector = stage.collector(started=False)
        port = int(collector.endpoint.rpartition(":")[2])
        plan = Plan(collector.endpoint, rate=200, seconds=600.0, closing_s=DEADLINE_S)
        makers: list[MakerProcess] = []
        for name, content in attacks.items():
            maker = stage.maker(plan)  # A new one, which has had no reason to be careful.
            makers.append(maker)
            with measured(maker.process.pid) as cost, _attacking(port, content) as sent:
                maker.go()
                _wait_for_spans(maker, int(seconds * plan.rate))
            assert sum(sent) > (1_000 if name == RESETTING else 10_000), f"{name}: {sent}"
            if cost[0].grown_mb >= grown_mb:
                grown_mb, worst = cost[0].grown_mb, name
            if cost[0].busy_s / seconds >= share:
                share, busiest = cost[0].busy_s / seconds, name
        collector.start()
        seen = [maker.end(2 * DEADLINE_S) for maker in makers]
        collector.stop()
        lost = identity.lost(identity.check(collector.database, sum(each.made for each in seen)))
    return Row(
        f"{len(attacks)} kinds of hostile collectors",
        f"each program grows by less than {MAX_GROWN_MB:.0f} MB, no span lost",
        f"grows {grown_mb:.0f} MB ({worst}), busy {100 * share:.0f}% ({busiest}), {lost} lost",
        lost,
        not lost and grown_mb < MAX_GROWN_MB and share < MAX_SHARE,
    )


def _wait_for_spans(maker: MakerProcess, count: int) -> None:
    wait_for(lambda: maker.made >= count, "spans are made under attack")
