"""The shop: its services on zerorpc, which call each other, written without regard to tracing.

One idea: calls are traced without any code in here. `ztrace.span` only adds details within a call: a request
to another company, and a computation. `ztrace.carry` names the messages of raw ZeroMQ, which has no names,
and says that their receiver is traced.

    shopper ──▶ front ──┬──▶ stock             one call per article, and a supplier that is slow
                        └──▶ orders ──┬──▶ stock
                                      ├──▶ billing             where cards are declined
                                      └──⇢ mail ──┬──▶ loyalty    messages of raw ZeroMQ, calls of rpyc
                                                  └──▶ courier    calls of ztrace.rpc

Sleeps stand for databases, disks and networks.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import zerorpc
import zmq.green

import ztrace

#: Articles, with their prices in cents.
PRICES = {
    "clock": 4800,
    "desk": 32000,
    "desk lamp": 6900,
    "doormat": 2400,
    "mirror": 8900,
    "mug": 1200,
    "oil lamp": 3900,
    "piano": 980000,
    "sofa": 129000,
    "table": 45000,
    "tea cup": 900,
    "teapot": 3400,
    "vase": 2700,
}
#: Article whose price only the supplier knows.
SUPPLIED = "sofa"
#: Article built on demand, whose delivery date takes long to compute.
MADE_TO_ORDER = "piano"
#: Card that the bank declines.
BLOCKED_CARD = "4000 0000 0000 0002"

#: Returns the address of a service by its name.
AddressOf = Callable[[str], str]


class CardDeclined(Exception):
    """The bank declines a card."""


class OrderFailed(Exception):
    """Nothing was ordered, and nothing was charged."""


class Front:
    """Service that customers call."""

    def __init__(self, address_of: AddressOf) -> None:
        self._stock: Any = zerorpc.Client(address_of("stock"))
        self._orders: Any = zerorpc.Client(address_of("orders"))

    def search(self, word: str) -> list[str]:
        """Return the articles whose name contains a word."""
        return sorted(self._stock.find(word))

    def look(self, article: str) -> str:
        """Return a description of an article, without a date that takes too long."""
        price = self._stock.price(article)
        try:
            date = self._stock.delivery_date(article, timeout=0.25)
        except zerorpc.TimeoutExpired:
            date = "some day"
        return f"{article}: {price / 100:.2f}, yours {date}"

    def checkout(self, customer: str, card: str, basket: list[str]) -> str:
        """Order a basket, and return the number of the receipt."""
        receipt: str = self._orders.place(customer, card, basket)
        return receipt


class Orders:
    """Service that orders baskets."""

    def __init__(self, address_of: AddressOf) -> None:
        self._stock: Any = zerorpc.Client(address_of("stock"))
        self._billing: Any = zerorpc.Client(address_of("billing"))
        self._mail: Any = zmq.green.Context.instance().socket(zmq.PUSH)
        ztrace.carry(self._mail, name="confirm")
        self._mail.connect(address_of("mail"))

    def place(self, customer: str, card: str, basket: list[str]) -> str:
        """Charge the price of a basket, and return the number of the receipt."""
        total = sum(self._stock.price(article) for article in basket)
        try:
            receipt: str = self._billing.charge(card, total)
        except zerorpc.RemoteError as error:
            raise OrderFailed(f"nothing ordered for {customer}") from error
        self._mail.send_json([customer, receipt])
        return receipt


class Billing:
    """Service that charges cards."""

    def charge(self, card: str, cents: int) -> str:
        """Charge a card, and return the number of the receipt."""
        gevent.sleep(0.012)
        if card == BLOCKED_CARD:
            raise CardDeclined(f"the bank declined the card ending in {card[-4:]}")
        with ztrace.span("sign receipt", cents=cents):
            return hashlib.pbkdf2_hmac("sha256", card.encode(), b"receipt", 8_000).hex()[:12]


class Stock:
    """Service that knows the articles."""

    def price(self, article: str) -> int:
        """Return the price of an article, in cents."""
        gevent.sleep(0.006)
        if article == SUPPLIED:
            with ztrace.span("ask supplier", article=article):
                gevent.sleep(0.4)
        return PRICES[article]

    def delivery_date(self, article: str) -> str:
        """Return the delivery date of an article."""
        gevent.sleep(0.6 if article == MADE_TO_ORDER else 0.008)
        return "tomorrow"

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def find(self, word: str) -> Iterator[str]:
        """Yield the articles whose name contains a word, as they are found."""
        for article in PRICES:
            if word in article:
                gevent.sleep(0.003)
                yield article
