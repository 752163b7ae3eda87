"""Requests for profiles on their way to publishers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, request_profile, row
from ztrace.wire import unpack_request
from ztrace_collector.layout import SECOND_NS
from ztrace_collector.receiving.requesting import REPEAT_S, Requests
from ztrace_collector.storing.requesting import withdraw_request
from ztrace_collector.storing.writer import Writer


class Hands:
    """Clock and socket of a test: the time that it sets, and the frames that were sent."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.frames: list[bytes] = []

    def now_ns(self) -> int:
        """Return the wall clock's time, which starts with the epoch of the tests."""
        return EPOCH_NS + int(1e9 * (self.now_s - 100))

    def take(self) -> list[int]:
        """Return the seconds of the requests that were sent since the last call."""
        seconds = [unpack_request(frame).seconds for frame in self.frames]
        self.frames.clear()
        return seconds


@pytest.fixture
def hands() -> Hands:
    """Return a clock and a socket."""
    return Hands()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Return a writer with a new file."""
    with Writer(tmp_path / "ztrace.db", say=print) as opened:
        yield opened


@pytest.fixture
def step(hands: Hands, writer: Writer) -> Callable[[float], list[int]]:
    """Return a function that lets time pass, looks, and returns what was sent."""
    requests = Requests(hands.frames.append, clock_ns=hands.now_ns, clock_s=lambda: hands.now_s)

    def pass_time(seconds: float) -> list[int]:
        hands.now_s += seconds
        requests.step(writer)
        return hands.take()

    return pass_time


def test_a_request_is_repeated_with_the_time_left(
    tmp_path: Path, hands: Hands, step: Callable[[float], list[int]]
) -> None:
    """A request goes out at once, every second with what is left, and not after its end."""
    path = tmp_path / "ztrace.db"
    assert step(0) == []
    request = request_profile(path, "billing", 50, 3, hands.now_ns())
    hands.now_s += 1
    assert step(0) == [2]
    assert row(path, "SELECT sent_ns FROM profile_requests") == {"sent_ns": hands.now_ns()}
    assert step(REPEAT_S / 2) == []
    assert step(REPEAT_S / 2) == [1]
    assert step(REPEAT_S) == []
    assert request.nonce != b""


def test_a_withdrawn_request_is_not_repeated(
    tmp_path: Path, hands: Hands, step: Callable[[float], list[int]]
) -> None:
    """A request whose row is deleted goes out no more."""
    request = request_profile(tmp_path / "ztrace.db", "", 50, 30, hands.now_ns())
    assert step(1) == [29]
    withdraw_request(tmp_path / "ztrace.db", request.nonce)
    assert step(REPEAT_S) == []


@pytest.mark.parametrize("row", [(b"n", "", 50, 5), (b"n" * 8, "", 500, 5), (b"n" * 8, "", 50, 10_000)])
def test_a_row_that_is_no_request_is_not_sent(
    writer: Writer, hands: Hands, step: Callable[[float], list[int]], row: tuple[object, ...]
) -> None:
    """A row out of bounds, which another program has written, reaches no publisher."""
    assert writer.write_beside(
        lambda db: db.execute(  # type: ignore[arg-type]
            "INSERT INTO profile_requests (nonce, service, hz, seconds, at_ns) VALUES (?, ?, ?, ?, ?)",
            (*row, hands.now_ns()),
        )
    )
    assert step(1) == []


def test_a_request_of_the_future_is_not_sent(
    tmp_path: Path, hands: Hands, step: Callable[[float], list[int]]
) -> None:
    """A request from a clock that is ahead waits until its time."""
    request_profile(tmp_path / "ztrace.db", "", 50, 5, hands.now_ns() + 60 * SECOND_NS)
    assert step(1) == []
