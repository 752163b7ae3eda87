"""Decompression within bounds, and deadlines of requests."""

import gzip
import threading
import time
import zlib

import pytest

from ztrace_collector.otlp.listening import bodies
from ztrace_collector.otlp.listening.bodies import (
    Body,
    Deadline,
    Ending,
    RefusedRequest,
    Room,
    check_json,
    inflate,
)
from ztrace_collector.receiving.inbox import Busy


def inflated(content: bytes, *, is_json: bool = False, room: int = 1 << 30) -> bytes:
    """Decompress with a new deadline."""
    with Room(room).held() as held:
        body = Body(content, is_json, is_compressed=True)
        return bytes(inflate(body, Deadline(time.monotonic(), Ending()), held))


@pytest.mark.parametrize("size", [0, 1, 1 << 16, (1 << 20) + 1, 3_000_000])
def test_any_size_is_decompressed(size: int) -> None:
    """Content around the size of a step comes out whole, in one member or several."""
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    assert inflated(gzip.compress(content)) == content
    assert inflated(zlib.compress(content)) == content
    assert inflated(gzip.compress(content) * 3) == content * 3


@pytest.mark.parametrize(
    ("is_json", "limit"), [(False, bodies.INFLATED_BYTES), (True, bodies.INFLATED_JSON_BYTES)]
)
def test_a_small_body_cannot_become_large(is_json: bool, limit: int) -> None:
    """Decompressed bytes are bounded by the compressed ones, below what a body may have."""
    content = gzip.compress(bytes(limit))
    assert len(inflated(content, is_json=is_json)) == limit
    with pytest.raises(RefusedRequest) as error:
        inflated(gzip.compress(bytes(limit + (2 << 20))), is_json=is_json)
    assert error.value.reason == "otlp_oversized"


def test_members_are_bounded() -> None:
    """Countless empty members are refused in time that grows with their number."""
    begun_s = time.process_time()
    with pytest.raises(RefusedRequest):
        inflated(gzip.compress(b"") * 500_000)
    assert time.process_time() - begun_s < 2


def test_decompressed_bytes_of_all_are_bounded() -> None:
    """A request beyond what all may hold is told to retry, and its share is given back."""
    room = Room(3 << 20)
    deadline = Deadline(time.monotonic(), Ending())
    body = Body(gzip.compress(bytes(2 << 20)), is_compressed=True)
    with room.held() as first:
        inflate(body, deadline, first)
        with room.held() as second, pytest.raises(Busy):
            inflate(body, deadline, second)
    with room.held() as third:
        assert len(inflate(body, deadline, third)) == 2 << 20


@pytest.mark.parametrize("unit", [b"{},", b"[],", b"1,", b'{"a":{"b":[1,2]}},'])
def test_json_values_are_bounded(unit: bytes) -> None:
    """JSON with more values than allowed is refused before it is parsed."""
    check_json(b"[" + unit * 1000 + b"1]")
    with pytest.raises(RefusedRequest):
        check_json(b"[" + unit * bodies.MAX_JSON_VALUES + b"1]")


def test_a_deadline_is_that_of_the_whole_request() -> None:
    """A request that has waited has less time left, and none after its time."""
    now_s = time.monotonic()
    assert Deadline(now_s - bodies.ANSWER_S + 1, Ending()).remaining_s() <= 1
    with pytest.raises(Busy):
        Deadline(now_s - bodies.ANSWER_S, Ending()).remaining_s()


def test_an_end_brings_deadlines_forward() -> None:
    """At the collector's end a request has the grace time, and no more."""
    ending = Ending()
    deadline = Deadline(time.monotonic(), ending)
    ending.begin()
    assert deadline.remaining_s() <= bodies.GRACE_S
    ending.at_s = time.monotonic()
    with pytest.raises(Busy, match="ending"):
        deadline.remaining_s()


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that takes too much processor time is refused, and not to be sent again."""
    monkeypatch.setattr(bodies, "MAX_WORK_S", -1.0)
    with pytest.raises(RefusedRequest):
        Deadline(time.monotonic(), Ending()).remaining_s()


def test_a_lock_is_waited_for_until_the_deadline() -> None:
    """A lock that another request keeps ends the wait at the deadline."""
    lock = threading.Lock()
    deadline = Deadline(time.monotonic() - bodies.ANSWER_S + 0.05, Ending())
    with lock, pytest.raises(Busy), deadline.holding(lock):
        raise AssertionError("the lock was taken twice")
    assert not lock.locked()
