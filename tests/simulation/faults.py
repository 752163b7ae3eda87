"""Kinds and rates of faults in a simulated world, and the source of all its random choices.

One idea: each seed has its own mixture, so some worlds are rough in one way and calm in all others. A healed
world has no faults.
"""

import random
from typing import NamedTuple


class Killed(BaseException):
    """Death of the running process, which bypasses every handler as a real kill does."""


class Rates(NamedTuple):
    """Probabilities per message, acknowledgement, system call or turn.

    Attributes:
        ack_lost: an acknowledgement does not reach one of the publishers.
        slow: a message takes seconds instead of milliseconds.
        killed_at_send: a program is killed just before or after a message.
        killed_at_write: a program is killed before, in or after a write to its spool.
        disk_full: a write to the spool fails wholly or half way.
        unreadable: a batch can no longer be read from the spool.
        interrupted: a transaction fails half way.
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


#: Maximum of each rate; each seed draws a rate below it, or zero.
ROUGHEST = Rates(0.5, 0.1, 0.01, 0.02, 0.5, 0.05, 0.4, 0.1)


class Faults:
    """Random choices of one world.

    Attributes:
        dice: the source of every random choice.
        rates: the current probabilities of faults.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.rates = Rates(
            *(most * self.dice.random() ** 2 if self.dice.random() < 0.4 else 0.0 for most in ROUGHEST)
        )

    def heal(self) -> None:
        """Disable all faults from now on."""
        self.rates = Rates()

    def happens(self, rate: float) -> bool:
        """Return whether an event of this probability happens; a rate of zero draws no number."""
        return rate > 0 and self.dice.random() < rate

    def latency_s(self) -> float:
        """Return the delivery time of a message in seconds."""
        if self.happens(self.rates.slow):
            return self.dice.uniform(0.1, 3.0)
        return self.dice.random() * 0.02
