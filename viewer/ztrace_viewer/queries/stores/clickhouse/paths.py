"""Figures by call path in ClickHouse.

One idea: each journal numbers its paths by itself. Paths with the same methods from the root on are one here,
and their figures are added up.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from ztrace_viewer.queries.stores.answers import PathFigures, PathKey, PathRank, PathUnit, VersionRow
from ztrace_viewer.queries.stores.clickhouse.accounts import Accounts
from ztrace_viewer.queries.stores.clickhouse.reading import Reader, write_numbers
from ztrace_viewer.queries.stores.conditions import ALL_TREES, Ranges, TreeKind

_SUMS = PathFigures._fields[1:]


class Paths(Accounts):
    """Answers about figures by call path."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        #: Paths by number, and their numbers by journal and the journal's own number.
        self._paths: dict[int, PathKey] = {}
        self._numbers: dict[tuple[str, int], int] = {}

    def paths(self) -> list[PathKey]:
        """Return every path, each behind the path above."""
        self._read_paths()
        return [*self._paths.values()]

    def _read_paths(self) -> None:
        if self._paths:
            return
        known: dict[tuple[int, int], int] = {}
        # A journal's path has a higher number than the one above.
        rows = self.reader.query("SELECT journal, id, parent, method FROM paths FINAL ORDER BY id, journal")
        for journal, own, above, method in rows:
            parent = self._numbers.get((journal, above), 0)
            if above and not parent:
                continue  # The block with the path above has not arrived.
            number = known.setdefault((parent, method), len(known) + 1)
            self._numbers[journal, own] = number
            root = self._paths[parent].root if parent else number
            self._paths[number] = PathKey(number, parent, method, root)

    def path_edges(self, resolution_s: int) -> tuple[int, int] | None:
        """Return the first and the last bucket that has figures by path."""
        rows = self.reader.query(
            "SELECT min(bucket), max(bucket) FROM path_figures FINAL"
            f" WHERE resolution_s = {resolution_s} HAVING count() > 0"
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def path_ranks(self, ranges: Ranges, kind: TreeKind) -> list[PathRank]:
        """Return the ranks of every path over ranges of buckets."""
        rows = self._read_sums(PathRank._fields[1:], ranges, kind)
        return [PathRank(path, *sums) for path, sums in _add_up(rows).items()]

    def path_sums(self, ranges: Ranges) -> list[PathFigures]:
        """Return the sums of every path over ranges of buckets."""
        rows = self._read_sums(_SUMS, ranges, ALL_TREES)
        return [PathFigures(path, *sums) for path, sums in _add_up(rows).items()]

    def _read_sums(
        self, columns: Sequence[str], ranges: Ranges, kind: TreeKind
    ) -> Iterator[tuple[int, int, list[int]]]:
        """Yield sign, path and sums of each range, of each journal by itself."""
        summed = ", ".join(f"sum(f.{column})" for column in columns)
        for sign, journal, path, *sums in self._read_groups(f"journal, path, {summed}", ranges, kind):
            number = self._numbers.get((journal, path))
            if number is not None:
                yield sign, number, sums

    def _read_groups(
        self, columns: str, ranges: Ranges, kind: TreeKind, more: str = "", by: str = "journal, path"
    ) -> Iterator[tuple[Any, ...]]:
        """Yield groups of the figures in each range, each behind the range's sign."""
        self._read_paths()
        of_version = "" if kind.version is None else f" AND {kind.column} = {{version:String}}"
        of_kind = f"{' AND failed = 1' if kind.failed else ''}{of_version}{more}"
        values = {} if kind.version is None else {"version": kind.version}
        for sign, resolution_s, begin, end in ranges:
            rows = self.reader.query(
                f"SELECT {columns} FROM path_figures AS f FINAL WHERE resolution_s = {resolution_s}"
                f" AND bucket >= {begin} AND bucket < {end}{of_kind} GROUP BY {by}",
                values,
            )
            for row in rows:
                yield (sign, *row)

    def path_figures(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> tuple[dict[int, PathFigures], dict[int, Counter[int]]]:
        """Return the sums and the histograms of some paths over ranges of buckets."""
        wanted = {*paths}
        summed = ", ".join(f"sum(f.{column})" for column in _SUMS)
        histogram = "sumMap(JSONExtract(f.histogram, 'Map(String, UInt64)'))"
        sums: list[tuple[int, int, list[int]]] = []
        found: dict[int, Counter[int]] = {path: Counter() for path in paths}
        rows = self._read_groups(f"journal, path, {summed}, {histogram}", ranges, kind, self._among(wanted))
        for sign, journal, own, *numbers, counts in rows:
            path = self._numbers.get((journal, own))
            if path in wanted:
                sums.append((sign, path, numbers))
                for bucket, count in counts.items():
                    found[path][int(bucket)] += sign * count
        added = _add_up(sums)
        none = [0] * len(_SUMS)
        return (
            {path: PathFigures(path, *added.get(path, none)) for path in paths},
            {path: +histogram for path, histogram in found.items()},
        )

    def _among(self, paths: Collection[int]) -> str:
        """Return a condition that holds for some paths, and for some others of other journals."""
        self._read_paths()
        return f" AND path IN {write_numbers({own for (_, own), at in self._numbers.items() if at in paths})}"

    def path_versions(
        self, ranges: Ranges, paths: Collection[int], kind: TreeKind
    ) -> Iterator[tuple[int, VersionRow]]:
        """Return the versions with calls of some paths in each range of buckets, with the range's sign."""
        columns = f"journal, path, toString(f.{kind.column}), min(f.bucket) * resolution_s, sum(f.calls)"
        by = f"journal, path, f.{kind.column}, resolution_s"
        for sign, journal, own, *row in self._read_groups(columns, ranges, kind, self._among({*paths}), by):
            if self._numbers.get((journal, own)) in paths:
                yield sign, VersionRow._make(row)

    def path_units(self, resolution_s: int, first: int, end: int, version: str | None) -> Iterator[PathUnit]:
        """Return the sums of paths in each bucket, of each journal by itself, of a version or of all."""
        columns = ", ".join(f"sum(f.{column})" for column in PathUnit._fields[2:])
        ranges, kind = [(1, resolution_s, first, end)], TreeKind(version=version)
        by = "bucket, journal, path"
        for _, unit, journal, own, *sums in self._read_groups(f"{by}, {columns}", ranges, kind, by=by):
            path = self._numbers.get((journal, own))
            if path is not None:
                yield PathUnit(unit, path, *sums)

    def root_versions(self, resolution_s: int, first: int, end: int, roots: Collection[int]) -> list[str]:
        """Return the versions that have trees of some roots in such buckets, by their first bucket."""
        columns, by = "journal, path, toString(f.version), min(f.bucket)", "journal, path, f.version"
        more = f"{self._among(roots)} AND root_calls > 0"
        found: dict[str, int] = {}
        for _, journal, own, version, bucket in self._read_groups(
            columns, [(1, resolution_s, first, end)], ALL_TREES, more, by
        ):
            if self._numbers.get((journal, own)) in roots:
                found[version] = min(bucket, found.get(version, bucket))
        return sorted(found, key=lambda version: (found[version], version))


def _add_up(rows: Iterable[tuple[int, int, list[int]]]) -> dict[int, list[int]]:
    """Return the sums by path of rows with sign, path and numbers."""
    sums: dict[int, list[int]] = {}
    for sign, path, numbers in rows:
        before = sums.get(path) or [0] * len(numbers)
        sums[path] = [one + sign * more for one, more in zip(before, numbers, strict=True)]
    return sums
