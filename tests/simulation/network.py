"""A network between publishers and a collector: delays, cuts, black holes, full buffers.

One idea: it may do what ZeroMQ over TCP may do and nothing else. Over one connection messages arrive in
order, and when it is cut a first part of what was on its way arrives and the rest never does; which part, who
notices when, and how two connections interleave, is the dice's.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World

#: What a socket says when the collector comes and goes.
THERE, GONE = b"\x01ztrace", b"\x00ztrace"
#: Messages on their way over one connection until the socket is full.
USUAL_LIMIT = 64
#: What leaves a process that closes its socket well.
LINGER_S = 0.2


class Connection:
    """One TCP connection, seen from above.

    Attributes:
        messages: on their way to the collector, each with when it arrives.
        cut: nothing that is sent from now on arrives, whoever has noticed.
    """

    def __init__(self, link: "SimulatedLink", limit: int) -> None:
        self.link = link
        self.limit = limit
        self.messages: deque[tuple[int, Sequence[bytes]]] = deque()
        self.cut = False
        #: What the sender still takes to be on its way, after the cut.
        self.swallowed = 0


class Network:
    """All connections to the one collector.

    Attributes:
        listening: the collector's port is open.
        blocked: nobody can connect.
    """

    def __init__(self, world: "World") -> None:
        self.world = world
        self.listening = False
        self.blocked = False
        self.connections: list[Connection] = []

    def heal(self) -> None:
        """Let everybody connect and send as much as usual."""
        self.blocked = False
        for connection in self.connections:
            connection.limit = USUAL_LIMIT

    def cut(self, connection: Connection, *, kept: int, noticed_s: float) -> None:
        """End a connection: so many of the messages on their way arrive, and the sender notices later."""
        if connection.cut:
            return
        connection.cut = True
        while len(connection.messages) > kept:
            connection.messages.pop()
        link = connection.link
        self.world.note(link.name, f"is cut off, {kept} messages arrive, noticed in {noticed_s:.2f} s")
        self.world.agenda.later(noticed_s, lambda: link.lose(connection))

    def cut_all(self, *, arriving: bool) -> None:
        """End all connections; without ``arriving`` nothing on its way arrives: the collector is dead."""
        dice = self.world.faults.dice
        for connection in list(self.connections):
            kept = dice.randint(0, len(connection.messages)) if arriving else 0
            self.cut(connection, kept=kept, noticed_s=dice.random() * 0.05)
            if not arriving:
                connection.messages.clear()
        self.connections = [connection for connection in self.connections if connection.messages]

    def gather(self, limit: int) -> list[Sequence[bytes]]:
        """Return some messages that have arrived, in an order in which a fair queue may give them."""
        now_ns, dice = self.world.agenda.now_ns, self.world.faults.dice
        gathered: list[Sequence[bytes]] = []
        ready = [one for one in self.connections if one.messages and one.messages[0][0] <= now_ns]
        while ready and len(gathered) < limit:
            connection = dice.choice(ready)
            gathered.append(connection.messages.popleft()[1])
            if not connection.messages or connection.messages[0][0] > now_ns:
                ready.remove(connection)
        self.connections = [one for one in self.connections if one.messages or not one.cut]
        return gathered

    def broadcast(self, frame: bytes) -> None:
        """Send an acknowledgement to everybody, as far as it gets."""
        faults = self.world.faults
        for connection in self.connections:
            if not connection.cut and not faults.happens(faults.rates.ack_lost):
                connection.link.tell(frame)


class SimulatedLink:
    """What a worker has instead of a socket; see `ztrace.publishing.link.Link`."""

    def __init__(self, network: Network, name: str, before_send: Callable[[Sequence[bytes]], None]) -> None:
        self.name = name
        self._network = network
        self._agenda = network.world.agenda
        self._faults = network.world.faults
        self._before_send = before_send
        self._connection: Connection | None = None
        self._events: deque[tuple[int, bytes]] = deque()
        self._last_ns = 0
        self._closed = False
        self._connect_later()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message."""
        self._before_send(frames)
        connection = self._connection
        if connection is None:
            return True  # Without a subscriber XPUB drops.
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
        """Return what has come."""
        if self._events and self._events[0][0] <= self._agenda.now_ns:
            return self._events.popleft()[1]
        return None

    def wait(self, timeout_ms: int) -> None:
        """Nobody waits here: time passes elsewhere."""

    def renew(self) -> None:
        """Nothing to do: who is not connected here is tried for again by itself."""

    def close(self, linger_ms: int) -> None:
        """Close well: what leaves in time arrives, unless the connection is cut meanwhile."""
        self._closed = True
        if self._connection is not None:
            end_ns = self._agenda.now_ns + int(LINGER_S * 1e9)
            while self._connection.messages and self._connection.messages[-1][0] > end_ns:
                self._connection.messages.pop()
            self._connection.cut = True

    def vanish(self) -> None:
        """Close as the kernel does for a process that is killed: some of what was sent has left."""
        self._closed = True
        connection = self._connection
        if connection is not None and not connection.cut:
            kept = self._faults.dice.randint(0, len(connection.messages))
            self._network.cut(connection, kept=kept, noticed_s=0)

    def tell(self, frame: bytes) -> None:
        """Let a frame come in some time later, in its order."""
        self._last_ns = max(self._last_ns, self._agenda.now_ns + int(self._faults.latency_s() * 1e9))
        self._events.append((self._last_ns, frame))

    def lose(self, connection: Connection) -> None:
        """Notice that a connection is cut, and connect anew."""
        if self._connection is connection and not self._closed:
            self._connection = None
            self.tell(GONE)
            self._connect_later()

    def _connect_later(self) -> None:
        self._agenda.later(self._faults.dice.uniform(0.05, 1.0), self._connect)

    def _connect(self) -> None:
        network = self._network
        if self._closed:
            return
        if network.blocked or not network.listening:
            self._connect_later()
            return
        limit = USUAL_LIMIT if network.world.healed else self._faults.dice.choice((2, 8, USUAL_LIMIT))
        self._connection = Connection(self, limit)
        network.connections.append(self._connection)
        network.world.note(self.name, "is connected")
        self.tell(THERE)
