"""The shop: five services that call each other through zerorpc, written as if nobody traced them.

One idea: calls are traced without a word in here. `ztrace.span` stands only where a call is not enough to
know: around another company's machine and around a computation.

    shopper ──▶ front ──┬──▶ stock             one call per article, and a supplier that is slow
                        └──▶ orders ──┬──▶ stock
                                      ├──▶ billing     where cards are declined
                                      └──⇢ mail        a message: nobody waits for it

Sleeping stands for databases, disks and other people's networks.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import zerorpc

import ztrace

#: What there is, and what it costs in cents.
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
#: Only the supplier knows its price today.
SUPPLIED = "sofa"
#: Built when somebody wants it: nobody can say at once how long that takes.
MADE_TO_ORDER = "piano"
#: The card that the bank does not like.
BLOCKED_CARD = "4000 0000 0000 0002"

#: Tells where a service of this shop listens.
AddressOf = Callable[[str], str]


class CardDeclined(Exception):
    """The bank refuses to pay."""


class OrderFailed(Exception):
    """Nothing was ordered, and nothing has to be paid."""


class Front:
    """The page that people see."""

    def __init__(self, address_of: AddressOf) -> None:
        self._stock: Any = zerorpc.Client(address_of("stock"))
        self._orders: Any = zerorpc.Client(address_of("orders"))

    def search(self, word: str) -> list[str]:
        """Return the articles that a word is part of."""
        return sorted(self._stock.find(word))

    def look(self, article: str) -> str:
        """Describe an article; people do not wait for a date that takes its time."""
        price = self._stock.price(article)
        try:
            date = self._stock.delivery_date(article, timeout=0.25)
        except zerorpc.TimeoutExpired:
            date = "some day"
        return f"{article}: {price / 100:.2f}, yours {date}"

    def checkout(self, customer: str, card: str, basket: list[str]) -> str:
        """Order what is in the basket, and return the receipt's number."""
        receipt: str = self._orders.place(customer, card, basket)
        return receipt


class Orders:
    """Turns a basket into an order."""

    def __init__(self, address_of: AddressOf) -> None:
        self._stock: Any = zerorpc.Client(address_of("stock"))
        self._billing: Any = zerorpc.Client(address_of("billing"))
        self._mail = zerorpc.Pusher()
        self._mail.connect(address_of("mail"))

    def place(self, customer: str, card: str, basket: list[str]) -> str:
        """Have the basket paid, and return the receipt's number."""
        total = sum(self._stock.price(article) for article in basket)
        try:
            receipt: str = self._billing.charge(card, total)
        except zerorpc.RemoteError as error:
            raise OrderFailed(f"nothing ordered for {customer}") from error
        self._mail.confirm(customer, receipt)
        return receipt


class Billing:
    """Takes the money."""

    def charge(self, card: str, cents: int) -> str:
        """Charge a card, and return the receipt's number."""
        gevent.sleep(0.012)
        if card == BLOCKED_CARD:
            raise CardDeclined(f"the bank declined the card ending in {card[-4:]}")
        with ztrace.span("sign receipt", cents=cents):
            return hashlib.pbkdf2_hmac("sha256", card.encode(), b"receipt", 8_000).hex()[:12]


class Stock:
    """Knows the articles."""

    def price(self, article: str) -> int:
        """Return what an article costs, in cents."""
        gevent.sleep(0.006)
        if article == SUPPLIED:
            with ztrace.span("ask supplier", article=article):
                gevent.sleep(0.4)
        return PRICES[article]

    def delivery_date(self, article: str) -> str:
        """Return when an article can be delivered."""
        gevent.sleep(0.6 if article == MADE_TO_ORDER else 0.008)
        return "tomorrow"

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def find(self, word: str) -> Iterator[str]:
        """Yield the articles that a word is part of, as they are found."""
        for article in PRICES:
            if word in article:
                gevent.sleep(0.003)
                yield article


class Mail:
    """Writes to customers, one letter after the other."""

    def confirm(self, customer: str, receipt: str) -> None:
        """Tell a customer that an order is on its way."""
        gevent.sleep(0.015)
