"""Comparison of two versions of the services of roots, which are kept apart in the figures by path."""

from ztrace.errors import NotFoundError
from ztrace_collector.layout import PATH_MINUTES_NS
from ztrace_viewer.documents.comparison import DiffDocument
from ztrace_viewer.queries.comparison import choose_unit, describe_sides, find_buckets, read_side
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Store

#: Key of the versions of services, whose figures are kept apart.
VERSION_KEY = "service.version"
#: Versions in the message about a missing one.
_NAMED = 5


def compare_versions(
    store: Store,
    root: str | None,
    before: str | None,
    after: str | None,
    selection: Selection,
    limit: int | None,
    now_ns: int,
) -> DiffDocument:
    """Return what changed between two versions of the services of the roots.

    Args:
        store: the store.
        root: as in `compare`.
        before: version on the first side; None for the one that came before the other.
        after: version on the second side; None for the one that came last.
        selection: the time; the last six hours without a start.
        limit: most paths to return.
        now_ns: present time.

    Raises:
        NotFoundError: no tree has such a root, or there are no such versions.
        SettingsError: the root's name is that of several services.
    """
    paths = Paths(store)
    roots = paths.find_roots(root)
    since_ns = now_ns - PATH_MINUTES_NS if selection.since_ns is None else selection.since_ns
    stretch = since_ns, now_ns + 1 if selection.until_ns is None else selection.until_ns
    unit_s = choose_unit(since_ns, now_ns)
    known = store.root_versions(*find_buckets(stretch, unit_s), roots)
    if after is None:
        after = next((version for version in reversed(known) if version != before), None)
    if before is None:
        place = known.index(after) if after in known else 0
        before = known[place - 1] if place else None
    for version in (before, after):
        if version is None or version not in known:
            listed = ", ".join(each or "(no version)" for each in known[-_NAMED:]) or "none"
            missing = "only one version" if version is None else f"no trees of version {version}"
            hint = f"there are: {listed}; choose a longer time, or set ZTRACE_SERVICE_VERSION"
            raise NotFoundError(missing, hint=hint)
    sides = [read_side(store, paths, roots, stretch, unit_s, version) for version in (before, after)]
    return describe_sides(paths, sides, limit, unit_s)
