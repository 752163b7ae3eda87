"""Small disks that fill up: a tmpfs where one may be mounted."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path | None]:
    """Yield a folder on a filesystem of its own, None where none may be mounted; it is unmounted again."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        # Whoever still has a file open there would keep it from being unmounted at once.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leaving_kb: int = 0) -> Path:
    """Write a file until there is no more space than is to be left; return it."""
    path = folder / "filler"
    disk = os.statvfs(folder)
    size = max(0, disk.f_bavail * disk.f_frsize - (leaving_kb << 10))
    with open(path, "ab") as file:
        file.write(bytes(size))
    return path
