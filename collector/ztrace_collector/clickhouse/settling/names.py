"""Methods, paths, versions and processes, as they are stored in ClickHouse.

One idea: a path's id is a hash of its parent's id and its method, so all processes compute the same id. In
memory, paths are numbered from the root down, as counting expects.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ztrace.records import KIND_NUMBERS
from ztrace_collector.settling.paths import ABOVE_ROOTS, OTHER, PathRules
from ztrace_collector.settling.versions import MAX_OF_SERVICE, MAX_VERSIONS
from ztrace_collector.tables.methods import OTHER as OTHER_VERSION

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Processes that are kept in memory, and that are read at a time: a statement has a limit.
SIZE, AT_ONCE = 20_000, 5_000


class PathRow(NamedTuple):
    """Row of ``paths``."""

    id: int
    parent: int
    method: int
    depth: int
    root: int


class _Process(NamedTuple):
    """What is of interest of a process."""

    service: str
    host: str
    version: str


def hash_path(parent: int, method: int) -> int:
    """Return the id of a path by the id of the path above, 0 for none, and the method's."""
    key = parent.to_bytes(8, "little") + method.to_bytes(8, "little")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


class Names(PathRules):
    """Names of one database.

    Attributes:
        kinds: methods by their kind.
        callers: methods whose spans wait for another process.
        new_paths: paths that are not stored yet, the path above first.
        new_versions: services and versions that are not stored yet.
        has_others: whether paths or versions are beyond the bounds, and counted as others.
    """

    def __init__(self, client: "Client") -> None:
        super().__init__()
        self._client = client
        self.kinds: dict[str, set[int]] = {kind: set() for kind in KIND_NUMBERS}
        self.callers: set[int] = set()
        self._services: dict[int, str] = {OTHER: ""}
        self._processes: dict[int, _Process] = {}
        self.new_paths: list[PathRow] = []
        self.new_versions: list[tuple[str, str]] = []
        self.has_others = False
        #: Paths by their number, from 1, and numbers by id.
        self._rows = [PathRow(ABOVE_ROOTS, ABOVE_ROOTS, OTHER, 0, ABOVE_ROOTS)]
        self._numbers = {ABOVE_ROOTS: ABOVE_ROOTS}
        #: Methods of the paths below each root, by the id of the root's path.
        self._methods_of = defaultdict[int, list[int]](list)
        for row in client.query(
            "SELECT DISTINCT id, parent, method, depth, root FROM paths ORDER BY depth"
        ).result_rows:
            self._remember(PathRow._make(row))
        rows = client.query("SELECT DISTINCT service, version FROM versions").result_rows
        self._versions = {(service, version) for service, version in rows}
        self._versions_of = Counter(service for service, _ in self._versions)

    def learn_methods(self, methods: Collection[int]) -> None:
        """Read methods if one of some is new."""
        if self._services.keys() >= {*methods}:
            return
        rows = self._client.query("SELECT id, service, kind FROM methods FINAL").result_rows
        for method, service, kind in rows:
            self._services[method] = service
            self.kinds.setdefault(kind, set()).add(method)
            if kind in ("client", "producer"):
                self.callers.add(method)

    def learn_processes(self, instances: Collection[int]) -> None:
        """Read the processes that are new."""
        if len(self._processes) > SIZE:
            self._processes.clear()
        missing = iter({*instances} - self._processes.keys())
        while some := [*islice(missing, AT_ONCE)]:
            among = ", ".join(map(str, some))
            query = f"SELECT id, service, host, version FROM instances FINAL WHERE id IN ({among})"
            for instance, *fields in self._client.query(query).result_rows:
                self._processes[instance] = _Process._make(fields)

    def host_of(self, instance: int) -> str | None:
        """Return the host of a process, None if it is unknown."""
        process = self._processes.get(instance)
        return None if process is None else process.host

    def version_of(self, instance: int) -> str:
        """Return the version of a process, empty if it is unknown, ``(other)`` beyond the bounds."""
        process = self._processes.get(instance)
        if process is None or not process.version:
            return ""
        key = process.service, process.version
        if key not in self._versions:
            if self._versions_of[process.service] >= MAX_OF_SERVICE or len(self._versions) >= MAX_VERSIONS:
                self.has_others = True
                return OTHER_VERSION
            self._versions.add(key)
            self._versions_of[process.service] += 1
            self.new_versions.append(key)
        return process.version

    def id_of(self, path: int) -> int:
        """Return the id of a path by its number."""
        return self._rows[path].id

    def number_of(self, id_: int) -> int:
        """Return the number of a path by its id."""
        return self._numbers[id_]

    def are_others(self, paths: Iterable[int], versions: Iterable[str]) -> bool:
        """Return whether one of some paths or versions is counted with others."""
        return OTHER_VERSION in versions or any(self._rows[path].method == OTHER for path in paths)

    def _remember(self, row: PathRow) -> int:
        number = len(self._rows)
        self._rows.append(row)
        self._numbers[row.id] = number
        self._methods_of[row.root].append(row.method)
        self.has_others = self.has_others or row.method == OTHER
        return number

    def _count(self, root: int | None) -> Counter[str]:
        of_root = self._methods_of.values() if root is None else [self._methods_of[self._rows[root].id]]
        return Counter(
            self._services.get(method, "") for methods in of_root for method in methods if method != OTHER
        )

    def _recurring(self, path: int, method: int) -> int | None:
        while path != ABOVE_ROOTS:
            if self._rows[path].method == method:
                return path
            path = self._numbers[self._rows[path].parent]
        return None

    def _select(self, parent: int, method: int) -> int | None:
        return self._numbers.get(hash_path(self._rows[parent].id, method))

    def _insert(self, parent: int, method: int, root: int | None, depth: int) -> int:
        above = self._rows[parent].id
        id_ = hash_path(above, method)
        row = PathRow(id_, above, method, depth, id_ if root is None else self._rows[root].id)
        self.new_paths.append(row)
        return self._remember(row)

    def _place(self, path: int) -> tuple[int, int]:
        row = self._rows[path]
        return self._numbers[row.root], row.depth

    def _method(self, path: int) -> int:
        return self._rows[path].method

    def _service(self, method: int) -> str:
        return self._services.get(method, "")
