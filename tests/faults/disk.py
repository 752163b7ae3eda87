"""A disk that fills up: a small tmpfs where one may be mounted, a limit on the size of files elsewhere.

One idea: the same two verbs for both, so that a fault does not know which it has.
"""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.faults.stage import Collector, Stage

#: The size of the small disk: room for some ten thousand spans beside the log of the database.
DISK_BYTES = 24 << 20


class Disk(Protocol):
    """Where a database is that will find no room."""

    #: What it is, for the table.
    name: str
    folder: Path

    def fill(self, collector: Collector) -> None:
        """Leave no room for the collector's file to grow."""

    def free(self, collector: Collector) -> None:
        """Give the room back."""


@contextmanager
def small_disk(stage: Stage) -> Iterator[Disk]:
    """Yield the best there is here."""
    folder = stage.name("disk")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        with limited_files(stage) as limited:
            yield limited
        return
    try:
        yield SmallFilesystem(folder)
    finally:
        # Lazily: the collector that has files open there ends with the stage, which is later.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limited_files(stage: Stage) -> Iterator[Disk]:
    """Yield what there is without permission."""
    folder = stage.name("disk")
    folder.mkdir()
    yield LimitedFiles(folder)


class SmallFilesystem:
    """A tmpfs with a file that takes up what is free."""

    name = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, collector: Collector) -> None:
        """Write until nothing is free."""
        with open(self._ballast, "wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(1 << 16)):
                    pass
            except OSError:
                return

    def free(self, collector: Collector) -> None:
        """Delete what was written."""
        self._ballast.unlink()


class LimitedFiles:
    """A limit on the size of the collector's files; it needs no permission."""

    name = "file size limit"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, collector: Collector) -> None:
        """Let no file grow beyond what the largest is now."""
        sizes = [path.stat().st_size for path in self.folder.iterdir()]
        _, most = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (max(sizes), most))

    def free(self, collector: Collector) -> None:
        """Lift the limit; of a process that has ended it is lifted already."""
        if collector.process.poll() is not None:
            return
        _, most = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (most, most))
