"""Bounds on what a collector can make the traced process take."""

import time
from collections.abc import Sequence

import pytest
import zmq

import ztrace
from tests.ztrace.receiving import Receiver
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import agent
from ztrace.publishing import retrying
from ztrace.publishing.intake import (
    BURST_BYTES,
    BURST_FRAMES,
    FLOOD,
    FOREIGN,
    FRAMES_PER_S,
    MAX_UNFINISHED,
    Intake,
    Unwanted,
)
from ztrace.publishing.retrying import Retries
from ztrace.wire import ACK, DATA, MAX_ACKS, TOPIC, WELCOME, pack_acks

INCARNATION = bytes(16)
SOME = pack_acks({INCARNATION: 1})


def test_frames_are_read_for_what_they_say() -> None:
    """A welcome and an acknowledgement are read."""
    intake = Intake(0.0)
    assert intake.read(WELCOME, 0.0) is None
    assert intake.read(SOME, 0.0) == {INCARNATION: 1}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x00",
        b"\x01other",
        WELCOME + b"x",
        WELCOME[:-1],
        b"\x01" + TOPIC,
        b"\x00" + 7000 * b"x",
        b"\x02",
        b"\xff\x00",
        ACK,
        ACK + b"\x91" * 5000,
        SOME + b"x",
    ],
    ids=lambda frame: f"{frame[:8]!r} {len(frame)}",
)
def test_a_frame_that_no_collector_sends_is_rejected(frame: bytes) -> None:
    """A frame that is no welcome, acknowledgement or request is rejected at once."""
    with pytest.raises(Unwanted) as raised:
        Intake(0.0).read(frame, 0.0)
    assert raised.value.reason == FOREIGN


def test_too_many_frames_are_rejected() -> None:
    """Acknowledgements are accepted in bursts and at a rate, and rejected beyond both."""
    intake = Intake(0.0)
    for _ in range(BURST_FRAMES):
        intake.read(SOME, 0.0)
    for _ in range(FRAMES_PER_S):
        intake.read(SOME, 1.0)
    with pytest.raises(Unwanted) as raised:
        intake.read(SOME, 1.0)
    assert raised.value.reason == FLOOD


def test_a_welcome_weighs_as_much_as_many_frames() -> None:
    """Welcomes, which make the process send everything again, are few."""
    intake = Intake(0.0)

    def welcome() -> None:
        for _ in range(30):
            intake.read(WELCOME, 0.0)

    with pytest.raises(Unwanted):
        welcome()


def test_bytes_are_bounded_before_they_are_read() -> None:
    """More bytes between two looks than acknowledgements take are rejected, whatever is in them."""
    intake = Intake(0.0)
    intake.weigh(BURST_BYTES, 0.0)
    intake.read(SOME, 0.0)
    intake.weigh(2 * BURST_BYTES, 0.0)
    intake.read(SOME, 0.0)
    with pytest.raises(Unwanted) as raised:
        intake.weigh(3 * BURST_BYTES + 1, 0.0)
    assert raised.value.reason == FLOOD


def test_a_thread_that_was_late_accepts_little_more() -> None:
    """A long time between two looks does not raise the bound without limit."""
    intake = Intake(0.0)
    with pytest.raises(Unwanted):
        intake.weigh(4 * BURST_BYTES, 3600.0)


def test_bytes_without_a_frame_are_bounded() -> None:
    """A message that goes on slowly and never ends is rejected, and frames that end are not."""
    intake = Intake(0.0)
    step = MAX_UNFINISHED // 4
    for look in range(20):
        intake.weigh(step * look, look)
        intake.read(SOME, look)

    def go_on() -> None:
        for look in range(20, 30):
            intake.weigh(step * look, look)

    with pytest.raises(Unwanted) as raised:
        go_on()
    assert raised.value.reason == FLOOD


def test_a_new_connection_is_weighed_from_its_start() -> None:
    """Bytes of the connection before are not held against the next one."""
    intake = Intake(0.0)
    intake.weigh(MAX_UNFINISHED, 0.0)
    for look in range(10):
        intake.weigh(100 if look % 2 else 200, look)


def test_pauses_double_and_are_forgiven() -> None:
    """Each failure doubles the pause, up to a limit, and a long time without one shortens it again."""
    retries, now_s, pauses = Retries(0.0), 0.0, []
    for _ in range(7):
        assert retries.are_due(now_s)
        retries.note_failure(now_s)
        pause_s = next(each for each in range(1, 60) if retries.are_due(now_s + each))
        pauses.append(pause_s)
        now_s += pause_s
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    now_s += 2 * retrying.FORGIVE_S
    retries.note_failure(now_s)
    assert retries.are_due(now_s + 1)


def send(receiver: Receiver, *frames: bytes) -> None:
    """Bind a socket in the receiver's place that sends frames over its first connection."""
    receiver.stop()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(receiver.endpoint)
        assert socket.poll(int(1000 * DEADLINE_S))
        route, hello = socket.recv_multipart()
        assert hello == b""
        socket.send_multipart([route, WELCOME])
        socket.send_multipart([route, *frames])
        # The connection is closed, and the next one has another id.
        publisher = agent.current_publisher()
        assert publisher is not None
        wait_for(lambda: publisher.worker is not None and publisher.worker.peer.refusal)
    receiver.start()


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([SOME, SOME], FOREIGN),
        ([b"\x01other"], FOREIGN),
        ([b"\xff"], FOREIGN),
        ([b""], FOREIGN),
        ([WELCOME, b"x"], FOREIGN),
    ],
    ids=["two frames", "another word", "an unknown byte", "nothing", "a welcome of two frames"],
)
def test_a_connection_is_cut_and_made_again(
    receiver: Receiver,
    counts: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    frames: Sequence[bytes],
    reason: str,
) -> None:
    """Input that no collector sends costs the connection, once, and no span."""
    monkeypatch.setattr(retrying, "RETRY_S", 0.01)
    ztrace.configure("billing", receiver.endpoint)
    with ztrace.span("before"):
        pass
    assert ztrace.flush(DEADLINE_S)
    send(receiver, *frames)
    with ztrace.span("after"):
        pass
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["before", "after"]
    assert counts == {reason: 1}
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"ztrace: {receiver.endpoint} sends what no collector does ({reason})")


@pytest.mark.parametrize("number", [2, 1 << 62, (1 << 63) - 1])
def test_spans_that_were_not_sent_cannot_be_acknowledged(
    receiver: Receiver, counts: dict[str, int], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """An acknowledgement of batches that do not exist costs the connection, and discards nothing."""
    monkeypatch.setattr(retrying, "RETRY_S", 0.01)
    receiver.acknowledging = False
    ztrace.configure("billing", receiver.endpoint)
    with ztrace.span("a"):
        pass
    wait_for(lambda: receiver.headers(DATA))
    receiver.send(pack_acks({receiver.headers(DATA)[0].incarnation: number}))
    wait_for(lambda: counts)
    receiver.acknowledging = True
    assert ztrace.flush(DEADLINE_S)
    assert receiver.names() == ["a"]
    assert counts == {FOREIGN: 1}


def test_acknowledgements_of_many_publishers_are_split() -> None:
    """An acknowledgement of as many publishers as one may have is within the limits of a publisher."""
    most = pack_acks({number.to_bytes(16, "big"): (1 << 63) - 1 for number in range(MAX_ACKS)})
    said = Intake(time.monotonic()).read(most, time.monotonic())
    assert isinstance(said, dict)
    assert len(said) == MAX_ACKS
