"""Network between publishers and one collector: delays, cuts, black holes and full buffers.

One idea: the network does what ZeroMQ over TCP may do and nothing else. Messages of one connection arrive in
order; when it is cut, a prefix of the messages in flight arrives and the rest is lost. The dice decide the
length of the prefix, the time each side notices, and the interleaving of connections.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ztrace.wire import WELCOME, pack_acks, unpack_header

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Messages in flight over one connection at which the socket is full.
USUAL_LIMIT = 64
#: Linger of a process that closes its socket normally.
LINGER_S = 0.2


class Connection:
    """One TCP connection as seen by the application.

    Attributes:
        messages: those in flight to the collector, each with its time of arrival.
        cut: whether messages sent from now on are lost, noticed or not.
    """

    def __init__(self, link: "SimulatedLink", limit: int) -> None:
        self.link = link
        self.limit = limit
        self.messages: deque[tuple[int, Sequence[bytes]]] = deque()
        self.cut = False
        #: Messages sent after the cut, which the sender still counts as in flight.
        self.swallowed = 0


class Network:
    """All connections to the collector.

    Attributes:
        listening: whether the collector's port is open.
        blocked: whether connecting fails.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.listening = False
        self.blocked = False
        self.connections: list[Connection] = []
        #: Connection that each incarnation was last heard on.
        self._heard: dict[bytes, Connection] = {}

    def heal(self) -> None:
        """Allow connections and the usual number of messages in flight."""
        self.blocked = False
        for connection in self.connections:
            connection.limit = USUAL_LIMIT

    def unblock(self) -> None:
        """Allow connections."""
        self.blocked = False

    def cut(self, connection: Connection, *, kept: int, noticed_s: float) -> None:
        """Cut a connection: `kept` messages in flight arrive, and the sender notices later."""
        if connection.cut:
            return
        connection.cut = True
        while len(connection.messages) > kept:
            connection.messages.pop()
        link = connection.link
        self.world.note(link.name, f"is cut off, {kept} messages arrive, noticed in {noticed_s:.2f} s")
        self.world.agenda.later(noticed_s, lambda: link.lose(connection))

    def cut_all(self, *, arriving: bool) -> None:
        """Cut all connections; without ``arriving`` all messages in flight are lost."""
        dice = self.world.faults.dice
        for connection in list(self.connections):
            kept = dice.randint(0, len(connection.messages)) if arriving else 0
            self.cut(connection, kept=kept, noticed_s=dice.random() * 0.05)
            if not arriving:
                connection.messages.clear()
        self.connections = [connection for connection in self.connections if connection.messages]

    def gather(self, limit: int) -> list[Sequence[bytes]]:
        """Return some of the messages that have arrived, in a possible order of a fair queue."""
        now_ns, dice = self.world.agenda.now_ns, self.world.faults.dice
        gathered: list[Sequence[bytes]] = []
        ready = [one for one in self.connections if one.messages and one.messages[0][0] <= now_ns]
        while ready and len(gathered) < limit:
            connection = dice.choice(ready)
            frames = connection.messages.popleft()[1]
            gathered.append(frames)
            self._heard[unpack_header(frames[1]).incarnation] = connection
            if not connection.messages or connection.messages[0][0] > now_ns:
                ready.remove(connection)
        self.connections = [one for one in self.connections if one.messages or not one.cut]
        return gathered

    def acknowledge(self, next_sequences: Mapping[bytes, int]) -> None:
        """Acknowledge over the connections that were last heard, except where a fault loses the frame."""
        faults = self.world.faults
        for connection in self.connections:
            entries = {
                incarnation: number
                for incarnation, number in next_sequences.items()
                if self._heard.get(incarnation) is connection
            }
            if entries and not connection.cut and not faults.happens(faults.rates.ack_lost):
                connection.link.tell(connection, pack_acks(entries))


class SimulatedLink:
    """Simulated socket of a worker; see `ztrace.publishing.link.Link`."""

    def __init__(self, network: Network, name: str, before_send: Callable[[Sequence[bytes]], None]) -> None:
        self.name = name
        self._network = network
        self._agenda = network.world.agenda
        self._faults = network.world.faults
        self._before_send = before_send
        self._connection: Connection | None = None
        self._events: deque[tuple[int, bytes]] = deque()
        self._last_ns = 0
        self._settled = self._closed = False
        self._connect_later()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message; return False when the socket is full or not connected."""
        self._before_send(frames)
        connection = self._connection
        if connection is None:
            return False
        if len(connection.messages) + connection.swallowed >= connection.limit:
            return False
        if connection.cut:
            connection.swallowed += 1
            return True
        at_ns = self._agenda.now_ns + int(self._faults.latency_s() * 1e9)
        if connection.messages:
            at_ns = max(at_ns, connection.messages[-1][0])
        connection.messages.append((at_ns, frames))
        return True

    def receive(self) -> bytes | None:
        """Return the next received frame, or None."""
        if self._events and self._events[0][0] <= self._agenda.now_ns:
            return self._events.popleft()[1]
        return None

    def count_read(self) -> int:
        """Return 0: a simulated connection has no bytes."""
        return 0

    @property
    def is_answered(self) -> bool:
        """Return False: a simulated connection is accepted at once."""
        return False

    @property
    def is_lost(self) -> bool:
        """Whether the loss of the settled connection was noticed."""
        return self._settled and self._connection is None

    def refusal(self) -> None:
        """Return nothing: no connection is refused."""

    def settle(self) -> None:
        """Note that a welcome has come."""
        self._settled = True

    def is_readable(self) -> bool:
        """Return False, so that the worker waits."""
        return False

    def wait(self, timeout_ms: int) -> None:
        """Return at once: time advances elsewhere."""

    def renew(self) -> None:
        """Make another connection, unless one is being made."""
        connection, self._connection = self._connection, None
        if connection is None and not self._settled:
            return
        if connection is not None and not connection.cut:
            kept = self._faults.dice.randint(0, len(connection.messages))
            self._network.cut(connection, kept=kept, noticed_s=0)
        self._settled = False
        self._events.clear()
        self._connect_later()

    def close(self, linger_ms: int) -> None:
        """Close normally: messages that leave within the linger arrive, unless the connection is cut.

        Without a linger some of the messages in flight arrive.
        """
        if not linger_ms:
            self.vanish()
            return
        self._closed = True
        if self._connection is not None:
            end_ns = self._agenda.now_ns + int(LINGER_S * 1e9)
            while self._connection.messages and self._connection.messages[-1][0] > end_ns:
                self._connection.messages.pop()
            self._connection.cut = True

    def vanish(self) -> None:
        """Close as the kernel does for a killed process: some of the messages in flight arrive."""
        self._closed = True
        connection = self._connection
        if connection is not None and not connection.cut:
            kept = self._faults.dice.randint(0, len(connection.messages))
            self._network.cut(connection, kept=kept, noticed_s=0)

    def tell(self, connection: Connection, frame: bytes) -> None:
        """Deliver a frame to the worker after a delay, in order, unless the connection is over."""
        if self._connection is not connection:
            return
        self._last_ns = max(self._last_ns, self._agenda.now_ns + int(self._faults.latency_s() * 1e9))
        self._events.append((self._last_ns, frame))

    def lose(self, connection: Connection) -> None:
        """Notice that a connection is cut, and reconnect unless the worker has to do so."""
        if self._connection is connection and not self._closed:
            self._connection = None
            if not self._settled:
                self._connect_later()

    def _connect_later(self) -> None:
        self._agenda.later(self._faults.dice.uniform(0.05, 1.0), self._connect)

    def _connect(self) -> None:
        network = self._network
        if self._closed or self._connection is not None:
            return
        if network.blocked or not network.listening:
            self._connect_later()
            return
        limit = USUAL_LIMIT if network.world.healed else self._faults.dice.choice((2, 8, USUAL_LIMIT))
        self._connection = Connection(self, limit)
        network.connections.append(self._connection)
        network.world.note(self.name, "is connected")
        self.tell(self._connection, WELCOME)
