"""Call paths by their names, and the times for which figures by path are kept."""

from collections.abc import Collection, Sequence

from ztrace.errors import NotFoundError, SettingsError
from ztrace_collector.layout import HOUR_NS, MINUTE_NS, PATH_MINUTES_NS, RESOLUTIONS_S, SECOND_NS
from ztrace_viewer.documents.profile import PathStep
from ztrace_viewer.queries.names import suggest
from ztrace_viewer.queries.stores.answers import PathKey
from ztrace_viewer.queries.stores.store import Store

#: Step of the paths beyond the bounds.
_OTHER: PathStep = {"service": "", "name": "(other)", "kind": "internal"}
#: Names in the message about an ambiguous root.
_NAMED = 5


class Paths:
    """All paths of a database."""

    def __init__(self, store: Store) -> None:
        self._paths = {path.id: path for path in store.paths()}
        self._methods = store.methods()
        self._ids: dict[tuple[int, int], int] | None = None

    def root(self, path: int) -> int:
        """Return the path of a path's root."""
        return self._paths[path].root

    def find(self, parent: int, method: int) -> int:
        """Return the path of a method below a path, as the collector does; a new one is not stored."""
        if self._ids is None:
            self._ids = {(each.parent, each.method): each.id for each in self._paths.values()}
        path = self._ids.get((parent, method))
        above = parent
        while path is None and above:
            if self._paths[above].method == method:
                path = above
            above = self._paths[above].parent
        if path is None:
            path = max(self._paths, default=0) + 1
            root = self._paths[parent].root if parent else path
            self._paths[path] = PathKey(path, parent, method, root)
        self._ids[parent, method] = path
        return path

    def of_kind(self, kind: str) -> set[int]:
        """Return the methods whose spans are of a kind."""
        return {method.id for method in self._methods.values() if method.kind == kind}

    def method(self, path: int) -> int:
        """Return the method of the last step of a path."""
        return self._paths[path].method

    def parent(self, path: int) -> int:
        """Return the path above a path, 0 above a root."""
        return self._paths[path].parent

    def is_shared(self, path: int) -> bool:
        """Return whether a path is that of the paths beyond the bounds."""
        return path in self._paths and self._paths[path].method not in self._methods

    def last(self, path: int) -> PathStep:
        """Return the last step of a path."""
        method = self._methods.get(self._paths[path].method)
        if method is None:
            return _OTHER
        return {"service": method.service, "name": method.name, "kind": method.kind}

    def steps(self, path: int) -> list[PathStep]:
        """Return the steps of a path, from the root on."""
        steps = []
        while path:
            steps.append(self.last(path))
            path = self._paths[path].parent
        return steps[::-1]

    def names(self, path: int) -> list[tuple[str, str, str]]:
        """Return service, name and kind of the steps of a path, by which paths are ordered."""
        return [(step["service"], step["name"], step["kind"]) for step in self.steps(path)]

    def find_leading_to(self, service: str, roots: Collection[int]) -> set[int]:
        """Return the paths below some roots whose last step is of a service."""
        own = {method.id for method in self._methods.values() if method.service == service}
        return {path.id for path in self._paths.values() if path.method in own and path.root in roots}

    def name_roots(self) -> dict[int, str]:
        """Return the paths of all roots, each with its ``SERVICE.METHOD``."""
        tops = {path.id: self.last(path.id) for path in self._paths.values() if not path.parent}
        return {top: f"{step['service']}.{step['name']}" for top, step in tops.items()}

    def find_roots(self, wanted: str | None) -> set[int]:
        """Return the paths of the roots with a name.

        Args:
            wanted: ``SERVICE.METHOD`` or ``METHOD``; None for all roots.

        Raises:
            NotFoundError: there is no such root.
            SettingsError: roots of several services have the name.
        """
        names = self.name_roots()
        if wanted is None:
            return set(names)
        found = {top for top in names if names[top] == wanted}
        found = found or {top for top in names if self.last(top)["name"] == wanted}
        if not found:
            above = sorted({names[top] for top in self._find_above(wanted)})
            if above:
                raise NotFoundError(
                    f"no trees begin with {wanted}",
                    hint=f"give a root that calls it: {_list(above)}",
                )
            raise NotFoundError(f"no trees of {wanted}", hint=suggest(wanted, set(names.values())))
        several = sorted({names[top] for top in found})
        if len(several) > 1:
            raise SettingsError(f"{wanted} is the root of several", hint=f"give {_list(several)}")
        return found

    def _find_above(self, wanted: str) -> set[int]:
        """Return the roots above the paths that end in a name."""
        methods = {
            method.id
            for method in self._methods.values()
            if wanted in (method.name, f"{method.service}.{method.name}")
        }
        return {path.root for path in self._paths.values() if path.method in methods}


def _list(names: Sequence[str]) -> str:
    """Return some names, and the number of the others."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def bound_time(store: Store, since_ns: int | None, until_ns: int | None, now_ns: int) -> tuple[int, int]:
    """Return a stretch of time in seconds, within the days that have figures.

    It is widened to whole minutes, and to whole hours where minutes are not kept.
    """
    day_s = RESOLUTIONS_S[-1]
    days = store.path_edges(day_s)
    if days is None:
        return 0, 0
    begin_s, end_s = days[0] * day_s, (days[1] + 1) * day_s
    if since_ns is not None:
        unit_ns = _unit_ns(since_ns, now_ns)
        begin_s = max(begin_s, since_ns // unit_ns * unit_ns // SECOND_NS)
    if until_ns is not None:
        unit_ns = _unit_ns(until_ns, now_ns)
        end_s = min(end_s, -(-until_ns // unit_ns) * unit_ns // SECOND_NS)
    return begin_s, max(begin_s, end_s)


def _unit_ns(moment_ns: int, now_ns: int) -> int:
    return MINUTE_NS if moment_ns >= now_ns - PATH_MINUTES_NS else HOUR_NS
