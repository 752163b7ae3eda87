"""Access of requests to the database.

One idea: each request opens the store by itself, with its own snapshot and deadline, so a file may appear or
be replaced while the server runs.
"""

from collections.abc import Callable
from typing import TypeVar

from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.store import Store

#: Time limit of a search, which returns what it has found, and of any request; Jaeger's page waits 10 s.
SEARCH_S, ANSWER_S = 2.0, 8.0

T = TypeVar("T")


class Asker:
    """Source of answers from one database."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def ask(self, question: Callable[[Store], T]) -> T:
        """Return the result of a query.

        Raises:
            DatabaseError: the database cannot be used.
            TooLong: the query did not end before its deadline.
        """
        with self._stores.open() as store, store.within(Deadline(ANSWER_S)):
            return question(store)
