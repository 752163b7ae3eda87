"""The store of one ClickHouse database."""

from collections.abc import Iterator
from contextlib import contextmanager

from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import check_tables
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.clickhouse.exporting import Exporting
from ztrace_viewer.queries.stores.clickhouse.reading import Reader


class ClickHouseStore(Exporting):
    """Answers from one database; each question sees what is stored when it is asked."""

    @contextmanager
    def within(self, deadline: Deadline) -> Iterator[None]:
        """Interrupt questions within the block at a deadline.

        Raises:
            TooLong: a question was interrupted.
        """
        before, self.reader.deadline = self.reader.deadline, deadline
        try:
            yield
        finally:
            self.reader.deadline = before

    def release(self) -> None:
        """Do nothing: there is no snapshot."""


@contextmanager
def open_clickhouse(address: ClickHouseAddress) -> Iterator[ClickHouseStore]:
    """Open the store of a database; the connection is closed at the end of the block.

    Raises:
        SettingsError: the extra is not installed.
        EngineError: the database cannot be used, has no tables, or those of another version.
    """
    with open_engine(address) as client:
        check_tables(client, address)
        yield ClickHouseStore(Reader(client))
