"""The store of one file."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ztrace_viewer.queries.database import open_database, release
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.sqlite.asked import Asked
from ztrace_viewer.queries.stores.sqlite.errors import Errors
from ztrace_viewer.queries.stores.sqlite.exporting import Exporting
from ztrace_viewer.queries.stores.sqlite.figures import Figures
from ztrace_viewer.queries.stores.sqlite.monitoring import Monitoring
from ztrace_viewer.queries.stores.sqlite.names import Names
from ztrace_viewer.queries.stores.sqlite.paths import Paths
from ztrace_viewer.queries.stores.sqlite.samples import Samples
from ztrace_viewer.queries.stores.sqlite.searching import Searching
from ztrace_viewer.queries.stores.sqlite.spans import Spans
from ztrace_viewer.queries.stores.sqlite.stacks import Stacks
from ztrace_viewer.queries.stores.sqlite.trees import Trees

#: Instructions of SQLite between two checks of a deadline: a few hundred microseconds.
_STEPS = 20_000


class SqliteStore(
    Names, Trees, Spans, Searching, Errors, Figures, Monitoring, Asked, Paths, Samples, Stacks, Exporting
):
    """Answers from one file.

    Attributes:
        db: the connection, for what no other store answers.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)

    @contextmanager
    def within(self, deadline: Deadline) -> Iterator[None]:
        """Interrupt questions within the block at a deadline.

        Raises:
            TooLong: a question was interrupted.
        """
        self.db.set_progress_handler(deadline.is_over, _STEPS)
        try:
            yield
        except sqlite3.OperationalError as error:
            if deadline.is_over():
                raise deadline.explain() from error
            raise
        finally:
            self.db.set_progress_handler(None, 0)

    def release(self) -> None:
        """Release the snapshot once everything is read."""
        release(self.db)


@contextmanager
def open_file(path: Path, *, snapshot: bool = True) -> Iterator[SqliteStore]:
    """Open the store of a file read-only; it is closed at the end of the block.

    Args:
        path: the file.
        snapshot: as for `open_database`.

    Raises:
        DatabaseError: as for `open_database`.
    """
    with open_database(path, snapshot=snapshot) as db:
        yield SqliteStore(db)
