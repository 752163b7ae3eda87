"""Choice among several collectors."""

import random
from collections import Counter

import pytest

from ztrace.publishing.choosing import ACCEPT_S, HURRY_S, STAY_S, Chooser, rank

ENDPOINTS = [f"tcp://10.0.0.{number}:4710" for number in range(8)]
INCARNATION = bytes(range(16))


def test_every_process_computes_the_same_order() -> None:
    """The order depends on the incarnation and the endpoints, and not on the order of the list."""
    assert rank(ENDPOINTS, INCARNATION) == rank(ENDPOINTS[::-1], INCARNATION)
    assert rank(ENDPOINTS[:3], INCARNATION) == [
        "tcp://10.0.0.1:4710",
        "tcp://10.0.0.2:4710",
        "tcp://10.0.0.0:4710",
    ]
    assert rank(["ipc:///run/\udcff"], INCARNATION) == ["ipc:///run/\udcff"]
    assert set(rank(["ipc:///run/\udcff", *ENDPOINTS], INCARNATION)) == {"ipc:///run/\udcff", *ENDPOINTS}


def test_a_lost_collector_leaves_even_shares() -> None:
    """Each collector has its share of the publishers, and so has each as the second in their orders."""
    dice = random.Random(1)
    orders = [rank(ENDPOINTS[:4], dice.randbytes(16)) for _ in range(1000)]
    assert all(200 < count < 300 for count in Counter(order[0] for order in orders).values())
    seconds = Counter(order[1] for order in orders if order[0] == ENDPOINTS[0])
    assert all(55 < seconds[endpoint] < 115 for endpoint in ENDPOINTS[1:4])


def test_a_publisher_moves_when_its_collector_stays_away() -> None:
    """A publisher stays through a short absence, and moves on after a long one, round the list."""
    chooser = Chooser(ENDPOINTS[:3], INCARNATION, 0.0)
    order = rank(ENDPOINTS[:3], INCARNATION)
    assert chooser.endpoint == order[0]
    chooser.look(True, 10.0)
    assert not chooser.move(10.0 + 2 * STAY_S, is_hurried=False)
    # The time without a connection counts, and not the time since it was last seen.
    chooser.look(False, 100.0)
    assert not chooser.move(99.0 + STAY_S, is_hurried=False)
    seen = []
    for turn in range(1, 4):
        assert chooser.move(100.0 + turn * STAY_S, is_hurried=False)
        assert not chooser.move(100.0 + turn * STAY_S, is_hurried=False)
        seen.append(chooser.endpoint)
    assert seen == [order[1], order[2], order[0]]


def test_a_publisher_sticks_to_the_collector_that_it_has_moved_to() -> None:
    """A connection ends the search, and the way back is as long as the way there."""
    chooser = Chooser(ENDPOINTS[:2], INCARNATION, 0.0)
    assert chooser.move(STAY_S, is_hurried=False)
    chooser.look(True, STAY_S + 1)
    chooser.look(False, 1000.0)
    assert not chooser.move(999.0 + STAY_S, is_hurried=False)
    assert chooser.move(1000.0 + STAY_S, is_hurried=False)


def test_a_process_that_cannot_wait_tries_the_others_sooner() -> None:
    """A hurried publisher moves after half a second, and stays longer in each round."""
    chooser = Chooser(ENDPOINTS[:2], INCARNATION, 0.0)
    now_s, waits = 0.0, []
    for _ in range(4):
        before_s = now_s
        while not chooser.move(now_s, is_hurried=True):
            now_s += HURRY_S / 4
        waits.append((now_s - before_s) / HURRY_S)
    assert waits == [1, 1, 2, 2]


def test_a_collector_that_is_slow_to_accept_gets_more_time() -> None:
    """A hurried publisher waits longer where the collector's system has answered."""
    chooser = Chooser(ENDPOINTS[:2], INCARNATION, 0.0)
    assert not chooser.move(ACCEPT_S - 0.1, is_hurried=True, is_answered=True)
    assert chooser.move(ACCEPT_S, is_hurried=True, is_answered=True)


@pytest.mark.parametrize("is_hurried", [False, True])
def test_a_single_collector_is_kept(is_hurried: bool) -> None:
    """With one collector there is nothing to choose."""
    chooser = Chooser(ENDPOINTS[:1], INCARNATION, 0.0)
    assert not chooser.move(1e6, is_hurried=is_hurried)
    assert chooser.endpoint == ENDPOINTS[0]
