"""Exception groups in a file.

One idea: the collector keeps a row for each group and for each minute in which it occurred, so the exceptions
themselves, of which there may be any number, are not read.
"""

import sqlite3
from collections.abc import Sequence
from itertools import pairwise

from ztrace.records import INT64_MAX
from ztrace_collector.layout import RESOLVED
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.selection import Selection, match_names
from ztrace_viewer.queries.stores.answers import GroupRow, SampleRow, Stretch
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter

_ORDERS = {NEWEST: "last_ns DESC, id DESC", FREQUENT: "counted DESC, last_ns DESC, id DESC"}
_SAMPLES = (
    f"SELECT {name_columns(SampleRow, origin_span_id='span_id')} FROM exception_samples"
    " WHERE exception_group = ? ORDER BY at_ns, trace_id, span_id"
)


class Errors:
    """Answers about exception groups."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db

    def groups(self, selection: Selection, wanted: Filter, order: str, limit: int | None) -> list[GroupRow]:
        """Return the selected groups; with a time, counts are those of the minutes that it touches."""
        conditions, values = _match(selection, wanted)
        counted = ["count", "uncaught_count"]
        bounds: list[object] = []
        if selection.in_time:
            counted = [
                f"(SELECT sum(m.{column}) FROM exception_minutes AS m"
                " WHERE m.exception_group = exception_groups.id AND minute BETWEEN ? AND ?)"
                for column in counted
            ]
            bounds = [*selection.minutes, *selection.minutes]
            conditions.append("counted > 0")
        columns = name_columns(GroupRow, key="id", counted=counted[0], uncaught_counted=counted[1])
        query = (
            f"SELECT {columns} FROM exception_groups"
            f" WHERE {' AND '.join(conditions) or '1'} ORDER BY {_ORDERS[order]} LIMIT ?"
        )
        return list(read(self.db, GroupRow, query, [*bounds, *values, -1 if limit is None else limit]))

    def group(self, fingerprint: str) -> GroupRow | None:
        """Return one group over all time."""
        columns = name_columns(GroupRow, key="id", counted="count", uncaught_counted="uncaught_count")
        query = f"SELECT {columns} FROM exception_groups WHERE fingerprint = ?"
        return read_one(self.db, GroupRow, query, (fingerprint,))

    def count_resolved(self, selection: Selection, wanted: Filter) -> int:
        """Return the number of resolved groups of the same selection."""
        conditions, values = _match(selection, Filter(wanted.type_name, wanted.text, resolved=True))
        conditions.append("state = ?")
        query = f"SELECT count(*) FROM exception_groups WHERE {' AND '.join(conditions)}"
        return int(self.db.execute(query, [*values, RESOLVED]).fetchone()[0])

    def occurrences(self, stretches: Sequence[Stretch], parts: int) -> list[list[int]]:
        """Return the numbers of groups' occurrences in each of so many parts of a stretch of minutes."""
        return [self._count_parts(stretch, parts) for stretch in stretches]

    def _count_parts(self, stretch: Stretch, parts: int) -> list[int]:
        # One query for each part scans the key in order; grouping by part would sort the rows.
        minutes = stretch.end - stretch.first
        edges = [stretch.first - -minutes * part // parts for part in range(parts + 1)]
        return [
            self.db.execute(
                "SELECT coalesce(sum(count), 0) FROM exception_minutes"
                " WHERE exception_group = ? AND minute >= ? AND minute < ?",
                (stretch.group.key, *part),
            ).fetchone()[0]
            for part in pairwise(edges)
        ]

    def samples(self, groups: Sequence[GroupRow]) -> dict[str, list[SampleRow]]:
        """Return the samples of groups by their fingerprints, in order of time."""
        return {group.fingerprint: list(read(self.db, SampleRow, _SAMPLES, (group.key,))) for group in groups}


def _match(selection: Selection, wanted: Filter) -> tuple[list[str], list[object]]:
    conditions, values = match_names(selection, "service", "name")
    if selection.in_time:
        conditions += ["last_ns >= ?", "first_ns < ?"]
        values += [selection.since_ns or 0, INT64_MAX if selection.until_ns is None else selection.until_ns]
    if not wanted.resolved:
        conditions.append("state <> ?")
        values.append(RESOLVED)
    if wanted.type_name is not None:
        conditions.append("(type = ? OR substr(type, -length(?)) = ?)")
        values += [wanted.type_name, f".{wanted.type_name}", f".{wanted.type_name}"]
    if wanted.text is not None:
        # Not LIKE, where % and _ have a meaning.
        conditions.append("instr(lower(type || char(10) || message || char(10) || template), lower(?)) > 0")
        values.append(wanted.text)
    return conditions, values
