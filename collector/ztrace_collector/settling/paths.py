"""Call paths as numbers: the table ``paths``, which is bounded.

One idea: a path is its parent and a method. A method that occurs above already is its recursion, and counts
on the path where it occurred. Beyond the bounds, the children of a path share one, ``(other)``.
"""

import sqlite3

#: Parent of the roots' paths; method of the paths that others share.
ABOVE_ROOTS, OTHER = 0, 0
#: Most paths below one root method, and most levels: more than anyone reads, and each costs rows of figures.
MAX_OF_ROOT, MAX_DEPTH = 2_000, 64
#: Paths kept in memory.
SIZE = 100_000


class Paths:
    """Ids of paths by (path of the parent, method); looking up a missing one inserts its row."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._ids: dict[tuple[int, int], int] = {}
        #: Root and depth of each path, and number of paths by root.
        self._places: dict[int, tuple[int, int]] = {}
        self._counts: dict[int, int] = {}

    def forget(self) -> None:
        """Drop everything from memory, after a rollback or to bound it."""
        self._ids.clear()
        self._places.clear()
        self._counts.clear()

    def trim(self) -> None:
        """Bound the memory between transactions."""
        if len(self._ids) > SIZE:
            self.forget()

    def find(self, parent: int, method: int) -> int:
        """Return the id of a path; its row is inserted if it is new."""
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
        if depth + 1 >= MAX_DEPTH or self._count(root) >= MAX_OF_ROOT:
            if self._method(parent) == OTHER:
                return parent
            shared = self._select(parent, OTHER)
            return self._insert(parent, OTHER, root, depth + 1) if shared is None else shared
        self._counts[root] = self._count(root) + 1
        return self._insert(parent, method, root, depth + 1)

    def _recurring(self, path: int, method: int) -> int | None:
        """Return the path at or above a path whose method is this one, None if there is none."""
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

    def _count(self, root: int) -> int:
        count = self._counts.get(root)
        if count is None:
            (count,) = self._db.execute("SELECT count(*) FROM paths WHERE root = ?", (root,)).fetchone()
            self._counts[root] = count
        return int(count)
