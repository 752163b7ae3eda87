"""Exception groups: number and time of their occurrences, and samples.

One idea: the collector keeps a row for each group and for each minute in which it occurred, so the exceptions
themselves, of which there may be any number, are not read.
"""

import sqlite3
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ztrace.errors import NotFoundError
from ztrace.records import INT64_MAX
from ztrace_collector.layout import MINUTE_NS, RESOLVED
from ztrace_viewer.documents.errors import ErrorsDocument, GroupSummary, Sample
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.exceptions import read_frames
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.selection import EVERYTHING, Selection, match_names

#: Orders of a list.
NEWEST, FREQUENT = "newest", "frequent"
#: Parts of the time, in each of which occurrences are counted; of a day, each is an hour.
WHEN_PARTS = 24

_ORDERS = {NEWEST: "last_ns DESC, id DESC", FREQUENT: "counted DESC, last_ns DESC, id DESC"}


class _Row(NamedTuple):
    """A row of ``exception_groups``, with the counts of the selected time."""

    id: int
    fingerprint: str
    type: str
    message: str
    template: str
    service: str
    name: str
    kind: str
    services: str
    state: str
    resolved_ns: int | None
    first_ns: int
    last_ns: int
    trace_id: bytes
    origin_span_id: bytes
    frames: str
    counted: int
    uncaught_counted: int


class _Sample(NamedTuple):
    """A row of ``exception_samples``."""

    trace_id: bytes
    origin_span_id: bytes
    at_ns: int


_SAMPLES = (
    f"SELECT {name_columns(_Sample, origin_span_id='span_id')} FROM exception_samples"
    " WHERE exception_group = ? ORDER BY at_ns, trace_id, span_id"
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions on groups, beside a selection of time and names.

    Attributes:
        type_name: name of the exception class, with or without its module.
        text: part of the type or the message, in any case.
        resolved: include resolved groups.
    """

    type_name: str | None = None
    text: str | None = None
    resolved: bool = False


#: Filter that leaves out resolved groups only.
UNRESOLVED = Filter()


def list_groups(
    db: sqlite3.Connection,
    selection: Selection = EVERYTHING,
    limit: int | None = None,
    wanted: Filter = UNRESOLVED,
    order: str = NEWEST,
    now_ns: int | None = None,
) -> ErrorsDocument:
    """Return the selected exception groups.

    If a time is selected, a group's count is that of all minutes the time touches.

    Args:
        db: from `open_database`.
        selection: service and method of the origin.
        limit: most groups to return.
        wanted: further conditions.
        order: NEWEST or FREQUENT first.
        now_ns: end of a time without an end; None for now.
    """
    conditions, values = _match(selection, wanted)
    counted = ["count", "uncaught_count"]
    bounds: list[object] = []
    if selection.in_time:
        counted = [
            f"(SELECT sum(m.{column}) FROM exception_minutes AS m"
            " WHERE m.exception_group = exception_groups.id AND minute BETWEEN ? AND ?)"
            for column in counted
        ]
        bounds = [*_minutes(selection), *_minutes(selection)]
        conditions.append("counted > 0")
    query = (
        f"SELECT {name_columns(_Row, counted=counted[0], uncaught_counted=counted[1])} FROM exception_groups"
        f" WHERE {' AND '.join(conditions) or '1'} ORDER BY {_ORDERS[order]} LIMIT ?"
    )
    rows = list(read(db, _Row, query, [*bounds, *values, -1 if limit is None else limit]))
    now_ns = time.time_ns() if now_ns is None else now_ns
    return {"groups": [_summarise(db, row, selection, now_ns) for row in rows]}


def count_resolved(db: sqlite3.Connection, selection: Selection, wanted: Filter) -> int:
    """Return the number of resolved groups of the same selection."""
    conditions, values = _match(selection, Filter(wanted.type_name, wanted.text, resolved=True))
    conditions.append("state = ?")
    query = f"SELECT count(*) FROM exception_groups WHERE {' AND '.join(conditions)}"
    return int(db.execute(query, [*values, RESOLVED]).fetchone()[0])


def read_group(db: sqlite3.Connection, group: str) -> GroupSummary:
    """Return one group, over all time.

    Raises:
        NotFoundError: there is no such group.
    """
    columns = name_columns(_Row, counted="count", uncaught_counted="uncaught_count")
    row = read_one(db, _Row, f"SELECT {columns} FROM exception_groups WHERE fingerprint = ?", (group,))
    if row is None:
        raise NotFoundError(f"no error {group}", hint="see 'ztrace errors'")
    return _summarise(db, row, EVERYTHING, time.time_ns())


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


def _minutes(selection: Selection) -> tuple[int, int]:
    """Return the first and the last minute that a selection touches."""
    last = INT64_MAX // MINUTE_NS if selection.until_ns is None else (selection.until_ns - 1) // MINUTE_NS
    return (selection.since_ns or 0) // MINUTE_NS, last


def _summarise(db: sqlite3.Connection, row: _Row, selection: Selection, now_ns: int) -> GroupSummary:
    begin, end = _stretch(selection, row.first_ns, row.last_ns, now_ns)
    services = read_json(row.services)
    latest: Sample = {
        "trace_id": row.trace_id.hex(),
        "origin_span_id": row.origin_span_id.hex(),
        "at_ns": row.last_ns,
    }
    return {
        "group": row.fingerprint,
        "type": row.type,
        "message": row.message,
        "template": row.template,
        "service": row.service,
        "name": row.name,
        "kind": row.kind,
        "services": [str(service) for service in services] if isinstance(services, list) else [],
        "state": row.state,
        "resolved_ns": row.resolved_ns,
        "count": row.counted,
        "uncaught_count": row.uncaught_counted,
        "swallowed_count": max(0, row.counted - row.uncaught_counted),
        "first_ns": row.first_ns,
        "last_ns": row.last_ns,
        "when": _count_parts(db, row.id, begin, end),
        "when_since_ns": begin * MINUTE_NS,
        "when_until_ns": end * MINUTE_NS,
        "trace_id": latest["trace_id"],
        "origin_span_id": latest["origin_span_id"],
        "frames": read_frames(read_json(row.frames)),
        "samples": _read_samples(db, row.id, latest),
    }


def _stretch(selection: Selection, first_ns: int, last_ns: int, now_ns: int) -> tuple[int, int]:
    """Return the minutes [begin, end) in which occurrences are counted, at least one for each part.

    They are the selected minutes, up to now; without a selection, from the first occurrence to the last.
    """
    first, last = _minutes(selection)
    begin = first_ns // MINUTE_NS if selection.since_ns is None else first
    if selection.until_ns is None:
        last = last_ns // MINUTE_NS if selection.since_ns is None else max(now_ns // MINUTE_NS, first)
    return min(begin, max(0, last + 1 - WHEN_PARTS)), last + 1


def _count_parts(db: sqlite3.Connection, row_id: int, begin: int, end: int) -> list[int]:
    # One query for each part scans the key in order; grouping by part would sort the rows.
    edges = [begin - (begin - end) * part // WHEN_PARTS for part in range(WHEN_PARTS + 1)]
    return [
        db.execute(
            "SELECT coalesce(sum(count), 0) FROM exception_minutes"
            " WHERE exception_group = ? AND minute >= ? AND minute < ?",
            (row_id, *part),
        ).fetchone()[0]
        for part in pairwise(edges)
    ]


def _read_samples(db: sqlite3.Connection, row_id: int, latest: Sample) -> list[Sample]:
    """Return the samples in order of time; the latest occurrence is among them."""
    samples: list[Sample] = [
        {
            "trace_id": row.trace_id.hex(),
            "origin_span_id": row.origin_span_id.hex(),
            "at_ns": row.at_ns,
        }
        for row in read(db, _Sample, _SAMPLES, (row_id,))
    ]
    return samples if latest in samples else [*samples, latest]
