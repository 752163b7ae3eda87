"""Access of requests to the database.

One idea: each request opens the file by itself, with its own snapshot and deadline, so the file may appear or
be replaced while the server runs.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ztrace.errors import DatabaseError
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.deadline import Deadline

#: Time limit of a search, which returns what it has found, and of any request; Jaeger's page waits 10 s.
SEARCH_S, ANSWER_S = 2.0, 8.0

T = TypeVar("T")


class Asker:
    """Source of answers from one database."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a query.

        Raises:
            DatabaseError: the file cannot be used.
            TooLong: the query did not end before its deadline.
        """
        deadline = Deadline(ANSWER_S)
        try:
            with open_database(self._database) as db:
                deadline.guard(db)
                return question(db)
        except DatabaseError as error:
            if deadline.is_over():
                raise deadline.explain() from error
            raise
