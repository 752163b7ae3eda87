"""Choice of the collector to which a publisher sends, where it has a list of several.

One idea: every publisher has its own order of the collectors, by a hash of its incarnation and each address
(rendezvous hashing). So publishers spread over the list without knowing of each other, a collector that is
lost leaves an even share to every other one, and no message is needed. A publisher sticks to its collector,
and moves to the next in its order only after that one has been away for long: most are back within seconds,
and what a collector has stored and not acknowledged is stored twice after a move.

Nothing here reads a clock: the caller passes the time, and so can a test.
"""

from collections.abc import Sequence

#: Time without a connection after which a publisher moves: longer than the restart of a collector takes.
STAY_S = 30.0
#: The same for a publisher that is closing, or that has reached no collector and is being flushed: several
#: collectors have their turn within the timeout of an exit. It doubles with each round, for collectors that
#: accept connections late.
HURRY_S = 0.5
#: The same where the system has made a connection: its collector may accept it after a transaction.
ACCEPT_S = 1.5


def rank(endpoints: Sequence[str], incarnation: bytes) -> list[str]:
    """Return the endpoints in the order of an incarnation, the same in every process."""
    if len(endpoints) < 2:
        return list(endpoints)
    from hashlib import blake2b  # Most programs have one collector.

    def weigh(endpoint: str) -> bytes:
        return blake2b(endpoint.encode("utf-8", "surrogateescape"), key=incarnation, digest_size=8).digest()

    return sorted(endpoints, key=weigh)


class Chooser:
    """Collector of one incarnation at a time.

    Attributes:
        count: number of collectors.
    """

    def __init__(self, endpoints: Sequence[str], incarnation: bytes, now_s: float) -> None:
        self.count = len(endpoints)
        self._order = rank(endpoints, incarnation)
        self._place = self._moves = 0
        self._was_connected = False
        #: Time from which there has been no connection.
        self._lost_s = now_s

    @property
    def endpoint(self) -> str:
        """Address of the present collector."""
        return self._order[self._place]

    def look(self, is_connected: bool, now_s: float) -> None:
        """Note whether the present collector is connected."""
        if is_connected or self._was_connected:
            self._lost_s = now_s
        if is_connected:
            self._moves = 0
        self._was_connected = is_connected

    def move(self, now_s: float, *, is_hurried: bool, is_answered: bool = False) -> bool:
        """Move to the next collector, if the present one has been away for long and there is another.

        Args:
            now_s: the time.
            is_hurried: the process cannot wait.
            is_answered: the present collector's system has answered.
        """
        hurry_s = (ACCEPT_S if is_answered else HURRY_S) * 2 ** min(self._moves // self.count, 8)
        stay_s = min(hurry_s, STAY_S) if is_hurried else STAY_S
        if self.count < 2 or self._was_connected or now_s - self._lost_s < stay_s:
            return False
        self._place = (self._place + 1) % self.count
        self._moves += 1
        self._lost_s = now_s
        return True
