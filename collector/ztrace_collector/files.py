"""Files written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def write_whole(path: Path, *, mode: int = 0o666, replace: bool = True) -> Iterator[BinaryIO]:
    """Yield a file that gets its name once the block has ended and its content is on the disk.

    Until then it has a temporary name in the same folder. If the block raises, that file is deleted and an
    older one is left as it was.

    Args:
        path: the name.
        mode: permissions, less the umask.
        replace: replace an older file.

    Raises:
        FileExistsError: there is an older file, and it is not to be replaced.
        OSError: the file cannot be written.
    """
    part = path.with_name(f".ztrace-{secrets.token_hex(8)}.part")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(part, flags, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(part, path)
        else:
            os.link(part, path)  # Unlike a rename, this fails if the name is taken.
    finally:
        part.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Write a folder's names to the disk, as far as the folder can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
