"""Call paths as numbers: the table ``paths``, which is bounded.

One idea: a path is its parent and a method. A method that occurs above already is its recursion, and counts
on the path where it occurred. Beyond the bounds, the children of a path share one, ``(other)``. A service has
at most half of the room that others leave, so one that makes up names leaves room for all others.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter

#: Parent of the roots' paths; method of the paths that others share.
ABOVE_ROOTS, OTHER = 0, 0
#: Most paths below one root method, of all services, and most levels: more than anyone reads, and each costs
#: rows of figures.
MAX_OF_ROOT, MAX_DEPTH = 2_000, 64
#: Most paths of a file.
MAX_PATHS = 200_000
#: Paths kept in memory.
SIZE = 100_000


class PathRules(ABC):
    """Ids of paths by (path of the parent, method), and the bounds of a store's paths."""

    def __init__(self) -> None:
        self._ids: dict[tuple[int, int], int] = {}
        #: Numbers of paths by the service of their method: below each root, and of all; None to count them.
        self._counts: dict[int, Counter[str]] = {}
        self._whole: Counter[str] | None = None

    def find(self, parent: int, method: int) -> int:
        """Return the id of a path; it is stored if it is new."""
        path = self._ids.get((parent, method))
        if path is None:
            path = self._ids[parent, method] = self._find(parent, method)
        return path

    def _find(self, parent: int, method: int) -> int:
        if parent != ABOVE_ROOTS and (again := self._recurring(parent, method)) is not None:
            return again
        known = self._select(parent, method)
        if known is not None:
            return known
        if parent == ABOVE_ROOTS:
            return self._insert(parent, method, None, 0)
        root, depth = self._place(parent)
        if depth + 1 >= MAX_DEPTH or not self._admit(root, method):
            if self._method(parent) == OTHER:
                return parent
            shared = self._select(parent, OTHER)
            return self._insert(parent, OTHER, root, depth + 1) if shared is None else shared
        return self._insert(parent, method, root, depth + 1)

    def _admit(self, root: int, method: int) -> bool:
        """Return whether a root may have one more path, and count it."""
        counts, whole = self._counts.get(root), self._whole
        if counts is None:
            counts = self._counts[root] = self._count(root)
        if whole is None:
            whole = self._whole = self._count(None)
        service = self._service(method)
        if not (_has_room(counts, service, MAX_OF_ROOT) and _has_room(whole, service, MAX_PATHS)):
            return False
        counts[service] += 1
        whole[service] += 1
        return True

    @abstractmethod
    def _count(self, root: int | None) -> Counter[str]:
        """Return the numbers of paths below a root, or of all, by the service of their method."""

    @abstractmethod
    def _recurring(self, path: int, method: int) -> int | None:
        """Return the path at or above a path whose method is this one, None if there is none."""

    @abstractmethod
    def _select(self, parent: int, method: int) -> int | None:
        """Return the id of a stored path, None if it is new."""

    @abstractmethod
    def _insert(self, parent: int, method: int, root: int | None, depth: int) -> int:
        """Store a path, by its root and depth; a root's path is its own root."""

    @abstractmethod
    def _place(self, path: int) -> tuple[int, int]:
        """Return root and depth of a path."""

    @abstractmethod
    def _method(self, path: int) -> int:
        """Return the method of a path."""

    @abstractmethod
    def _service(self, method: int) -> str:
        """Return the service of a method."""


class Paths(PathRules):
    """Paths of a file; looking up a missing one inserts its row."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db
        #: Root and depth of each path.
        self._places: dict[int, tuple[int, int]] = {}

    def forget(self) -> None:
        """Drop everything from memory, after a rollback or to bound it."""
        self._ids.clear()
        self._places.clear()
        self._counts.clear()
        self._whole = None

    def trim(self) -> None:
        """Bound the memory between transactions."""
        if len(self._ids) > SIZE:
            self.forget()

    def _count(self, root: int | None) -> Counter[str]:
        which, values = ("", ()) if root is None else ("WHERE root = ?", (root,))
        query = (
            f"SELECT service, count(*) FROM paths JOIN methods ON methods.id = method {which}"
            " GROUP BY service"
        )
        return Counter(dict(self._db.execute(query, values).fetchall()))

    def _recurring(self, path: int, method: int) -> int | None:
        while path != ABOVE_ROOTS:
            above, found = self._db.execute(
                "SELECT parent, method FROM paths WHERE id = ?", (path,)
            ).fetchone()
            if found == method:
                return path
            path = above
        return None

    def _select(self, parent: int, method: int) -> int | None:
        row = self._db.execute(
            "SELECT id FROM paths WHERE parent = ? AND method = ?", (parent, method)
        ).fetchone()
        return None if row is None else int(row[0])

    def _insert(self, parent: int, method: int, root: int | None, depth: int) -> int:
        path = self._db.execute(
            "INSERT INTO paths (parent, method, depth, root) VALUES (?, ?, ?, ?)",
            (parent, method, depth, root),
        ).lastrowid
        assert path is not None
        if root is None:
            self._db.execute("UPDATE paths SET root = id WHERE id = ?", (path,))
        return path

    def _place(self, path: int) -> tuple[int, int]:
        place = self._places.get(path)
        if place is None:
            place = self._db.execute("SELECT root, depth FROM paths WHERE id = ?", (path,)).fetchone()
            self._places[path] = place
        return place

    def _method(self, path: int) -> int:
        return int(self._db.execute("SELECT method FROM paths WHERE id = ?", (path,)).fetchone()[0])

    def _service(self, method: int) -> str:
        return str(self._db.execute("SELECT service FROM methods WHERE id = ?", (method,)).fetchone()[0])


def _has_room(counts: Counter[str], service: str, most: int) -> bool:
    """Return whether a service may have one more: it has at most half of what others leave."""
    own = counts[service]
    return 2 * own < most - (counts.total() - own)
