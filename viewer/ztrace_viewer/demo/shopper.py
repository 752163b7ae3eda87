"""The people in the shop, a process: ``python -m ztrace_viewer.demo.shopper COLLECTOR FOLDER SECONDS``.

One idea: the first visits are written down, one of each kind that is worth seeing, so that the shortest demo
shows them all. After that chance decides, the same in every run.
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

#: People in the shop at the same time.
CUSTOMERS = ("Ada", "Grace", "Hedy", "Mary")
#: Any card but the blocked one.
CARD = "4000 0000 0000 0077"
#: What anybody can buy without waiting for anybody.
AT_HAND = sorted(PRICES.keys() - {SUPPLIED, MADE_TO_ORDER})
#: Words that people search for.
WORDS = ("lamp", "tea", "desk", "mirror")

#: What somebody does in the shop, given the front service and the customer's name.
Visit = Callable[[Any, str], None]


def search(word: str) -> Visit:
    """Return the visit of somebody who looks around."""

    @ztrace.trace("search", word=word)
    def visit(front: Any, customer: str) -> None:
        for article in front.search(word)[:2]:
            front.look(article)

    return visit


def look(article: str) -> Visit:
    """Return the visit of somebody who knows what to look at."""

    @ztrace.trace("look", article=article)
    def visit(front: Any, customer: str) -> None:
        front.look(article)

    return visit


def buy(basket: list[str], card: str = CARD) -> Visit:
    """Return the visit of somebody who buys."""

    @ztrace.trace("buy", articles=len(basket))
    def visit(front: Any, customer: str) -> None:
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
    """Be a customer: one visit after the other until it is time to go home."""
    for visit in visits:
        try:
            visit(front, customer)
        except zerorpc.RemoteError:
            pass  # The page said sorry.
        gevent.sleep(0.03)
        if time.monotonic() >= end_s:
            return


def main() -> None:
    """Trace this process, and send customers into the shop."""
    collector, folder, seconds = sys.argv[1:]
    lifeline.hold()
    ztrace.configure(service="shopper", endpoint=collector)
    ztrace.instrument("zerorpc")
    front = zerorpc.Client(f"ipc://{folder}/front")
    visits = plan_visits()
    end_s = time.monotonic() + float(seconds)
    gevent.joinall(
        [gevent.spawn(shop, customer, front, visits, end_s) for customer in CUSTOMERS], raise_error=True
    )


if __name__ == "__main__":
    main()
