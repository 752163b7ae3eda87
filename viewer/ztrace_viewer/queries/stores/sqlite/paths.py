"""Figures by call path in a file.

One idea: histograms are most of the work, so they are read for the paths that are shown alone.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import NamedTuple, TypeVar

from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.stores.answers import PathFigures, PathKey, PathRank, PathUnit, VersionRow
from ztrace_viewer.queries.stores.conditions import ALL_TREES, Ranges, TreeKind

#: First and last bucket; apart, as SQLite finds one extreme of an index without a scan.
_EDGES = (
    "SELECT (SELECT min(bucket) FROM path_figures WHERE resolution_s = ?),"
    " (SELECT max(bucket) FROM path_figures WHERE resolution_s = ?)"
)
_OF = " FROM path_figures WHERE resolution_s = ?"
_IN_RANGE = _OF + " AND bucket >= ? AND bucket < ?"

_R = TypeVar("_R", bound=NamedTuple)


class Paths:
    """Answers about figures by call path."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def paths(self) -> Iterator[PathKey]:
        """Return every path, each behind the path above."""
        return read(self.db, PathKey, f"SELECT {name_columns(PathKey)} FROM paths ORDER BY id")

    def path_edges(self, resolution_s: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures by path."""
        first, last = self.db.execute(_EDGES, (resolution_s, resolution_s)).fetchone()
        return None if first is None or last is None else (int(first), int(last))

    def path_ranks(self, ranges: Ranges, kind: TreeKind) -> Iterator[PathRank]:
        """Return the ranks of every path over ranges of buckets."""
        if len(ranges) != 1:
            return self._read_sums(PathRank, ranges, kind)
        # No row of a single range counts nothing, and one sum takes two thirds of the time of two with signs.
        ((_, *where),) = ranges
        columns = name_columns(PathRank, critical_ns="sum(critical_ns)", calls="1")
        query = f"SELECT {columns}{_IN_RANGE}{_match(kind)} GROUP BY path"
        return read(self.db, PathRank, query, (*where, *_values(kind)))

    def path_sums(self, ranges: Ranges) -> Iterator[PathFigures]:
        """Return the sums of every path over ranges of buckets."""
        return self._read_sums(PathFigures, ranges, ALL_TREES)

    def _read_sums(self, row: type[_R], ranges: Ranges, kind: TreeKind) -> Iterator[_R]:
        """Return sums of every path over ranges of buckets."""
        if not ranges:
            return iter(())
        columns = ", ".join(row._fields)
        parts = " UNION ALL ".join(
            f"SELECT {sign} AS sign, {columns}{_IN_RANGE}{_match(kind)}" for sign, *_ in ranges
        )
        summed = name_columns(row, **{each: f"sum(sign * {each})" for each in row._fields[1:]})
        values = [value for _, *where in ranges for value in (*where, *_values(kind))]
        return read(self.db, row, f"SELECT {summed} FROM ({parts}) GROUP BY path", values)

    def path_figures(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> tuple[dict[int, PathFigures], dict[int, Counter[int]]]:
        """Return the sums and the histograms of some paths over ranges of buckets, in one pass."""
        sums = {path: PathFigures(path, *[0] * (len(PathFigures._fields) - 1)) for path in paths}
        found: dict[int, Counter[int]] = {path: Counter() for path in paths}
        columns = ", ".join(f"sum({each})" for each in PathFigures._fields[1:])
        # All histograms of a path as one array, since reading many short texts takes longer.
        query = f"SELECT path, {columns}, '[' || group_concat(histogram) || ']'{_OF}{_match(kind)}"
        among = f" AND path IN ({','.join(map(str, sorted(paths)))}) GROUP BY path"
        for sign, resolution_s, begin, end in ranges:
            # Each bucket by name, since the paths of a bucket stand side by side in the index.
            buckets = f" AND bucket IN ({','.join(map(str, range(begin, end)))})"
            rows = self.db.execute(query + buckets + among, (resolution_s, *_values(kind)))
            for path, *numbers, text in rows:
                before = sums[path][1:]
                sums[path] = PathFigures(
                    path, *[one + sign * more for one, more in zip(before, numbers, strict=True)]
                )
                _add_histograms(found[path], read_json(text), sign)
        return sums, {path: +histogram for path, histogram in found.items()}

    def path_versions(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> Iterator[tuple[int, VersionRow]]:
        """Return the versions with calls of some paths in each range of buckets, with the range's sign."""
        among = ",".join(map(str, sorted(paths)))
        columns = name_columns(
            VersionRow, version=kind.column, begin_s="min(bucket) * resolution_s", calls="sum(calls)"
        )
        query = f"SELECT {columns}{_IN_RANGE}{_match(kind)} AND path IN ({among}) GROUP BY 1"
        for sign, *where in ranges:
            for row in read(self.db, VersionRow, query, (*where, *_values(kind))):
                yield sign, row

    def path_units(self, resolution_s: int, first: int, end: int, version: str | None) -> Iterator[PathUnit]:
        """Return the sums of paths in each bucket from the first to below the end, of a version or of all."""
        kind = TreeKind(version=version)
        query = f"SELECT {name_columns(PathUnit, unit='bucket')}{_IN_RANGE}{_match(kind)}"
        return read(self.db, PathUnit, query, (resolution_s, first, end, *_values(kind)))

    def root_versions(self, resolution_s: int, first: int, end: int, roots: Collection[int]) -> list[str]:
        """Return the versions that have trees of some roots in such buckets, by their first bucket."""
        among = ",".join(map(str, sorted(roots)))
        query = (
            f"SELECT version{_IN_RANGE} AND path IN ({among}) AND root_calls > 0"
            " GROUP BY version ORDER BY min(bucket), version"
        )
        return [version for (version,) in self.db.execute(query, (resolution_s, first, end))]


def _match(kind: TreeKind) -> str:
    """Return the condition on a kind of trees, behind a range."""
    of_version = "" if kind.version is None else f" AND {kind.column} = ?"
    return f"{' AND failed = 1' if kind.failed else ''}{of_version}"


def _values(kind: TreeKind) -> tuple[str, ...]:
    """Return the values of that condition."""
    return () if kind.version is None else (kind.version,)


def _add_histograms(total: Counter[int], histograms: object, sign: int) -> None:
    """Add histograms from JSON to a total, or take them from it."""
    sums: defaultdict[str, int] = defaultdict(int)
    for counts in histograms if isinstance(histograms, list) else ():
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            sums[bucket] += count
    for bucket, count in sums.items():
        total[int(bucket)] += sign * count
