"""Counters in a memory-mapped file shared by a maker of spans and its test, readable after a kill.

One idea: the maker's own count is the only reference for the collector's, so the count must be exact at every
moment, even after kill -9. Writing to a mapped file needs no system call, and the kernel keeps the file.
"""

import mmap
import struct
from pathlib import Path

#: Names of the counters, eight bytes each.
NAMES = ("ready", "go", "stop", "begun", "ended", "done", "flushed", "first_span_ns", "configure_ns")

_NUMBER = struct.Struct("=q")


class Board:
    """Counters of a board, by name."""

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
        """Unmap the board's file."""
        self._map.close()
