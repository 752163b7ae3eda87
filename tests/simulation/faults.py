"""What goes wrong in a simulated world, and how often: every choice of a run is drawn here or from here.

One idea: each seed has its own mixture, so that some worlds are rough in one way and calm in all others, and
when a world is healed nothing goes wrong any more.
"""

import random
from typing import NamedTuple


class Killed(BaseException):
    """The process that is just running is no more; like the real thing it passes by every handler."""


class Rates(NamedTuple):
    """Probabilities: of each message, each acknowledgement, each system call, or each turn.

    Attributes:
        ack_lost: an acknowledgement does not reach one of the publishers.
        slow: a message takes seconds instead of milliseconds.
        killed_at_send: a program is killed just before or after a message.
        killed_at_write: a program is killed before, in or after a write to its spool.
        disk_full: a write to the spool fails, or half of it does.
        unreadable: a batch cannot be read from the spool any more.
        interrupted: a transaction fails in the middle.
        crashed: the collector dies, at one of the moments of a transaction.
    """

    ack_lost: float = 0.0
    slow: float = 0.0
    killed_at_send: float = 0.0
    killed_at_write: float = 0.0
    disk_full: float = 0.0
    unreadable: float = 0.0
    interrupted: float = 0.0
    crashed: float = 0.0


#: What each rate is at most; each seed draws its own below, or none at all.
ROUGHEST = Rates(0.5, 0.1, 0.01, 0.02, 0.5, 0.05, 0.4, 0.1)


class Faults:
    """The dice of a world.

    Attributes:
        dice: where everything in this world is drawn from.
        rates: how often what goes wrong.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.rates = Rates(
            *(most * self.dice.random() ** 2 if self.dice.random() < 0.4 else 0.0 for most in ROUGHEST)
        )

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self.rates = Rates()

    def happens(self, rate: float) -> bool:
        """Tell whether something of this probability happens; nothing is drawn for what never does."""
        return rate > 0 and self.dice.random() < rate

    def latency_s(self) -> float:
        """Return how long something is on its way."""
        if self.happens(self.rates.slow):
            return self.dice.uniform(0.1, 3.0)
        return self.dice.random() * 0.02
