"""How a question gets to the database.

One idea: each question opens the file anew, so one that is not there yet, or is another now, is nothing to be
told of; and it has a connection, a moment of the database and a time of its own.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ztrace.errors import DatabaseError
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.deadline import Deadline

#: What a search may take to look further, and any question at most: Jaeger's page waits for ten seconds.
SEARCH_S, ANSWER_S = 2.0, 8.0

T = TypeVar("T")


class Asker:
    """Asks one database."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a question.

        Raises:
            DatabaseError: the file cannot be used.
            TooLong: it was not answered in its time.
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
