"""Small disks that can be filled: a tmpfs, where one may be mounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path | None]:
    """Yield a folder on its own filesystem, unmounted at the end; None where mounting is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        # A lazy unmount succeeds while a process still has a file open there.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leaving_kb: int = 0) -> Path:
    """Write a file that fills the disk up to the given remainder, and return its path."""
    path = folder / "filler"
    disk = os.statvfs(folder)
    size = max(0, disk.f_bavail * disk.f_frsize - (leaving_kb << 10))
    with open(path, "ab") as file:
        file.write(bytes(size))
    return path
