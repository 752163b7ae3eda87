"""Profiles: figures by call path of any stretch of time, without reading a span.

One idea: figures can be added and subtracted, as those of methods can. The histograms, which are most of the
work, are read for the paths that are shown alone.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from ztrace_collector.layout import LATE, LEFT_OUT, MINUTE_NS, RESOLUTIONS_S
from ztrace_collector.tables.histogram import quantile
from ztrace_viewer.documents.profile import MethodCode, PathProfile, ProfileDocument
from ztrace_viewer.queries.figures import split_range
from ztrace_viewer.queries.paths import Paths, bound_time
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stacks import MAX_STACKS, read_method_stacks, read_run_shares
from ztrace_viewer.queries.stores.answers import PathRank
from ztrace_viewer.queries.stores.conditions import ALL_TREES, TreeKind
from ztrace_viewer.queries.stores.store import Store


def read_profile(
    store: Store,
    root: str | None,
    selection: Selection,
    limit: int | None,
    now_ns: int,
    *,
    trees: TreeKind = ALL_TREES,
    most_code: tuple[int, int] | None = None,
    with_uncounted: bool = False,
) -> ProfileDocument:
    """Return the figures by path of the trees that ended in a stretch of time.

    Args:
        store: the store.
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
    ranks = store.path_ranks(ranges, trees)
    present = {rank.path: rank for rank in ranks if any(rank[1:]) and paths.root(rank.path) in roots}
    if selection.service is not None:
        present = {
            path: rank for path, rank in present.items() if paths.last(path)["service"] == selection.service
        }
    shown = _choose_shown(paths, present, limit)
    tops = {paths.root(path) for path in present}
    sums, histograms = store.path_figures(ranges, {*shown, *tops}, trees)
    # Trees are of no version of a service below the root.
    of_tops, histograms_of_tops = (
        store.path_figures(ranges, tops, TreeKind(trees.failed)) if trees.is_own else (sums, histograms)
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
        "unsettled_spans": store.unsettled(),
        "late_spans": store.settling(LATE),
        "left_out": store.settling(LEFT_OUT),
        "paths": documents,
        "uncounted": _read_uncounted(store, paths, present, selection, now_ns) if with_uncounted else [],
    }


def _choose_shown(paths: Paths, ranks: Mapping[int, PathRank], limit: int | None) -> list[int]:
    """Return the paths with the most critical time, those with the same by their names."""
    shown = sorted(ranks, key=lambda path: -ranks[path].critical_ns)
    if limit is not None and limit < len(shown):
        least_ns = ranks[shown[limit - 1]].critical_ns if limit else 0
        shown = [path for path in shown if ranks[path].critical_ns >= least_ns]
    shown.sort(key=lambda path: (-ranks[path].critical_ns, paths.names(path)))
    return shown[:limit]


def _read_uncounted(
    store: Store, paths: Paths, present: Iterable[int], selection: Selection, now_ns: int
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
    store: Store, root: str | None, selection: Selection, now_ns: int, *, failed: bool = False
) -> list[str]:
    """Return the versions that have calls in a stretch of time, the first ones first.

    Args:
        store: the store.
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
    kind = TreeKind(failed, is_own=selection.service is not None)
    for sign, (version, begin_s, calls) in store.path_versions(ranges, among, kind):
        counts[version] += sign * calls
        first[version] = min(first.get(version, begin_s), begin_s)
    return sorted(+counts, key=lambda version: (first[version], version))
