"""Disks that fill up: a small tmpfs where mounting is permitted, a limit on file sizes elsewhere.

One idea: both kinds have the same two operations, so a fault is independent of the kind.
"""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.faults.stage import Collector, Stage

#: Size of the small disk: room for some ten thousand spans beside the database's log.
DISK_BYTES = 24 << 20


class Disk(Protocol):
    """Disk that holds a database and can be filled."""

    #: Name in the table of results.
    name: str
    folder: Path

    def fill(self, collector: Collector) -> None:
        """Leave the collector's file no room to grow."""
        ...

    def free(self, collector: Collector) -> None:
        """Free the space again."""
        ...


@contextmanager
def small_disk(stage: Stage) -> Iterator[Disk]:
    """Yield a small filesystem, or limited files where mounting is not permitted."""
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
        # Lazily: the collector with open files on the disk is stopped later, with the stage.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def limited_files(stage: Stage) -> Iterator[Disk]:
    """Yield a disk that needs no permission to mount."""
    folder = stage.name("disk")
    folder.mkdir()
    yield LimitedFiles(folder)


class SmallFilesystem:
    """tmpfs filled by a ballast file."""

    name = "tmpfs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, collector: Collector) -> None:
        """Write the ballast file until no space is left."""
        with open(self._ballast, "wb", buffering=0) as ballast:
            try:
                while ballast.write(bytes(1 << 16)):
                    pass
            except OSError:
                return

    def free(self, collector: Collector) -> None:
        """Delete the ballast file."""
        self._ballast.unlink()


class LimitedFiles:
    """Limit on the size of the collector's files, which needs no permission."""

    name = "file size limit"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, collector: Collector) -> None:
        """Limit file sizes to the present size of the largest file."""
        sizes = [path.stat().st_size for path in self.folder.iterdir()]
        _, most = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (max(sizes), most))

    def free(self, collector: Collector) -> None:
        """Lift the limit, unless the collector has exited."""
        if collector.process.poll() is not None:
            return
        _, most = resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (most, most))
