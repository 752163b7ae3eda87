"""Figures by path and stretch of time: the table ``path_figures``.

One idea: figures are sums, so those of many trees are added up first, and each row is then written once.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence

from ztrace.records import INT64_MAX
from ztrace_collector.layout import RESOLUTIONS_S
from ztrace_collector.settling.counting import Counted, PathSums, VersionSums
from ztrace_collector.tables.rows import Recent

#: Rows kept in memory, of some kilobytes each.
SIZE = 8_192

#: (resolution_s, bucket, path, version, own_version, failed)
_Key = tuple[int, int, int, str, str, bool]

_OF_KEY = (
    " FROM path_figures WHERE resolution_s = ? AND bucket = ? AND path = ? AND version = ?"
    " AND own_version = ? AND failed = ?"
)
_SELECT = (
    "SELECT root_calls, calls, errors, total_ns, self_ns, critical_ns, cpu_ns, timed_ns, histogram" + _OF_KEY
)
_REPLACE = (
    "INSERT OR REPLACE INTO path_figures (resolution_s, bucket, path, version, own_version, failed,"
    " root_calls, calls, errors, total_ns, self_ns, critical_ns, cpu_ns, timed_ns, histogram)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_DELETE = "DELETE" + _OF_KEY


class TreeSums:
    """Figures of trees, added up."""

    def __init__(self) -> None:
        #: Sums by minute, version and failure.
        self._sums: dict[tuple[int, str, bool], VersionSums] = {}

    def open(self, minute: int, version: str, failed: bool) -> VersionSums:
        """Return the sums to which trees are added."""
        sums = self._sums.get((minute, version, failed))
        if sums is None:
            sums = self._sums[minute, version, failed] = {}
        return sums

    def add(self, counted: Counted, sign: int = 1) -> None:
        """Add the figures of a tree, or take them back."""
        by_version = self.open(counted.minute, counted.version, counted.failed)
        for own_version, by_path in counted.sums.items():
            sums = by_version.setdefault(own_version, {})
            for path, each in by_path.items():
                found = sums.get(path)
                if found is None:
                    found = sums[path] = PathSums()
                found.add(each, sign)

    def list_sums(self) -> Iterator[tuple[int, str, bool, str, int, PathSums]]:
        """Yield minute, version, failure, version of the path's service, path, and sums."""
        for (minute, version, failed), by_version in self._sums.items():
            for own_version, by_path in by_version.items():
                for path, sums in by_path.items():
                    yield minute, version, failed, own_version, path, sums


class PathFigures(TreeSums):
    """Table ``path_figures``, with its rows that belong to the transaction in progress.

    After `open` or `add`, `write` has to follow in the same transaction.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__()
        self._db = db
        self._recent: Recent[_Key, PathSums] = Recent(SIZE)

    def forget(self) -> None:
        """Drop everything from memory after a rollback."""
        self._recent.clear()
        self._sums.clear()

    def write(self) -> None:
        """Write the rows of the added figures; those that count nothing any more are deleted."""
        rows: dict[_Key, PathSums] = {}
        for minute, version, failed, own_version, path, sums in self.list_sums():
            for resolution_s in RESOLUTIONS_S:
                key = resolution_s, minute * 60 // resolution_s, path, version, own_version, failed
                row = rows.get(key)
                if row is None:
                    row = rows[key] = self._find(key)
                row.add(sums)
        self._sums.clear()
        kept = {key: row for key, row in rows.items() if not row.is_empty}
        self._db.executemany(_REPLACE, [(*key, *_as_columns(row)) for key, row in kept.items()])
        for key in rows.keys() - kept.keys():
            self._recent.pop(key, None)
            self._db.execute(_DELETE, key)
        self._recent.keep(kept)

    def _find(self, key: _Key) -> PathSums:
        row = self._recent.get(key)
        if row is None:
            found = self._db.execute(_SELECT, key).fetchone()
            row = PathSums() if found is None else PathSums.load(found[:-1], read_histogram(found[-1]))
        return row


def read_histogram(text: str) -> dict[int, int]:
    """Return a histogram from its JSON object."""
    return {int(bucket): count for bucket, count in json.loads(text).items()}


def write_histogram(histogram: dict[int, int]) -> str:
    """Return a histogram as a JSON object."""
    # By hand, because the encoder is slow with keys that are numbers.
    return "{" + ",".join([f'"{bucket}":{count}' for bucket, count in histogram.items()]) + "}"


def write_counted(counted: Counted) -> str:
    """Return the figures of a tree as JSON, to take them back later."""
    sums = {
        own_version: {path: [*each.numbers, each.histogram] for path, each in by_path.items()}
        for own_version, by_path in counted.sums.items()
    }
    return json.dumps({**counted._asdict(), "sums": sums}, separators=(",", ":"))


def read_counted(text: str) -> Counted:
    """Return the figures of a tree from JSON."""
    value = json.loads(text)
    return Counted(
        value["minute"],
        value["version"],
        value["failed"],
        {
            own_version: {
                int(path): PathSums.load(numbers, {int(bucket): count for bucket, count in histogram.items()})
                for path, (*numbers, histogram) in by_path.items()
            }
            for own_version, by_path in value["sums"].items()
        },
    )


def _as_columns(row: PathSums) -> tuple[int | str, ...]:
    return *clamp(row.numbers), write_histogram(row.histogram)


def clamp(numbers: Sequence[int]) -> Sequence[int]:
    """Return numbers within the bounds of a stored one."""
    if max(numbers) > INT64_MAX or min(numbers) < -INT64_MAX:
        return [max(-INT64_MAX, min(INT64_MAX, number)) for number in numbers]
    return numbers
