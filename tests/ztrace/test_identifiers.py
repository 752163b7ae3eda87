"""Generation of trace and span ids."""

import threading
from collections.abc import Iterator

import pytest

from tests.ztrace.waiting import DEADLINE_S
from ztrace import identifiers
from ztrace.identifiers import draw_span_ids, forget, new_trace_id, take_span_id

#: 2024-01-01T00:00:00Z in milliseconds.
EPOCH_MS = 1_704_067_200_000


@pytest.fixture(autouse=True)
def undrawn() -> Iterator[None]:
    """Discard the ids already drawn, before and after each test."""
    forget()
    yield
    forget()


def next_span_id() -> bytes:
    """Return an id the way a span obtains one."""
    try:
        return take_span_id()
    except IndexError:
        return draw_span_ids()


def test_a_trace_id_begins_with_the_time() -> None:
    """A trace id starts with the time in milliseconds as six bytes, so later ids sort later."""
    earlier = new_trace_id(EPOCH_MS * 1_000_000 + 999_999)
    later = new_trace_id((EPOCH_MS + 1) * 1_000_000)
    assert (len(earlier), int.from_bytes(earlier[:6], "big")) == (16, EPOCH_MS)
    assert int.from_bytes(later[:6], "big") == EPOCH_MS + 1


def test_trace_ids_of_one_moment_differ_in_their_last_seven_bytes() -> None:
    """Trace ids of one millisecond differ in their last seven bytes, which W3C's flag 02 declares random."""
    assert len({new_trace_id(EPOCH_MS)[9:] for _ in range(2000)}) == 2000


def test_an_odd_number_of_ids_left_is_enough_for_a_trace_id() -> None:
    """A trace id, made from two span ids' randomness, can be made when only one span id is left."""
    draw_span_ids()
    while len(identifiers._span_ids) > 1:
        take_span_id()
    assert len(new_trace_id(EPOCH_MS)) == 16


def test_span_ids_are_eight_bytes_and_differ() -> None:
    """Span ids have eight bytes and do not repeat across several draws."""
    ids = {next_span_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert set(map(len, ids)) == {8}


def test_threads_get_different_ids() -> None:
    """Threads that take and draw ids at the same time never share an id."""
    taken: list[list[bytes]] = []

    def take() -> None:
        taken.append([next_span_id() for _ in range(3000)])

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert len({one for ids in taken for one in ids}) == 6 * 3000


def test_no_id_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id of zeros, which stands for no span, is drawn again."""
    good = bytes(range(1, 9))
    draws = [bytes(8 * 512), good * 256 + bytes(8) + good * 255, good * 512]
    monkeypatch.setattr(identifiers, "urandom", lambda size: draws.pop(0))
    assert {next_span_id() for _ in range(512)} == {good}
    assert draws == []


def test_forget_throws_away_what_was_drawn() -> None:
    """`forget` discards the ids already drawn, so a forked child uses its own randomness."""
    draw_span_ids()
    left = set(identifiers._span_ids)
    forget()
    with pytest.raises(IndexError):
        take_span_id()
    assert next_span_id() not in left
