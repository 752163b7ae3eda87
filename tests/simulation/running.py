"""Runs of worlds, each in its own folder, in memory where the machine has such a file system."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulation.accounts import check_accounts
from tests.simulation.world import World
from ztrace_collector.storing.store import Store

#: File system in memory.
_MEMORY = Path("/dev/shm")


@contextmanager
def prepared() -> Iterator[Path]:
    """Yield a folder with an empty database, which worlds copy because creating one takes longer."""
    with tempfile.TemporaryDirectory(prefix="ztrace-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        Store(Path(folder) / "empty.db").close()
        yield Path(folder)


def run_seed(seed: int, folder: Path, log: Callable[[str], None] | None = None) -> World:
    """Run one world and check its accounts.

    Raises:
        Wrong: an account is not exact, or an invariant is broken.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        world = World(seed, Path(own), folder / "empty.db", log)
        world.run()
        check_accounts(world)
        return world
