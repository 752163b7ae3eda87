"""Threads whose CPU time is a single piece of work's, and threads that tasks or greenlets share."""

import asyncio
import sys
import threading
from collections.abc import Callable

import gevent
import greenlet
import pytest

from ztrace.process.sharing import shares_thread


def in_thread(work: Callable[[], list[bool]]) -> list[bool]:
    """Return the result of a function that runs in a thread of its own."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.extend(work()))
    thread.start()
    thread.join()
    return found


def test_a_plain_thread_is_not_shared() -> None:
    """A thread without a loop is its only work's, also when asyncio, gevent and greenlet are imported."""
    assert in_thread(lambda: [shares_thread()]) == [False]


def test_a_thread_with_a_loop_is_shared_while_the_loop_runs() -> None:
    """Tasks share their thread; before and after the loop, it is not shared."""

    async def ask() -> bool:
        return shares_thread()

    def work() -> list[bool]:
        return [shares_thread(), asyncio.run(ask()), shares_thread()]

    assert in_thread(work) == [False, True, False]


def test_a_thread_with_a_hub_is_shared() -> None:
    """Greenlets share their thread, and with a hub also with the code that waits for them."""

    def work() -> list[bool]:
        before = shares_thread()
        inside = gevent.spawn(shares_thread).get()
        beside = shares_thread()
        gevent.get_hub().destroy()
        return [before, inside, beside]

    assert in_thread(work) == [False, True, True]


def test_a_greenlet_without_gevent_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A greenlet of another library shares its thread with the one that started it."""
    monkeypatch.delitem(sys.modules, "gevent._hub_local")
    assert in_thread(lambda: [greenlet.greenlet(shares_thread).switch(), shares_thread()]) == [True, False]
