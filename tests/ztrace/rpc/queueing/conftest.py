"""Fixtures of a queue and of workers in threads of the test's process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ztrace import rpc


@pytest.fixture
def queue() -> Iterator[rpc.Queue]:
    """Yield a queue without a spool."""
    with rpc.Queue("tcp://127.0.0.1:0") as queue:
        yield queue


@pytest.fixture
def work(queue: rpc.Queue) -> Iterator[Callable[..., rpc.Worker]]:
    """Yield a function that starts a worker of the queue, with functions by name."""
    with ExitStack() as stack:

        def start(*, credits: int = 2, **functions: Any) -> rpc.Worker:
            return stack.enter_context(rpc.Worker(functions, queue.endpoint, credits=credits))

        yield start
