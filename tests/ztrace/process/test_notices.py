"""Notices of a signal, beside the handler that Python has for it."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.ztrace.waiting import wait_for
from ztrace.process.notices import Notices


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """Yield the list of signals that the test's own handler for SIGUSR1 gets, and restore the default."""
    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    yield handled
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_is_noted_once_and_handled_once(handled: list[int]) -> None:
    """Each signal calls Python's handler once, and the next `take` returns True once."""
    notices = Notices(signal.SIGUSR1)
    try:
        assert not notices.take()
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert notices.take()
            assert not notices.take()
            assert handled == [signal.SIGUSR1] * count
    finally:
        notices.close()


def test_a_handler_that_is_set_later_replaces_the_notices(handled: list[int]) -> None:
    """A handler that the program sets afterwards is called alone."""
    notices = Notices(signal.SIGUSR1)
    try:
        later: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: later.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (later, handled, notices.take()) == ([signal.SIGUSR1], [], False)
    finally:
        notices.close()


@pytest.mark.process
def test_a_signal_of_a_forked_child_is_not_the_parents(handled: list[int]) -> None:
    """A child that shares the descriptors does not make its parent take its signals for its own."""
    notices = Notices(signal.SIGUSR1)
    try:
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(0)
        wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0])
        assert not notices.take()
    finally:
        notices.close()


def test_closed_notices_take_nothing(handled: list[int]) -> None:
    """Descriptors that the program has closed are neither read nor closed again."""
    notices = Notices(signal.SIGUSR1)
    for end in (notices._reading, notices._writing):
        os.close(end.fileno())
    reading, writing = os.pipe()
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert handled == [signal.SIGUSR1]
        assert not notices.take()
        notices.close()
        assert os.fstat(reading)
        assert os.fstat(writing)
    finally:
        os.close(reading)
        os.close(writing)
