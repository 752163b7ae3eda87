"""Traced programs of a simulated world: real publishers, workers and spools, without threads and sockets.

One idea: a program is killed at any point by an exception that bypasses every handler; changes that a handler
or a ``finally`` makes to shared memory meanwhile are undone. Then the kernel's part is done: files are
closed,
the lock is released, some of the messages sent are still delivered.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.faults import Killed
from tests.simulation.network import SimulatedLink
from ztrace import agent, spans
from ztrace.publishing.publisher import Publisher, new_identity
from ztrace.publishing.worker import Worker
from ztrace.settings import Settings, read_settings
from ztrace.spans import Span
from ztrace.spooling.adoption import Adoption
from ztrace.spooling.spool import Spool

if TYPE_CHECKING:
    from tests.simulation.collecting import SimulatedCollector
    from tests.simulation.world import World

#: States of a program.
RUNNING, CLOSED, KILLED = "running", "closed", "killed"


class SimulatedPublisher(Publisher):
    """Publisher whose worker is called by the simulation instead of a thread."""

    def __init__(self, settings: Settings, program: "Program") -> None:
        self._program = program
        identity = new_identity(settings)
        super().__init__(settings, identity, *agent.find_storage(settings, identity))

    def _start(self) -> None:
        if self._open_storage is not None:
            self._open_spool(self._open_storage)
        program = self._program
        self.worker = Worker(self, program.connect, self._spool, self._adopt, program.world.agenda.clocks)
        self._started = True
        self._settle()

    def begin_close(self, timeout_s: float) -> None:
        """Start closing, as `close` does before it waits."""
        self._closed = True
        self.room = 0
        if self.worker is not None:
            self.worker.close(timeout_s)
        elif self._spool is not None:
            self._spool.close(delivered=not self.dropped)


class Program:
    """One incarnation, with its true counts.

    Attributes:
        name: the name in the log.
        created: number of ended spans.
        ids: of the ended spans, as (trace id, span id).
        opened: ids of all started spans.
        fate: RUNNING, CLOSED or KILLED.
        most_crashed: largest number of spans that may be lost with the process.
        left: number of spans undelivered at the end.
        said_bye: whether only the BYE was left to send.
        saw_healed: whether the program was closed in a healed world, so that all its spans must arrive.
    """

    def __init__(self, world: "World", number: int, spool: Path | None) -> None:
        dice = world.faults.dice
        self.world = world
        self.name = f"program {number}"
        self.created = 0
        self.ids: set[tuple[bytes, bytes]] = set()
        self.opened: set[tuple[bytes, bytes]] = set()
        self.fate = RUNNING
        self.most_crashed = 0
        self.saw_healed = False
        self.said_bye = False
        self.left = 0
        self.link: SimulatedLink | None = None
        self.publisher = SimulatedPublisher(_draw_settings(world, number, spool), self)
        self._open: list[Span] = []
        self._page: bytes | None = None
        self._pace_s = dice.choice((0.05, 0.2, 1.0))
        self._busy = dice.choice((1, 4, 30))
        world.programs[self.publisher.identity.incarnation] = self
        settings = self.publisher.settings
        world.note(
            self.name,
            f"begins as {self.publisher.identity.incarnation.hex()[:4]}, spool {spool is not None}, queue"
            f" {settings.queue_spans}, window {settings.window_bytes}, batch {settings.batch_spans}",
        )
        world.agenda.later(dice.random(), self._work)
        world.agenda.later(dice.random() * self._pace_s, self._turn)

    @property
    def is_running(self) -> bool:
        """True until the program has ended."""
        return self.fate == RUNNING

    @property
    def is_reached(self) -> bool:
        """True once the program has reached the collector or has ended."""
        worker = self.publisher.worker
        return not self.is_running or (worker is not None and worker.peer.reached)

    @property
    def has_spool(self) -> bool:
        """True if an heir can deliver the program's undelivered spans."""
        return self.publisher._spool is not None

    def end_spans(self, count: int) -> None:
        """End a number of spans, starting others and ending some that have run for long."""
        dice, publisher = self.world.faults.dice, self.publisher
        spans.publisher = publisher
        while count:
            if self._open and dice.random() < 0.1:
                span = self._open.pop(dice.randrange(len(self._open)))
            else:
                parent = dice.choice(self._open) if self._open and dice.random() < 0.5 else None
                span = spans.span("charge", parent=parent).start(activate=False)
                self.opened.add((span.trace_id, span.span_id))
            if len(self._open) < 3 and dice.random() < 0.05:
                self._open.append(span)
                continue
            count -= 1
            self.created += 1
            self.ids.add((span.trace_id, span.span_id))
            span.end()
        spans.publisher = None

    def begin_close(self, timeout_s: float) -> None:
        """Ask the program to end."""
        self.world.note(self.name, f"closes within {timeout_s:.1f} s")
        self.saw_healed = self.world.healed
        self._pace_s = 0.02 if not self.world.healed else 0.1
        self.publisher.begin_close(timeout_s)
        if self.publisher.worker is None:
            self.fate = CLOSED

    def kill(self) -> None:
        """Kill the process, as the kernel does."""
        publisher, spool, worker = self.publisher, self.publisher._spool, self.publisher.worker
        self.fate = KILLED
        self.said_bye = worker is not None and worker._ended
        self.most_crashed = self.created
        if spool is not None:
            assert isinstance(spool, Spool)
            if self.world.faults.dice.random() < 0.3:
                # Killed between the count and the queue.
                spool.count()
                self.created += 1
                self.most_crashed += 1
            if self._page is not None:
                created = spool.created
                spool._map[:] = self._page
                spool._page[384] = created
        if worker is not None:
            kept = [entry for entry in worker.window._entries.values() if entry.place is not None]
            self.most_crashed -= worker.window.retired + sum(entry.span_count for entry in kept)
            if isinstance(worker._adoption, Adoption) and worker._adoption._current is not None:
                worker._adoption._current._orphan.release()
        if self.link is not None:
            self.link.vanish()
        publisher.abandon()
        self._open.clear()
        self.world.note(self.name, f"is killed, {self.created} spans created")

    def connect(self, endpoint: str) -> SimulatedLink:
        """Return a link to one of the collectors."""
        (collector,) = [each for each in self.world.collectors if each.endpoint == endpoint]
        self.world.note(self.name, f"goes to {collector.name}")
        self.link = SimulatedLink(
            collector.network, self.name, lambda frames: self._before_send(collector, frames)
        )
        return self.link

    def _before_send(self, collector: "SimulatedCollector", frames: Sequence[bytes]) -> None:
        """Watch a message before it is sent, or be killed first."""
        self.world.watch(self.name, collector, frames)
        if self.world.faults.happens(self.world.faults.rates.killed_at_send):
            self.meet_death()

    def meet_death(self) -> None:
        """Kill the program at this point."""
        spool = self.publisher._spool
        if isinstance(spool, Spool):
            self._page = bytes(spool._map)
        raise Killed

    def _work(self) -> None:
        dice = self.world.faults.dice
        if self.is_running and not self.world.healed and not self.publisher._closed:
            self.end_spans(dice.randint(1, self._busy))
            self.world.agenda.later(dice.random() * 1.5, self._work)

    def _turn(self) -> None:
        worker = self.publisher.worker
        if not self.is_running:
            return
        if worker is not None:
            self.world.acting = self
            try:
                if worker.is_done():
                    self.world.give_up(worker.window, self.publisher.identity.incarnation)
                    worker.finish()
                    self.fate = CLOSED
                    self.left = worker.left
                    self.world.note(self.name, f"has ended, {worker.left} spans left")
                else:
                    worker.turn()
                    self.said_bye = worker._ended
            except Killed:
                self.kill()
            finally:
                self.world.acting = None
        self.world.agenda.later(self._pace_s * (0.5 + self.world.faults.dice.random()), self._turn)


def _draw_settings(world: "World", number: int, spool: Path | None) -> Settings:
    """Return settings whose limits are reached within some hundred spans."""
    dice = world.faults.dice
    return read_settings(f"service-{number % 3}", environ={})._replace(
        host="desk",
        endpoints=tuple(each.endpoint for each in world.collectors),
        queue_spans=dice.choice((3, 20, 100_000)),
        window_bytes=dice.choice((600, 3_000, 64 << 20)),
        batch_spans=dice.choice((1, 3, 50)),
        spool=None if spool is None else str(spool),
        spool_bytes=dice.choice((10_000, 20_000, 256 << 20)),
    )
