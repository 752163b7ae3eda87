"""Mail of the shop: a service on raw ZeroMQ, with a pool of threads behind a proxy.

orders ⇢ PULL ── PUSH ──⇢ PULL, a clerk ──rpyc──▶ loyalty, ──ztrace.rpc──▶ courier
                      └─⇢ PULL, a clerk ──rpyc──▶ loyalty, ──ztrace.rpc──▶ courier
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import zmq
from rpyc.utils.factory import unix_connect

from ztrace import rpc

#: Threads, each with a socket and a connection to the loyalty programme.
CLERKS = 3
#: Address between the proxy and the threads.
_DESK = "inproc://desk"


class Clerk:
    """Work of one thread.

    Args:
        loyalty: path of the loyalty programme's socket.
        courier: client of the courier, which all threads share.
    """

    def __init__(self, loyalty: str, courier: rpc.Client) -> None:
        self._path, self._courier = loyalty, courier

    def work(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Take one order after the other, until the context is terminated."""
        with context.socket(zmq.PULL) as orders:
            orders.connect(_DESK)
            while True:
                try:
                    order: Any = orders.recv_json()
                except zmq.ContextTerminated:
                    return
                self.confirm(*order)

    def confirm(self, customer: str, receipt: str) -> str:
        """Send a customer the confirmation of an order, and return its text."""
        points = self._loyalty.add_points(customer)
        delivery = self._courier.book(receipt, parcels=1)
        time.sleep(0.012)  # Stands for a mail server.
        return (
            f"{customer}, your receipt is {receipt}, your delivery {delivery}, and you have {points} points"
        )

    @cached_property
    def _loyalty(self) -> Any:
        """Methods of the loyalty programme, which runs by the time of the first order."""
        return unix_connect(self._path).root


def serve(endpoint: str, loyalty: str, courier: str, ready: Callable[[Callable[[], None]], None]) -> None:
    """Serve at an endpoint.

    Args:
        endpoint: where orders are received.
        loyalty: path of the loyalty programme's socket.
        courier: endpoint of the courier.
        ready: called when orders are received, with a function that ends the service from another thread.
    """
    context = zmq.Context()
    with (
        context.socket(zmq.PULL) as orders,
        context.socket(zmq.PUSH) as desk,
        rpc.Client(courier) as client,
        ThreadPoolExecutor(CLERKS) as pool,
    ):
        orders.bind(endpoint)
        desk.bind(_DESK)
        for _ in range(CLERKS):
            pool.submit(Clerk(loyalty, client).work, context)
        ready(context.term)
        try:
            zmq.proxy(orders, desk)
        except zmq.ContextTerminated:
            pass
