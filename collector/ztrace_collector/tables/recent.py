"""Rows kept in memory between transactions, the most recently written ones, up to a bound.

One idea: what one transaction touches the next one mostly touches again, so it need not be read back. A row
is in here exactly as it is in the database; after a transaction that failed it must be cleared.
"""

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")


class Recent(dict[Key, Row], Generic[Key, Row]):
    """A dictionary whose oldest entries go when it is told what was written."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def keep(self, written: Mapping[Key, Row]) -> None:
        """Make these the youngest entries, and drop the oldest beyond the bound."""
        for key in written:
            self.pop(key, None)
        self.update(written)
        for key in list(islice(self, max(0, len(self) - self.size))):
            del self[key]
