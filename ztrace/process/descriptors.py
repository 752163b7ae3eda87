"""Descriptors that are known to be ztrace's own.

One idea: a daemon closes every descriptor of its process, and the next files that it opens get the same
numbers. A number is therefore trusted only while device and inode are those of the file that was opened under
it.
"""

import os
from errno import EBADF


class OwnFile:
    """An open file, checked before each use."""

    def __init__(self, descriptor: int) -> None:
        """Own a descriptor; `close` releases it."""
        self._descriptor = descriptor
        self._identity: tuple[int, int] | None = _identify(descriptor)

    @property
    def is_open(self) -> bool:
        """The descriptor is still that of the file."""
        try:
            return self._identity is not None and _identify(self._descriptor) == self._identity
        except OSError:
            return False

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and inode, None once the file is closed."""
        return self._identity

    def fileno(self) -> int:
        """Return the descriptor.

        Raises:
            OSError: the file is closed, and the number may be another file's.
        """
        if not self.is_open:
            raise OSError(EBADF, os.strerror(EBADF))
        return self._descriptor

    def close(self) -> None:
        """Close the file, unless the program has done so; a second call does nothing."""
        if self.is_open:
            self._identity = None
            os.close(self._descriptor)


def _identify(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
