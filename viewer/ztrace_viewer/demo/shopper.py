"""Process of the customers: ``python -m ztrace_viewer.demo.shopper COLLECTOR FOLDER SECONDS``.

One idea: the first visits are fixed, one of each interesting kind, so the shortest demo shows all kinds. The
others are random, with the same seed in every run.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import zerorpc

import ztrace
from ztrace_viewer import lifeline
from ztrace_viewer.demo.shop import BLOCKED_CARD, MADE_TO_ORDER, PRICES, SUPPLIED

#: Customers in the shop at the same time.
CUSTOMERS = ("Ada", "Grace", "Hedy", "Mary")
#: Card that the bank accepts.
CARD = "4000 0000 0000 0077"
#: Articles in stock.
AT_HAND = sorted(PRICES.keys() - {SUPPLIED, MADE_TO_ORDER})
#: Words that customers search for.
WORDS = ("lamp", "tea", "desk", "mirror")

#: Function of the front service and the customer's name.
Visit = Callable[[Any, str], None]


def search(word: str) -> Visit:
    """Return a visit that searches for a word."""

    @ztrace.trace("search", word=word)
    def visit(front: Any, customer: str) -> None:
        for article in front.search(word)[:2]:
            front.look(article)

    return visit


def look(article: str) -> Visit:
    """Return a visit that looks at an article."""

    @ztrace.trace("look", article=article)
    def visit(front: Any, customer: str) -> None:
        front.look(article)

    return visit


def buy(basket: list[str], card: str = CARD) -> Visit:
    """Return a visit that buys a basket."""

    @ztrace.trace("buy", articles=len(basket))
    def visit(front: Any, customer: str) -> None:
        ztrace.current_span().set(customer=customer)
        front.checkout(customer, card, basket)

    return visit


def plan_visits() -> Iterator[Visit]:
    """Yield visits without end."""
    yield buy([*AT_HAND, *AT_HAND, SUPPLIED])
    yield buy(["table", "vase"], BLOCKED_CARD)
    yield look(MADE_TO_ORDER)
    yield search("lamp")
    chance = random.Random(2012)
    while True:
        basket = chance.sample(AT_HAND, chance.randint(1, 6))
        usual = (search(chance.choice(WORDS)), look(chance.choice(AT_HAND)), buy(basket))
        rare = (buy([*basket, SUPPLIED]), buy(basket, BLOCKED_CARD), look(MADE_TO_ORDER))
        yield chance.choice(rare if chance.random() < 0.08 else usual)


def shop(customer: str, front: Any, visits: Iterator[Visit], end_s: float) -> None:
    """Run visits of one customer, one after the other, until a time."""
    for visit in visits:
        try:
            visit(front, customer)
        except zerorpc.RemoteError:
            pass  # The front end reported it to the customer.
        gevent.sleep(0.03)
        if time.monotonic() >= end_s:
            return


def main() -> None:
    """Trace this process, and run the customers."""
    collector, folder, seconds = sys.argv[1:]
    lifeline.hold()
    ztrace.configure(service="shopper", endpoint=collector, version=ztrace.__version__)
    ztrace.instrument()
    front = zerorpc.Client(f"ipc://{folder}/front")
    visits = plan_visits()
    end_s = time.monotonic() + float(seconds)
    gevent.joinall(
        [gevent.spawn(shop, customer, front, visits, end_s) for customer in CUSTOMERS], raise_error=True
    )


if __name__ == "__main__":
    main()
