"""Collectors of a simulated world: a real store on a real file, with failures injected around it.

One idea: a crash drops the store at one of the moments between receiving and acknowledging, and opens another
one on the same file with empty memory.
"""

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.simulation.network import Network
from ztrace.errors import DatabaseError
from ztrace_collector.receiving.adopting import Adopter
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.writer import Writer

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Moments of a crash: before, in or after a transaction, or after some acknowledgements were sent.
_MOMENTS = ("before", "in", "after", "acknowledged")
#: SQLite's maximum of pages in a database.
_MOST_PAGES = 4294967294
#: Virtual machine instructions between two calls of SQLite's progress handler.
_STRIDE = 7


class SimulatedCollector:
    """Collector process, running or not.

    Attributes:
        name: name in the log.
        endpoint: address in the list of the programs.
        network: the connections to it.
        path: the database.
        set_aside: earlier database files.
        acknowledged: the next sequence number acknowledged to each incarnation.
        adopts: whether the collector itself delivers the contents of the spool folder.
        is_gone: it has crashed, and nobody starts it again.
    """

    def __init__(self, world: "World", number: int, folder: Path, empty: Path) -> None:
        self.name = f"collector {number}"
        self.endpoint = f"tcp://10.0.0.{number + 1}:4710"
        self.network = Network(world)
        self.path = folder / f"traces-{number}.db"
        self.is_gone = False
        self.set_aside: list[Path] = []
        self.acknowledged: dict[bytes, int] = {}
        self._world = world
        self._empty = empty
        #: One of the two is set while the collector runs: the service's writer, which keeps unstored messages
        #: and
        #: recovers by itself, or a bare store, which fails at any instruction and is called again.
        self._writer: Writer | None = None
        self._alone: Store | None = None
        self._has_writer = world.faults.dice.random() < 0.5
        self._adopter: Adopter | None = None
        self.adopts = world.faults.dice.random() < 0.5
        self._held: list[Sequence[bytes]] = []
        self._stopped_until_ns = 0
        self._pace_s = world.faults.dice.choice((0.02, 0.1, 0.5))
        shutil.copyfile(empty, self.path)
        # Each iteration runs one transaction; iterations continue while the collector is down.
        world.agenda.later(0, self._loop)

    def start(self) -> None:
        """Start listening, unless the collector runs."""
        if not self._is_running and not self.is_gone:
            self._open()
            self.network.listening = True
            self._world.note(self.name, f"starts{', with a writer' if self._has_writer else ''}")

    def crash(self) -> None:
        """Crash, losing everything in memory and in the sockets."""
        if self._is_running:
            self._world.note(self.name, "crashes")
            self._drop_store()
            self._held.clear()
            self.network.listening = False
            self.network.cut_all(arriving=False)

    def stop(self) -> None:
        """Shut the collector down normally."""
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
        if self._alone is not None:
            self._alone.close()
        if self._adopter is not None:
            self._adopter.close()
        self._writer = self._alone = self._adopter = None
        self.network.listening = False

    def freeze(self, duration_s: float) -> None:
        """Suspend the collector for a while."""
        self._world.note(self.name, f"stands still for {duration_s:.1f} s")
        self._stopped_until_ns = self._world.agenda.now_ns + int(duration_s * 1e9)

    def replace_file(self) -> None:
        """Continue with an empty file, unnoticed by the publishers."""
        running = self._is_running
        self._drop_store()
        aside = self.path.with_name(f"{self.path.stem}-aside-{len(self.set_aside)}.db")
        for ending in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{ending}")
            if part.exists():
                part.rename(f"{aside}{ending}")
        self.set_aside.append(aside)
        shutil.copyfile(self._empty, self.path)
        self._world.note(self.name, "goes on with an empty file")
        if running:
            self._open()

    def fill_disk(self, duration_s: float) -> None:
        """Fill the disk for a while, so that the file cannot grow."""
        if self._store is not None:
            self._world.note(self.name, f"has no room for {duration_s:.1f} s")
            (pages,) = self._store._db.execute("PRAGMA page_count").fetchone()
            self._store._db.execute(f"PRAGMA max_page_count = {pages}")
            self._world.agenda.later(duration_s, self.free_disk)

    def free_disk(self) -> None:
        """Free the disk, so that the file can grow."""
        if self._store is not None:
            self._store._db.execute(f"PRAGMA max_page_count = {_MOST_PAGES}")

    @property
    def _is_running(self) -> bool:
        return self._writer is not None or self._alone is not None

    @property
    def _store(self) -> Store | None:
        """The open store, which a writer may be without."""
        return self._alone if self._writer is None else self._writer._store

    def _open(self) -> None:
        world = self._world
        if self._has_writer:
            self._writer = Writer(
                self.path,
                say=lambda line: world.note(self.name, line.replace(str(self.path.parent), "")),
                clock_ns=world.agenda.unix_ns,
            )
            self._writer.write()
        else:
            self._alone = Store(self.path, clock_ns=world.agenda.unix_ns)
        if self.adopts:
            self._adopter = Adopter(
                world.spool,
                self._adopt,
                world.fail,
                world.agenda.monotonic_s(),
                collectors=len(world.collectors),
            )

    def _drop_store(self) -> None:
        """Drop the file as a killed process does: the log stays, the memory is lost."""
        store = self._store
        if store is not None:
            store._db.close()
            store._lock.release()
        if self._adopter is not None and self._adopter._adoption._current is not None:
            self._adopter._adoption._current._orphan.release()
        self._adopter = None
        self._writer = self._alone = None

    def _loop(self) -> None:
        world = self._world
        if self._is_running and world.agenda.now_ns >= self._stopped_until_ns:
            self._collect()
            if self._adopter is not None:
                try:
                    self._adopter.step(world.agenda.monotonic_s())
                except DatabaseError:
                    world.note(self.name, "cannot adopt")
        world.agenda.later(
            0.05 if world.healed else self._pace_s * 2 * world.faults.dice.random(), self._loop
        )

    def _collect(self) -> None:
        """Store the pending messages and acknowledge them, unless a fault intervenes."""
        world, faults, writer = self._world, self._world.faults, self._writer
        if not self._held and not (writer and writer.holding):
            self._held = self.network.gather(faults.dice.choice((1, 3, 100)))
            if not self._held:
                return
        crash = faults.dice.choice(_MOMENTS) if faults.happens(faults.rates.crashed) else None
        if crash == "before":
            return self.crash()
        if crash == "in" or faults.happens(faults.rates.interrupted):
            _interrupt(self._store, int(10 ** faults.dice.uniform(0, 4)))
        count = len(self._held)
        try:
            acknowledgements = self._write()
        except DatabaseError as error:
            world.check(writer is None, f"the writer gives up: {error}")
            world.note(self.name, f"cannot store {count} messages: {type(error).__name__}")
            if crash:
                self.crash()
            return  # The held messages are retried.
        except sqlite3.Error as error:
            world.check(writer is None, f"the writer fails: {error}")
            return self.crash()  # The rollback failed too.
        finally:
            _interrupt(self._store, None)
        world.note(self.name, f"stores {count} messages: {list(acknowledgements.values())}")
        if crash in ("in", "after"):
            return self.crash()
        self.acknowledged.update(acknowledgements)
        self.network.acknowledge(acknowledgements)
        if crash:
            self.crash()

    def _write(self) -> dict[bytes, int]:
        """Write the gathered messages; messages not written are kept, here or by the writer."""
        if self._writer is not None:
            held, self._held = self._held, []
            return self._writer.write(held).acknowledgements
        assert self._alone is not None
        acknowledgements = self._alone.store(self._held).acknowledgements
        self._held = []
        return acknowledgements

    def _adopt(self, messages: Sequence[Sequence[bytes]]) -> dict[bytes, int]:
        """Store the messages left by dead programs."""
        for frames in messages:
            self._world.watch(self.name, self, frames)
        acknowledgements = {} if self._writer is None else self._writer.write(messages).acknowledgements
        if self._alone is not None:
            acknowledgements = self._alone.store(messages).acknowledgements
        self.acknowledged.update(acknowledgements)
        return acknowledgements


def _interrupt(store: Store | None, instructions: int | None) -> None:
    """Make the next transaction fail once after a number of SQLite instructions; None disables the fault."""
    if store is None:
        return
    if instructions is None:
        store._db.set_progress_handler(None, 0)
        return
    left = instructions

    def is_enough() -> bool:
        nonlocal left
        left -= _STRIDE
        return -_STRIDE <= left < 0

    store._db.set_progress_handler(is_enough, _STRIDE)
