"""The store that an address names: a file, or a ClickHouse database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ztrace.errors import SettingsError
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.stores.store import Store


def need_path(source: Source, what: str) -> Path:
    """Return the path of a file, for what is written to it.

    Args:
        source: the source.
        what: subject, for the message.

    Raises:
        SettingsError: the source is a ClickHouse database.
    """
    if not isinstance(source, Path):
        raise SettingsError(
            f"{what} is not answered from ClickHouse", hint="name the collector's own file with --db"
        )
    return source


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
