"""Functions of the driver's process pool, which are called like a service's methods."""

from pathlib import Path

import ztrace
from tests.plans.logs import Log
from tests.plans.planning import POOL
from tests.plans.working import Worker

_workers: list[Worker] = []


def start(collector: str, folder: str, addresses: dict[str, str]) -> None:
    """Trace a process of the pool."""
    ztrace.configure(POOL, collector)
    ztrace.instrument()
    from tests.plans.clients import make_clients  # Imports the libraries.

    _workers.append(Worker(Log(Path(folder), POOL), make_clients(addresses)))


def ask(argument: str) -> None:
    """Serve a call."""
    _workers[0].serve("ask", argument)


def fetch(argument: str) -> None:
    """Serve a call."""
    _workers[0].serve("fetch", argument)


def place(argument: str) -> None:
    """Serve a call."""
    _workers[0].serve("place", argument)
