"""The store of one ClickHouse database."""

from collections.abc import Iterator
from contextlib import contextmanager

from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.engine import connect, explaining, open_engine
from ztrace_collector.clickhouse.initializing import check_tables
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.clickhouse.asked import Asked
from ztrace_viewer.queries.stores.clickhouse.reading import Reader


class ClickHouseStore(Asked):
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


class Pool:
    """Connections to one database, which are kept between answers; each is used by one thread at a time.

    A connection takes several requests to open, and a question one. What its reader knows is kept with it.
    Thread-safe.
    """

    def __init__(self, address: ClickHouseAddress) -> None:
        self._address = address
        self._free: list[Reader] = []
        self._is_closed = False

    @contextmanager
    def open(self) -> Iterator[ClickHouseStore]:
        """Open the store for one answer; a connection over which it failed is not used again.

        Raises:
            SettingsError: as for `open_clickhouse`.
            EngineError: as for `open_clickhouse`.
        """
        with explaining(self._address):
            reader = self._take()
            try:
                yield ClickHouseStore(reader)
            except BaseException:
                reader.client.close()
                raise
            self._free.append(reader)
            if self._is_closed:
                self.close()

    def close(self) -> None:
        """Close the connections that are not in use; the others are closed after their answers."""
        self._is_closed = True
        while self._free:
            self._free.pop().client.close()

    def _take(self) -> Reader:
        try:
            return self._free.pop()
        except IndexError:
            client = connect(self._address)
        try:
            check_tables(client, self._address)
        except BaseException:
            client.close()
            raise
        return Reader(client)
