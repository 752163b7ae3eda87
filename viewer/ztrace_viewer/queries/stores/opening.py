"""The store that an address names: a file, or a ClickHouse database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.stores.store import Store

if TYPE_CHECKING:
    from ztrace_viewer.queries.stores.clickhouse.store import Pool


@contextmanager
def open_store(source: Source, *, snapshot: bool = True) -> Iterator[Store]:
    """Open a store for reading; it is closed at the end of the block.

    Args:
        source: the store.
        snapshot: read one state of a file throughout the block.

    Raises:
        DatabaseError: the store cannot be used, here or while it is used.
        SettingsError: it is a ClickHouse database, and the extra is not installed.
    """
    if isinstance(source, Path):
        with open_file(source, snapshot=snapshot) as file:
            yield file
    else:
        from ztrace_viewer.queries.stores.clickhouse.store import open_clickhouse

        with open_clickhouse(source) as database:
            yield database


class Stores:
    """Stores of one source, for a program that answers many questions; thread-safe.

    One idea: a file is opened for each answer, so it may appear or be replaced meanwhile. Connections to
    ClickHouse take longer to open, so they are kept.

    Attributes:
        source: the source.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pool: Pool | None = None

    @contextmanager
    def open(self) -> Iterator[Store]:
        """Open a store for one answer, with one state of a file; it is closed at the end of the block.

        Raises:
            DatabaseError: as for `open_store`.
            SettingsError: as for `open_store`.
        """
        if isinstance(self.source, Path):
            with open_file(self.source) as file:
                yield file
            return
        if self._pool is None:
            from ztrace_viewer.queries.stores.clickhouse.store import Pool

            self._pool = Pool(self.source)
        with self._pool.open() as database:
            yield database

    def close(self) -> None:
        """Close the connections that are kept; the next answer opens a new one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
