"""Access of requests to the database.

One idea: each request opens the file by itself, with its own snapshot and deadline, so the file may appear or
be replaced while the server runs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file

#: Time limit of a search, which returns what it has found, and of any request; Jaeger's page waits 10 s.
SEARCH_S, ANSWER_S = 2.0, 8.0

T = TypeVar("T")


class Asker:
    """Source of answers from one database."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def ask(self, question: Callable[[SqliteStore], T]) -> T:
        """Return the result of a query.

        Raises:
            DatabaseError: the file cannot be used.
            TooLong: the query did not end before its deadline.
        """
        with open_file(self._database) as store, store.within(Deadline(ANSWER_S)):
            return question(store)
