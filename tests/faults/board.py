"""Numbers in a file that a maker of spans and its test both map: what a killed process still tells.

One idea: the maker's own count is all that a test has to hold the collector's against, so it must be right at
every moment, also after a kill -9. A mapped file needs no system call to write, and the kernel keeps it.
"""

import mmap
import struct
from pathlib import Path

#: What there is on a board, eight bytes each.
NAMES = ("ready", "go", "stop", "begun", "ended", "done", "flushed", "first_span_ns", "configure_ns")

_NUMBER = struct.Struct("=q")


class Board:
    """The numbers by name."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(_NUMBER.size * len(NAMES)))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def __getitem__(self, name: str) -> int:
        number: int = _NUMBER.unpack_from(self._map, _NUMBER.size * NAMES.index(name))[0]
        return number

    def __setitem__(self, name: str, number: int) -> None:
        _NUMBER.pack_into(self._map, _NUMBER.size * NAMES.index(name), number)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
