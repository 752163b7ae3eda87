"""One simulated world: programs, collectors with their networks, a spool folder, and a healing at the end.

One idea: any fault may happen for some seconds. Then the world is healed, all living programs end normally,
everything left by the dead is delivered, and every account must be exact.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import EIO, ENOSPC
from pathlib import Path
from types import ModuleType

from tests.simulation.agenda import Agenda
from tests.simulation.collecting import SimulatedCollector
from tests.simulation.faults import Faults
from tests.simulation.programs import Program
from ztrace import diagnostics, identifiers, spans
from ztrace.publishing import choosing, publisher, unfinished
from ztrace.publishing.peer import MOVED
from ztrace.publishing.window import Window
from ztrace.spooling import files, orphans, spool
from ztrace.wire import BEAT, BYE, CRASH, DATA, OPEN, TOMBSTONE, Header, unpack_header
from ztrace_collector.storing import writer

#: Names of the kinds of messages in the log.
_KINDS = {DATA: "DATA", TOMBSTONE: "TOMBSTONE", BEAT: "BEAT", BYE: "BYE", CRASH: "CRASH", OPEN: "OPEN"}
#: Time within which a healed world must have delivered everything: resending backs off to a minute.
PATIENCE_S = 600.0


class Wrong(AssertionError):
    """Broken invariant of a world."""


class World:
    """One world, determined by its seed.

    Attributes:
        healed: whether faults are disabled.
        programs: all programs that ever ran, by incarnation.
        acting: the program that currently runs.
        batches: the bodies sent, by incarnation and sequence number.
        moves: of each incarnation: the number from which it sends to another collector, and the number up to
            which it had sent before.
        buried: sequence numbers whose spans may be lost although sent: replaced by a tombstone or given up.
        unreadable: whether a read from the spool has failed.
    """

    def __init__(
        self, seed: int, folder: Path, empty: Path, log: Callable[[str], None] | None = None
    ) -> None:
        self.faults = Faults(seed)
        self.agenda = Agenda()
        self.healed = False
        self.programs: dict[bytes, Program] = {}
        self.acting: Program | None = None
        self.batches: dict[tuple[bytes, int], bytes] = {}
        self.buried: set[tuple[bytes, int]] = set()
        self.unreadable = False
        self.spool = folder / "spool"
        self._log = log
        #: Collectors that are away for seconds, again and again.
        self._is_unsteady = False
        self.moves: dict[bytes, list[range]] = {}
        #: Collector of the latest message of each incarnation, and the number that follows its messages.
        self._receivers: dict[bytes, SimulatedCollector] = {}
        self._sent: dict[bytes, int] = {}
        count = self.faults.dice.choice((1, 1, 1, 2, 2, 3))
        self.collectors: list[SimulatedCollector] = []
        for number in range(count):
            self.collectors.append(SimulatedCollector(self, number, folder, empty))

    def note(self, who: str, what: str) -> None:
        """Log an event with its time."""
        if self._log is not None:
            self._log(f"{self.agenda.monotonic_s():9.3f} {who:<11} {what}")

    def watch(self, who: str, receiver: SimulatedCollector, frames: Sequence[bytes]) -> None:
        """Check a message that is about to be sent."""
        header = unpack_header(frames[1])
        if self._log is not None:
            self.note(who, f"sends {_describe(header)}")
        incarnation, sent = header.incarnation, self._sent.get(header.incarnation, 0)
        if self._receivers.setdefault(incarnation, receiver) is not receiver:
            self._receivers[incarnation] = receiver
            self.moves.setdefault(incarnation, []).append(range(header.floor, sent))
        self._sent[incarnation] = max(sent, header.sequence + header.covered)
        if header.kind == DATA:
            before = self.batches.setdefault((header.incarnation, header.sequence), frames[2])
            self.check(before == frames[2], f"{who} sends another batch with a number in use")
        elif header.kind == TOMBSTONE:
            numbers = range(header.sequence, header.sequence + header.covered)
            self.buried.update((header.incarnation, number) for number in numbers)

    def check(self, holds: bool, what: str) -> None:
        """Raise `Wrong` unless an invariant holds."""
        if not holds:
            raise Wrong(what)

    def fail(self, what: str) -> None:
        """Raise `Wrong` for a report that must never be made."""
        raise Wrong(what)

    def give_up(self, window: Window, incarnation: bytes) -> None:
        """Exempt the contents of a window from delivery, since its program ends."""
        self.buried.update((incarnation, sequence) for sequence in range(window.floor, window.next_sequence))

    def run(self) -> None:
        """Run with faults, then heal, and wait until everything is delivered."""
        with self._borrowed():
            self._live()
            self._heal()
        for collector in self.collectors:
            collector.stop()
        expected = {"spool_full", MOVED} | ({"spool_damaged"} if self.unreadable else set())
        unexpected = diagnostics.counts.keys() - expected
        self.check(not unexpected, f"the agent has failed: {diagnostics.counts}")

    def _live(self) -> None:
        dice = self.faults.dice
        several = len(self.collectors) - 1
        # Moves take time, and returns take two of them.
        self._is_unsteady = bool(several) and dice.random() < 0.5
        duration_s = dice.choice((2, 5, 15)) * (4 if self._is_unsteady else 1)
        shared_spool = dice.random() < 0.7
        for _ in range(dice.randint(1, 6)):
            delay_s = dice.random() * duration_s if dice.random() < 0.4 else 0.0
            self.agenda.later(delay_s, lambda: self._begin_program(shared_spool and dice.random() < 0.7))
        for collector in self.collectors:
            if dice.random() < 0.8:
                collector.start()
        happenings = [self._happen_to_program] * dice.randint(0, 6) + [
            self._happen_to_collector
        ] * dice.randint(0, 12 if self._is_unsteady else 4)
        happenings += [self._happen_to_network] * dice.randint(0, 12 if self._is_unsteady else 5)
        for happening in happenings:
            self.agenda.later(dice.random() * duration_s, happening)
        self.agenda.pass_time(duration_s)

    def _heal(self) -> None:
        self.note("world", "is healed")
        self.healed = True
        self.faults.heal()
        for collector in self.collectors:
            collector.network.heal()
            collector.freeze(0)
            collector.free_disk()
            collector.start()
        living = [one for one in self.programs.values() if one.is_running]
        for program in living:
            if not program.publisher._closed:
                program.end_spans(1)
        self._wait(lambda: all(one.is_reached for one in living), "a program does not connect")
        for program in living:
            if program.is_running and not program.publisher._closed:
                program.begin_close(PATIENCE_S)
        self._wait(lambda: not any(one.is_running for one in living), "a program does not end")
        if any(each.adopts and not each.is_gone for each in self.collectors):
            self._wait(lambda: not list(self.spool.glob("*.page")), "an orphan stays")
        elif self.spool.exists():
            heir = Program(self, len(self.programs), self.spool)
            heir.end_spans(1)
            self._wait(lambda: heir.is_reached, "the heir does not connect")
            self._wait(lambda: len(list(self.spool.glob("*.page"))) == 1, "an orphan stays")
            heir.begin_close(PATIENCE_S)
            self._wait(lambda: not heir.is_running, "the heir does not end")
            self.check(not list(self.spool.iterdir()), f"left in the spool: {list(self.spool.iterdir())}")
        self.agenda.pass_time(3.0)

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        end_ns = self.agenda.now_ns + int((PATIENCE_S + 60) * 1e9)
        while not done():
            self.check(self.agenda.now_ns < end_ns, otherwise)
            self.agenda.pass_time(0.5)

    def _begin_program(self, with_spool: bool) -> None:
        if not self.healed:
            Program(self, len(self.programs), self.spool if with_spool else None)

    def _happen_to_program(self) -> None:
        dice = self.faults.dice
        living = [one for one in self.programs.values() if one.is_running and not one.publisher._closed]
        if self.healed or not living:
            return
        program = dice.choice(living)
        what = dice.choice(("kill", "kill", "close", "fork", "burst"))
        if what == "kill":
            program.kill()
            if dice.random() < 0.7:  # Restarted by its supervisor.
                self.agenda.later(dice.random() * 2, lambda: self._begin_program(program.has_spool))
        elif what == "close":
            program.begin_close(dice.choice((0.0, 0.5, 2.0, 10.0)))
        elif what == "fork":
            self._begin_program(program.has_spool)
        else:
            program.end_spans(dice.randint(10, 120))

    def _happen_to_collector(self) -> None:
        dice = self.faults.dice
        if self.healed:
            return
        collector = dice.choice(self.collectors)
        if self._is_unsteady:
            what = dice.choice(("late", "late", "late", "late", "freeze", "gone"))
        else:
            what = dice.choice(("crash", "crash", "freeze", "late", "replace", "full", "gone"))
        if what == "freeze":
            duration_s = dice.choice((0.5, 3.0, 8.0))
            collector.freeze(duration_s)
            if duration_s > 1.5:
                collector.network.cut_all(arriving=True)
        elif what == "full":
            collector.fill_disk(dice.uniform(0.5, 5))
        elif what == "replace":
            collector.replace_file()
        else:
            collector.crash()
            if what == "gone" and not all(each.is_gone for each in self.collectors if each is not collector):
                collector.is_gone = True
            self.agenda.later(0.1 if what == "crash" else dice.uniform(1, 10), collector.start)

    def _happen_to_network(self) -> None:
        dice = self.faults.dice
        if self.healed:
            return
        what = dice.choice(("cut", "hole", "all", "clock"))
        if what == "clock":
            self.agenda.shift_ns += int(dice.uniform(-100, 100) * 1e9)
            self.note("world", "sets the clock")
            return
        network = dice.choice(self.collectors).network
        if what == "all":
            network.blocked = True
            network.cut_all(arriving=True)
            self.agenda.later(dice.uniform(0.5, 10), network.unblock)
        elif network.connections:
            connection = dice.choice(network.connections)
            kept = dice.randint(0, len(connection.messages))
            noticed_s = dice.random() if what == "cut" else dice.uniform(1.5, 3.0)
            network.cut(connection, kept=kept, noticed_s=noticed_s)

    @contextmanager
    def _borrowed(self) -> Iterator[None]:
        """Replace the clock, random numbers and disk of the agent's modules by this world's."""
        agenda, dice = self.agenda, self.faults.dice
        clock = _Instead(time, monotonic=agenda.monotonic_s)
        disk = _Instead(os, writev=self._writev, pread=self._pread)
        borrowed: list[tuple[ModuleType, str, object]] = [
            (choosing, "STAY_S", dice.choice((1.5, 1.5, 3.0, 30.0))),
            (publisher, "unix_ns", agenda.unix_ns),
            (publisher, "perf_counter_ns", agenda.monotonic_ns),
            (publisher, "monotonic", agenda.monotonic_s),
            (publisher, "urandom", dice.randbytes),
            (publisher, "getpid", lambda: 42),
            (identifiers, "urandom", dice.randbytes),
            (spool, "unix_ns", agenda.unix_ns),
            (spool, "monotonic", agenda.monotonic_s),
            (spool, "os", disk),
            (files, "os", disk),
            (spool, "_STALE_BYTES", dice.choice((0, 1 << 16))),
            (files, "SEGMENT_BYTES", dice.choice((300, 3_000, 4 << 20))),
            (orphans, "unix_ns", agenda.unix_ns),
            (writer, "time", clock),
            (unfinished, "perf_counter_ns", agenda.monotonic_ns),
            (spans, "perf_counter_ns", agenda.monotonic_ns),
        ]
        own = [getattr(module, name) for module, name, _ in borrowed]
        for module, name, value in borrowed:
            setattr(module, name, value)
        identifiers.forget()
        diagnostics.counts.clear()
        try:
            yield
        finally:
            for (module, name, _), value in zip(borrowed, own, strict=True):
                setattr(module, name, value)
            identifiers.forget()

    def _writev(self, descriptor: int, parts: Sequence[bytes]) -> int:
        """Write to a spool, unless the program is killed meanwhile or the disk is full."""
        faults, program = self.faults, self.acting
        whole = b"".join(parts)
        if program is not None and faults.happens(faults.rates.killed_at_write):
            os.write(
                descriptor, whole[: faults.dice.choice((0, faults.dice.randint(0, len(whole)), len(whole)))]
            )
            program.meet_death()
        if faults.happens(faults.rates.disk_full):
            if faults.dice.random() < 0.5:
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            return os.write(descriptor, whole[: faults.dice.randint(0, len(whole) - 1)])
        return os.write(descriptor, whole)

    def _pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read from a spool, unless a fault makes the read fail."""
        if self.acting is not None and self.faults.happens(self.faults.rates.unreadable):
            self.unreadable = True
            raise OSError(EIO, os.strerror(EIO))
        return os.pread(descriptor, size, offset)


def _describe(header: Header) -> str:
    """Return a message's header as one line."""
    whose, kind = header.incarnation.hex()[:4], _KINDS[header.kind]
    return (
        f"{kind} {header.sequence} of {whose}: covered {header.covered}, spans {header.span_count}, floor"
        f" {header.floor}, created {header.created}, dropped {header.dropped}, retired {header.retired}"
    )


class _Instead:
    """Module with some of its functions replaced."""

    def __init__(self, module: ModuleType, **functions: Callable[..., object]) -> None:
        self._module = module
        self.__dict__.update(functions)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)
