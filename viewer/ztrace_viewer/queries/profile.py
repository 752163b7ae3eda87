"""Profiles: figures by call path of any stretch of time, without reading a span.

One idea: figures can be added and subtracted, as those of methods can. The histograms, which are most of the
work, are read for the paths that are shown alone.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ztrace.errors import NotFoundError, SettingsError
from ztrace_collector.layout import (
    HOUR_NS,
    LEFT_OUT,
    MINUTE_NS,
    PATH_MINUTES_NS,
    RESOLUTIONS_S,
    SECOND_NS,
    SETTLED,
)
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.profile import PathProfile, PathStep, ProfileDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.names import read_methods
from ztrace_viewer.queries.rows import name_columns, read, read_one
from ztrace_viewer.queries.selection import Selection

#: Step of the paths beyond the bounds.
_OTHER: PathStep = {"service": "", "name": "(other)", "kind": "internal"}
#: Names in the message about an ambiguous root.
_NAMED = 5


class _Path(NamedTuple):
    """A row of ``paths``."""

    id: int
    parent: int
    method: int
    root: int


class _Figures(NamedTuple):
    """Sums of one path over a range of buckets."""

    path: int
    root_calls: int
    calls: int
    errors: int
    total_ns: int
    self_ns: int
    critical_ns: int


class _Days(NamedTuple):
    first: int | None
    last: int | None


_IN_RANGE = " FROM path_figures WHERE resolution_s = ? AND bucket >= ? AND bucket < ?"


def read_profile(
    db: sqlite3.Connection, root: str | None, selection: Selection, limit: int | None, now_ns: int
) -> ProfileDocument:
    """Return the figures by path of the trees that ended in a stretch of time.

    Args:
        db: the database.
        root: ``SERVICE.METHOD`` or ``METHOD`` of the trees' roots; None for all trees.
        selection: the time, and a service to which the paths have to lead.
        limit: most paths to return, those with the most critical time.
        now_ns: present time: of long ago, only whole hours are known.

    Returns:
        The document; the figures of a root are those of its own path.

    Raises:
        NotFoundError: no tree has such a root.
        SettingsError: the root's name is that of several services.
    """
    paths = {path.id: path for path in read(db, _Path, f"SELECT {name_columns(_Path)} FROM paths")}
    methods = read_methods(db)

    def name(path: _Path) -> PathStep:
        method = methods.get(path.method)
        if method is None:
            return _OTHER
        return {"service": method.service, "name": method.name, "kind": method.kind}

    roots = _find_roots([(path.id, name(path)) for path in paths.values() if not path.parent], root)
    begin_s, end_s = _bounds(db, selection, now_ns)
    ranges = split_range(begin_s, end_s)
    sums: dict[int, Counter[str]] = {}
    for sign, *where in ranges:
        columns = name_columns(_Figures, **{each: f"sum({each})" for each in _Figures._fields[1:]})
        for figures in read(db, _Figures, f"SELECT {columns}{_IN_RANGE} GROUP BY path", where):
            if paths[figures.path].root in roots:
                total = sums.setdefault(figures.path, Counter())
                for field, value in zip(_Figures._fields[1:], figures[1:], strict=True):
                    total[field] += sign * value
    present = {path: total for path, total in sums.items() if any(total.values())}
    shown = sorted(present, key=lambda path: (-present[path]["critical_ns"], -present[path]["self_ns"], path))
    if selection.service is not None:
        shown = [path for path in shown if name(paths[path])["service"] == selection.service]
    shown = shown[:limit]
    tops = [path for path in present if path in roots]
    histograms = _read_histograms(db, ranges, {*shown, *tops})
    whole: Counter[int] = Counter()
    for top in tops:
        whole.update(histograms[top])
    documents: list[PathProfile] = []
    for path in shown:
        total, histogram = present[path], dict(sorted(histograms[path].items()))
        steps, step = [], path
        while step:
            steps.append(name(paths[step]))
            step = paths[step].parent
        documents.append(
            {
                "path": steps[::-1],
                "root_calls": present.get(paths[path].root, Counter())["root_calls"],
                "calls": total["calls"],
                "errors": total["errors"],
                "total_ns": total["total_ns"],
                "self_ns": total["self_ns"],
                "critical_ns": total["critical_ns"],
                "p50_ns": quantile(histogram, 0.50),
                "p95_ns": quantile(histogram, 0.95),
                "run_share": None,
                "wait_share": None,
                "stacks": [],
            }
        )
    ordered = dict(sorted(whole.items()))
    return {
        "traces": sum(present[top]["root_calls"] for top in tops),
        "p50_ns": quantile(ordered, 0.50),
        "p95_ns": quantile(ordered, 0.95),
        "unsettled_spans": _count_unsettled(db),
        "left_out": _read_settling(db, LEFT_OUT),
        "paths": documents,
    }


def _find_roots(tops: Sequence[tuple[int, PathStep]], wanted: str | None) -> set[int]:
    """Return the paths of the roots with a name."""
    if wanted is None:
        return {path for path, _ in tops}
    matching = [
        (path, step) for path, step in tops if wanted in (step["name"], f"{step['service']}.{step['name']}")
    ]
    exact = [each for each in matching if wanted != each[1]["name"]]
    matching = exact or matching
    names = sorted({f"{step['service']}.{step['name']}" for _, step in matching})
    if not names:
        raise NotFoundError(f"no trees of {wanted}", hint="'ztrace slow' lists trees by their roots")
    if len(names) > 1:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise SettingsError(
            f"{wanted} is the root of several", hint=f"give {', '.join(names[:_NAMED])}{more}"
        )
    return {path for path, _ in matching}


def _bounds(db: sqlite3.Connection, selection: Selection, now_ns: int) -> tuple[int, int]:
    """Return the selected time in seconds: whole minutes, or whole hours where minutes are not kept."""
    day_s = RESOLUTIONS_S[-1]
    query = f"SELECT {name_columns(_Days, first='min(bucket)', last='max(bucket)')} FROM path_figures"
    days = read_one(db, _Days, f"{query} WHERE resolution_s = ?", (day_s,))
    if days is None or days.first is None or days.last is None:
        return 0, 0
    kept_ns = now_ns - PATH_MINUTES_NS
    begin_s, end_s = days.first * day_s, (days.last + 1) * day_s
    if selection.since_ns is not None:
        unit_ns = MINUTE_NS if selection.since_ns >= kept_ns else HOUR_NS
        begin_s = max(begin_s, selection.since_ns // unit_ns * unit_ns // SECOND_NS)
    if selection.until_ns is not None:
        unit_ns = MINUTE_NS if selection.until_ns >= kept_ns else HOUR_NS
        end_s = min(end_s, -(-selection.until_ns // unit_ns) * unit_ns // SECOND_NS)
    return begin_s, max(begin_s, end_s)


def _read_histograms(
    db: sqlite3.Connection, ranges: Sequence[tuple[int, int, int, int]], paths: set[int]
) -> dict[int, Counter[int]]:
    """Return the histograms of some paths."""
    found: dict[int, Counter[int]] = {path: Counter() for path in paths}
    among = ",".join(map(str, sorted(paths)))
    for sign, *where in ranges:
        for path, text in db.execute(f"SELECT path, histogram{_IN_RANGE} AND path IN ({among})", where):
            counts, histogram = read_json(text), found[path]
            for bucket, count in counts.items() if isinstance(counts, dict) else ():
                histogram[int(bucket)] += sign * count
    return {path: +histogram for path, histogram in found.items()}


def _count_unsettled(db: sqlite3.Connection) -> int:
    query = "SELECT count(*) FROM spans WHERE id > ?"
    return int(db.execute(query, (_read_settling(db, SETTLED),)).fetchone()[0])


def _read_settling(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM settling WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])
