"""Figures by call path in ClickHouse.

One idea: they are counted from the trees of all journals by one process, so a path has one id and one sum.
Trees that are recounted leave rows that add up to nothing. Ids are hashes; answers number paths from the root
down, as counting expects.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ztrace_viewer.queries.stores.answers import PathFigures, PathKey, PathRank, PathUnit, VersionRow
from ztrace_viewer.queries.stores.clickhouse.accounts import Accounts
from ztrace_viewer.queries.stores.clickhouse.reading import Reader, write_numbers
from ztrace_viewer.queries.stores.conditions import ALL_TREES, Ranges, TreeKind

_SUMS = PathFigures._fields[1:]
#: Condition on a group, that it counts something.
_COUNTS = "sum(f.calls) > 0 OR sum(f.critical_ns) > 0"


class Paths(Accounts):
    """Answers about figures by call path."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._paths: list[PathKey] = []
        #: Numbers by id, and ids by number.
        self._numbers, self._ids = {0: 0}, [0]

    def paths(self) -> list[PathKey]:
        """Return every path, each behind the path above."""
        if not self._paths:
            rows = self.reader.rows(PathKey, "FROM paths FINAL ORDER BY depth, id")
            self._ids += [row.id for row in rows]
            self._numbers |= {id_: number for number, id_ in enumerate(self._ids)}
            self._paths = [
                PathKey(self._numbers[row.id], self._numbers[row.parent], row.method, self._numbers[row.root])
                for row in rows
            ]
        return self._paths

    def _among(self, paths: Collection[int]) -> str:
        """Return a further condition, that the path is one of some."""
        self.paths()
        known = [self._ids[path] for path in paths if path < len(self._ids)]
        return f" AND path IN {write_numbers(known)}"

    def _number_paths(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Yield rows with the number of the path, which is behind the sign, in place of its id."""
        self.paths()
        for sign, id_, *row in rows:
            number = self._numbers.get(id_)
            if number is not None:  # Stored after the paths were read.
                yield (sign, number, *row)

    def path_edges(self, resolution_s: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures by path."""
        rows = self.reader.query(
            "SELECT min(bucket), max(bucket) FROM (SELECT f.bucket AS bucket FROM path_figures AS f"
            f" WHERE resolution_s = {resolution_s} GROUP BY bucket HAVING {_COUNTS}) HAVING count() > 0"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def path_ranks(self, ranges: Ranges, kind: TreeKind) -> list[PathRank]:
        """Return the ranks of every path over ranges of buckets."""
        return [
            PathRank(path, *sums) for path, sums in self._read_sums(("critical_ns", "calls"), ranges, kind)
        ]

    def path_sums(self, ranges: Ranges) -> list[PathFigures]:
        """Return the sums of every path over ranges of buckets."""
        return [PathFigures(path, *sums) for path, sums in self._read_sums(_SUMS, ranges, ALL_TREES)]

    def _read_sums(
        self, columns: Sequence[str], ranges: Ranges, kind: TreeKind
    ) -> list[tuple[int, list[int]]]:
        """Return the sums of every path over ranges of buckets."""
        summed = ", ".join(f"sum(f.{column})" for column in columns)
        found: dict[int, list[int]] = {}
        for sign, path, *sums in self._number_paths(self._read_groups(f"path, {summed}", ranges, kind)):
            before = found.get(path) or [0] * len(columns)
            found[path] = [one + sign * more for one, more in zip(before, sums, strict=True)]
        return [*found.items()]

    def _read_groups(
        self, columns: str, ranges: Ranges, kind: TreeKind, more: str = "", by: str = "path"
    ) -> Iterator[tuple[Any, ...]]:
        """Yield groups of the figures in each range, each behind the range's sign."""
        of_version = "" if kind.version is None else f" AND {kind.column} = {{version:String}}"
        of_kind = f"{' AND failed = 1' if kind.failed else ''}{of_version}{more}"
        values = {} if kind.version is None else {"version": kind.version}
        for sign, resolution_s, begin, end in ranges:
            rows = self.reader.query(
                f"SELECT {columns} FROM path_figures AS f WHERE resolution_s = {resolution_s}"
                f" AND bucket >= {begin} AND bucket < {end}{of_kind} GROUP BY {by} HAVING {_COUNTS}",
                values,
            )
            for row in rows:
                yield (sign, *row)

    def path_figures(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> tuple[dict[int, PathFigures], dict[int, Counter[int]]]:
        """Return the sums and the histograms of some paths over ranges of buckets."""
        summed = ", ".join(f"sum(f.{column})" for column in _SUMS)
        sums = {path: [0] * len(_SUMS) for path in paths}
        found: dict[int, Counter[int]] = {path: Counter() for path in paths}
        columns = f"path, {summed}, sumMap(f.histogram)"
        for sign, path, *numbers, counts in self._number_paths(
            self._read_groups(columns, ranges, kind, self._among(paths))
        ):
            sums[path] = [one + sign * more for one, more in zip(sums[path], numbers, strict=True)]
            for bucket, count in counts.items():
                found[path][bucket] += sign * count
        return (
            {path: PathFigures(path, *each) for path, each in sums.items()},
            {path: +histogram for path, histogram in found.items()},
        )

    def path_versions(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> Iterator[tuple[int, VersionRow]]:
        """Return the versions with calls of some paths in each range of buckets, with the range's sign."""
        columns = f"toString(f.{kind.column}), min(f.bucket) * any(f.resolution_s), sum(f.calls)"
        by = f"f.{kind.column}"
        for sign, *row in self._read_groups(columns, ranges, kind, self._among(paths), by):
            yield sign, VersionRow._make(row)

    def path_units(self, resolution_s: int, first: int, end: int, version: str | None) -> Iterator[PathUnit]:
        """Return the sums of paths in each bucket from the first to below the end, of a version or of all."""
        columns = ", ".join(f"sum(f.{column})" for column in PathUnit._fields[2:])
        ranges, kind = [(1, resolution_s, first, end)], TreeKind(version=version)
        rows = self._read_groups(f"path, bucket, {columns}", ranges, kind, by="bucket, path")
        for _, path, unit, *sums in self._number_paths(rows):
            yield PathUnit(unit, path, *sums)

    def root_versions(self, resolution_s: int, first: int, end: int, roots: Collection[int]) -> list[str]:
        """Return the versions that have trees of some roots in such buckets, by their first bucket."""
        rows = self.reader.query(
            "SELECT version FROM (SELECT toString(f.version) AS version, f.bucket AS bucket"
            f" FROM path_figures AS f WHERE resolution_s = {resolution_s} AND bucket >= {first}"
            f" AND bucket < {end}{self._among(roots)} GROUP BY f.version, f.bucket"
            " HAVING sum(f.root_calls) > 0)"
            " GROUP BY version ORDER BY min(bucket), version"
        )
        return [version for (version,) in rows]
