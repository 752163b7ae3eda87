"""A collector in a simulated world: a real store on a real file, and everything around it that can fail.

One idea: a crash is a store that is dropped, at one of the moments between receiving and acknowledging, and
another one that is opened on the same file with nothing in memory.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ztrace.errors import DatabaseError
from ztrace.wire import pack_acks
from ztrace_collector.store import Store

if TYPE_CHECKING:
    from tests.simulation.world import World

#: When it may crash: before a transaction, in it, after it, and when some acknowledgements have left.
_MOMENTS = ("before", "in", "after", "acknowledged")
#: Instructions of SQLite's machine between two questions whether to go on.
_STRIDE = 7


class SimulatedCollector:
    """The collector's process, whether it runs or not.

    Attributes:
        path: the database.
        set_aside: files that were the database before.
        acknowledged: what publishers were told is stored, by incarnation.
    """

    def __init__(self, world: "World", folder: Path, empty: Path) -> None:
        self.path = folder / "traces.db"
        self.set_aside: list[Path] = []
        self.acknowledged: dict[bytes, int] = {}
        self._world = world
        self._empty = empty
        self._store: Store | None = None
        self._held: list[Sequence[bytes]] = []
        self._stopped_until_ns = 0
        self._pace_s = world.faults.dice.choice((0.02, 0.1, 0.5))
        shutil.copyfile(empty, self.path)
        # A transaction is one loop; the loop goes on, whether there is a collector or not.
        world.agenda.later(0, self._loop)

    def start(self) -> None:
        """Begin to listen, if it does not."""
        if self._store is None:
            self._store = Store(self.path, clock_ns=self._world.agenda.unix_ns)
            self._world.network.listening = True
            self._world.note("collector", "starts")

    def crash(self) -> None:
        """Die, with everything in memory and in the sockets."""
        if self._store is not None:
            self._world.note("collector", "crashes")
            self._drop_store()
            self._held.clear()
            self._world.network.listening = False
            self._world.network.cut_all(arriving=False)

    def stop(self) -> None:
        """End well."""
        if self._store is not None:
            self._store.close()
            self._store = None
            self._world.network.listening = False

    def freeze(self, duration_s: float) -> None:
        """Do nothing for a while."""
        self._world.note("collector", f"stands still for {duration_s:.1f} s")
        self._stopped_until_ns = self._world.agenda.now_ns + int(duration_s * 1e9)

    def replace_file(self) -> None:
        """Go on with an empty file, and nobody else notices."""
        running = self._store is not None
        self._drop_store()
        aside = self.path.with_name(f"aside-{len(self.set_aside)}.db")
        for ending in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{ending}")
            if part.exists():
                part.rename(f"{aside}{ending}")
        self.set_aside.append(aside)
        shutil.copyfile(self._empty, self.path)
        self._world.note("collector", "goes on with an empty file")
        if running:
            self._store = Store(self.path, clock_ns=self._world.agenda.unix_ns)

    def _drop_store(self) -> None:
        """Let the file go as if nobody were there to close it: the log stays, memory does not."""
        if self._store is not None:
            self._store._db.close()
            self._store._lock.release()
            self._store = None

    def _loop(self) -> None:
        world = self._world
        if self._store is not None and world.agenda.now_ns >= self._stopped_until_ns:
            self._collect(self._store)
        world.agenda.later(
            0.05 if world.healed else self._pace_s * 2 * world.faults.dice.random(), self._loop
        )

    def _collect(self, store: Store) -> None:
        """Store what there is, and acknowledge it, unless something comes in between."""
        world, faults = self._world, self._world.faults
        if not self._held:
            self._held = world.network.gather(faults.dice.choice((1, 3, 100)))
            if not self._held:
                return
        crash = faults.dice.choice(_MOMENTS) if faults.happens(faults.rates.crashed) else None
        if crash == "before":
            return self.crash()
        if crash == "in" or faults.happens(faults.rates.interrupted):
            _interrupt(store, int(10 ** faults.dice.uniform(0, 4)))
        try:
            acknowledgements = store.store(self._held)
        except DatabaseError as error:
            world.note("collector", f"cannot store {len(self._held)} messages: {type(error).__name__}")
            if crash:
                self.crash()
            return  # What it holds it tries again.
        finally:
            if self._store is not None:
                store._db.set_progress_handler(None, 0)
        world.note("collector", f"stores {len(self._held)} messages: {list(acknowledgements.values())}")
        self._held = []
        if crash == "after":
            return self.crash()
        self.acknowledged.update(acknowledgements)
        world.network.broadcast(pack_acks(acknowledgements))
        if crash:
            self.crash()


def _interrupt(store: Store, instructions: int) -> None:
    """Let the next transaction fail after so many instructions of SQLite's machine, once."""
    left = instructions

    def is_enough() -> bool:
        nonlocal left
        left -= _STRIDE
        return -_STRIDE <= left < 0

    store._db.set_progress_handler(is_enough, _STRIDE)
