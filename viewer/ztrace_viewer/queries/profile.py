"""Profiles: figures by call path of any stretch of time, without reading a span.

One idea: figures can be added and subtracted, as those of methods can. The histograms, which are most of the
work, are read for the paths that are shown alone.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from ztrace_collector.layout import LATE, LEFT_OUT, MINUTE_NS, RESOLUTIONS_S
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.profile import MethodCode, PathProfile, ProfileDocument
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.paths import Paths, bound_time, count_unsettled, read_settling
from ztrace_viewer.queries.rows import name_columns, read
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stacks import MAX_STACKS, read_method_stacks, read_run_shares
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore


class _Figures(NamedTuple):
    """Sums of one path over a range of buckets."""

    path: int
    root_calls: int
    calls: int
    errors: int
    total_ns: int
    self_ns: int
    critical_ns: int
    cpu_ns: int
    timed_ns: int


class _Rank(NamedTuple):
    """Sum by which paths are ordered, and whether they count: all sums of every path take twice as long."""

    path: int
    critical_ns: int
    calls: int


_OF = " FROM path_figures WHERE resolution_s = ?"
_IN_RANGE = _OF + " AND bucket >= ? AND bucket < ?"

_R = TypeVar("_R", bound=NamedTuple)

#: Ranges of buckets, of `ztrace_viewer.queries.figures.split_range`.
_Ranges = Sequence[tuple[int, int, int, int]]


class Trees(NamedTuple):
    """Kind of trees whose figures are kept apart from others.

    Attributes:
        failed: only those of which a span failed.
        version: only those whose root's service had this version; None for all.
        is_own: the version is that of each path's last service instead.
    """

    failed: bool = False
    version: str | None = None
    is_own: bool = False

    @property
    def column(self) -> str:
        """Column of the version."""
        return "own_version" if self.is_own else "version"

    @property
    def condition(self) -> str:
        """Condition in SQL, behind `_IN_RANGE`."""
        of_version = "" if self.version is None else f" AND {self.column} = ?"
        return f"{' AND failed = 1' if self.failed else ''}{of_version}"

    @property
    def values(self) -> tuple[str, ...]:
        """Values of the condition."""
        return () if self.version is None else (self.version,)


#: All trees.
ALL_TREES = Trees()


def read_profile(
    store: SqliteStore,
    root: str | None,
    selection: Selection,
    limit: int | None,
    now_ns: int,
    *,
    trees: Trees = ALL_TREES,
    most_code: tuple[int, int] | None = None,
    with_uncounted: bool = False,
) -> ProfileDocument:
    """Return the figures by path of the trees that ended in a stretch of time.

    Args:
        store: the file's store.
        root: ``SERVICE.METHOD`` or ``METHOD`` of the trees' roots; None for all trees.
        selection: the time, and a service to which the paths have to lead; then the trees are those that do.
        limit: most paths to return, those with the most critical time.
        now_ns: present time: of long ago, only whole hours are known.
        trees: whose figures are returned.
        most_code: most methods whose code to return, those of the first paths that have any, and most stacks
            of each; None for all.
        with_uncounted: also return the code of methods that no tree has which is counted by now.

    Returns:
        The document; the figures of a root are those of its own path.

    Raises:
        NotFoundError: no tree has such a root.
        SettingsError: the root's name is that of several services.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    begin_s, end_s = bound_time(store, selection.since_ns, selection.until_ns, now_ns)
    ranges = split_range(begin_s, end_s)
    ranks = _read_ranks(store, ranges, trees)
    present = {rank.path: rank for rank in ranks if any(rank[1:]) and paths.root(rank.path) in roots}
    if selection.service is not None:
        present = {
            path: rank for path, rank in present.items() if paths.last(path)["service"] == selection.service
        }
    shown = sorted(present, key=lambda path: (-present[path].critical_ns, path))
    shown = shown[:limit]
    tops = {paths.root(path) for path in present}
    sums, histograms = read_whole(store, ranges, {*shown, *tops}, trees)
    # Trees are of no version of a service below the root.
    of_tops, histograms_of_tops = (
        read_whole(store, ranges, tops, Trees(trees.failed)) if trees.is_own else (sums, histograms)
    )
    whole: Counter[int] = Counter()
    for top in tops:
        whole.update(histograms_of_tops[top])
    shares = read_run_shares(store, ranges, {paths.method(path) for path in shown})
    coded = dict.fromkeys(method for path in shown if (method := paths.method(path)) in shares)
    most_methods, most_stacks = most_code or (len(coded), MAX_STACKS)
    code = read_method_stacks(store, ranges, list(coded)[:most_methods], most_stacks)
    documents: list[PathProfile] = []
    for path in shown:
        total, histogram = sums[path], dict(sorted(histograms[path].items()))
        method = paths.method(path)
        run_share = total.cpu_ns / total.timed_ns if total.timed_ns > 0 else shares.get(method)
        documents.append(
            {
                "path": paths.steps(path),
                "root_calls": of_tops[paths.root(path)].root_calls,
                "root_ns": of_tops[paths.root(path)].total_ns,
                "calls": total.calls,
                "errors": total.errors,
                "total_ns": total.total_ns,
                "self_ns": total.self_ns,
                "critical_ns": total.critical_ns,
                "p50_ns": quantile(histogram, 0.50),
                "p95_ns": quantile(histogram, 0.95),
                "run_share": run_share,
                "wait_share": None if run_share is None else 1 - run_share,
                "stacks": code.get(method, []),
            }
        )
    ordered = dict(sorted(whole.items()))
    return {
        "traces": sum(of_tops[top].root_calls for top in tops),
        "p50_ns": quantile(ordered, 0.50),
        "p95_ns": quantile(ordered, 0.95),
        "unsettled_spans": count_unsettled(store),
        "late_spans": read_settling(store, LATE),
        "left_out": read_settling(store, LEFT_OUT),
        "paths": documents,
        "uncounted": _read_uncounted(store, paths, present, selection, now_ns) if with_uncounted else [],
    }


def _read_uncounted(
    store: SqliteStore, paths: Paths, present: Iterable[int], selection: Selection, now_ns: int
) -> list[MethodCode]:
    """Return the code of methods that are on no path which is present, that with the most time first."""
    counted = {paths.method(path) for path in present}
    methods = {
        method.id: method
        for method in store.methods().values()
        if method.id not in counted and selection.service in (None, method.service)
    }
    first = (selection.since_ns or 0) // MINUTE_NS
    end = (selection.until_ns or now_ns) // MINUTE_NS + 1
    ranges = [(1, RESOLUTIONS_S[0], first, end)]
    code, shares = read_method_stacks(store, ranges, methods), read_run_shares(store, ranges, methods)
    documents: list[MethodCode] = []
    for method, stacks in code.items():
        _, service, name, kind = methods[method]
        run_share = shares.get(method)
        wait_share = None if run_share is None else 1 - run_share
        documents.append(
            {
                "service": service,
                "name": name,
                "kind": kind,
                "run_share": run_share,
                "wait_share": wait_share,
                "stacks": stacks,
            }
        )
    return sorted(documents, key=lambda each: -sum(stack["ns"] for stack in each["stacks"]))


def read_versions(
    store: SqliteStore, root: str | None, selection: Selection, now_ns: int, *, failed: bool = False
) -> list[str]:
    """Return the versions that have calls in a stretch of time, the first ones first.

    Args:
        store: the file's store.
        root: as in `read_profile`.
        selection: the time, and the service whose versions they are; without it, those of the roots.
        now_ns: present time.
        failed: only those with failed trees.

    Raises:
        NotFoundError, SettingsError: as in `read_profile`.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    among = roots if selection.service is None else paths.find_leading_to(selection.service, roots)
    ranges = split_range(*bound_time(store, selection.since_ns, selection.until_ns, now_ns))
    first: dict[str, int] = {}
    counts: Counter[str] = Counter()
    trees = Trees(failed, is_own=selection.service is not None)
    condition = f"{_IN_RANGE}{trees.condition} AND path IN ({','.join(map(str, sorted(among)))})"
    for sign, *where in ranges:
        query = f"SELECT {trees.column}, min(bucket), sum(calls){condition} GROUP BY 1"
        for version, bucket, count in store.db.execute(query, where):
            counts[version] += sign * count
            begin_s = bucket * where[0]
            first[version] = min(first.get(version, begin_s), begin_s)
    return sorted(+counts, key=lambda version: (first[version], version))


def read_sums(store: SqliteStore, ranges: _Ranges, trees: Trees = ALL_TREES) -> Iterator[_Figures]:
    """Return the sums of every path over some ranges of buckets."""
    return _read_sums(store, _Figures, ranges, trees)


def _read_ranks(store: SqliteStore, ranges: _Ranges, trees: Trees) -> Iterator[_Rank]:
    """Return the ranks of every path over ranges of buckets."""
    if len(ranges) != 1:
        return _read_sums(store, _Rank, ranges, trees)
    # No row of a single range counts nothing, and one sum takes two thirds of the time of two with signs.
    ((_, *where),) = ranges
    columns = name_columns(_Rank, critical_ns="sum(critical_ns)", calls="1")
    query = f"SELECT {columns}{_IN_RANGE}{trees.condition} GROUP BY path"
    return read(store.db, _Rank, query, (*where, *trees.values))


def _read_sums(store: SqliteStore, row: type[_R], ranges: _Ranges, trees: Trees) -> Iterator[_R]:
    """Return sums of every path over ranges of buckets."""
    if not ranges:
        return iter(())
    columns = ", ".join(row._fields)
    parts = " UNION ALL ".join(
        f"SELECT {sign} AS sign, {columns}{_IN_RANGE}{trees.condition}" for sign, *_ in ranges
    )
    summed = name_columns(row, **{each: f"sum(sign * {each})" for each in row._fields[1:]})
    values = [value for _, *where in ranges for value in (*where, *trees.values)]
    return read(store.db, row, f"SELECT {summed} FROM ({parts}) GROUP BY path", values)


def read_whole(
    store: SqliteStore, ranges: _Ranges, paths: Collection[int], trees: Trees = ALL_TREES
) -> tuple[dict[int, _Figures], dict[int, Counter[int]]]:
    """Return the sums and the histograms of some paths over ranges of buckets, in one pass."""
    sums = {path: _Figures(path, *[0] * (len(_Figures._fields) - 1)) for path in paths}
    found: dict[int, Counter[int]] = {path: Counter() for path in paths}
    columns = ", ".join(f"sum({each})" for each in _Figures._fields[1:])
    # All histograms of a path as one array, since reading many short texts takes longer.
    query = f"SELECT path, {columns}, '[' || group_concat(histogram) || ']'{_OF}{trees.condition}"
    among = f" AND path IN ({','.join(map(str, sorted(paths)))}) GROUP BY path"
    for sign, resolution_s, begin, end in ranges:
        # Each bucket by name, since the paths of a bucket stand side by side in the index.
        buckets = f" AND bucket IN ({','.join(map(str, range(begin, end)))})"
        for path, *numbers, text in store.db.execute(query + buckets + among, (resolution_s, *trees.values)):
            before = sums[path][1:]
            sums[path] = _Figures(
                path, *[one + sign * more for one, more in zip(before, numbers, strict=True)]
            )
            _add_histograms(found[path], read_json(text), sign)
    return sums, {path: +histogram for path, histogram in found.items()}


def _add_histograms(total: Counter[int], histograms: object, sign: int) -> None:
    """Add histograms from JSON to a total, or take them from it."""
    sums: defaultdict[str, int] = defaultdict(int)
    for counts in histograms if isinstance(histograms, list) else ():
        for bucket, count in counts.items() if isinstance(counts, dict) else ():
            sums[bucket] += count
    for bucket, count in sums.items():
        total[int(bucket)] += sign * count
