"""Call trees whose spans reach several collectors, and the figures of one that has all of them.

One idea: each message is stored in a file with everything, and in the journal of the collector that it
reached. What is settled from the journals in ClickHouse has to equal what is settled in the file.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Shop
from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, span_id, trace_id
from ztrace.records import ERROR, RAISED, ExceptionRecord, Span
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, open_clickhouse
from ztrace_viewer.queries.stores.conditions import NEWEST, Filter
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

SERVICES = ("front", "stock", "billing")
#: Kinds by number.
SERVER, CLIENT, CONSUMER = 2, 3, 5

#: Figures by resolution, bucket, both versions, failure and names of the path.
Figures = dict[tuple[Any, ...], tuple[Any, ...]]

#: Event of a span whose exception was recorded by a sender that names no origins.
_EVENT = {"name": "exception", "time_ns": EPOCH_NS, "became_exception": True}
_NUMBERS = ["root_calls", "calls", "errors", "total_ns", "self_ns", "critical_ns", "cpu_ns", "timed_ns"]
_IN_FILE = (
    "SELECT resolution_s, bucket, version, own_version, failed, path,"
    f" {', '.join(_NUMBERS)}, histogram FROM path_figures"
)
_IN_ENGINE = (
    "SELECT f.resolution_s, f.bucket, toString(f.version), toString(f.own_version), f.failed, f.path,"
    f" {', '.join(f'sum(f.{each})' for each in _NUMBERS)}, sumMap(f.histogram) FROM path_figures AS f"
    " GROUP BY f.resolution_s, f.bucket, f.version, f.own_version, f.failed, f.path"
)


class Collectors:
    """Two collectors' journals that are sent to one database, and a file with everything.

    Attributes:
        whole: the file with everything.
        whole_path: its path.
        shops: the two journals.
        senders: the publisher of each service.
    """

    def __init__(self, folder: Path, whole: Store, shops: Sequence[Shop]) -> None:
        self.whole, self.shops, self.whole_path = whole, shops, folder / "whole.db"
        self.address = shops[0].address
        self.senders = {service: Sender(number, service) for number, service in enumerate(SERVICES)}

    def store(self, messages: Sequence[list[bytes]], collectors: Sequence[int]) -> None:
        """Store messages as they reach some collectors."""
        self.whole.store(messages)
        for number in collectors:
            self.shops[number].store.store(messages)

    def add(self, service: str, spans: Sequence[Span], *collectors: int) -> None:
        """Store the next batch of a service."""
        sender = self.senders[service]
        # Each service runs on a host of its own, in a version of its own, and all before is acknowledged.
        sender.floor, sender.retired = sender.sequence, sender.created
        message = sender.data(*spans, host=service, service_version=f"{len(service)}.0")
        self.store([message], collectors)

    def open(self, service: str, spans: Sequence[Span], *collectors: int) -> None:
        """Report spans of a service as running."""
        self.store([self.senders[service].open(*spans)], collectors)

    def deliver(self) -> None:
        """Send what the journals have."""
        for shop in self.shops:
            shop.deliver()

    def expected(self) -> Figures:
        """Return the figures of the file with everything."""
        list(settle_all(self.whole, clock_ns=lambda: EPOCH_NS))
        return read_file_figures(self.whole)

    def expected_failures(self) -> list[Any]:
        """Return the exception groups of the file with everything, and the exceptions of its traces."""
        with open_file(self.whole_path) as store:
            return read_failures(store, self._list_failed())

    def failures(self) -> list[Any]:
        """Return the same from the database."""
        with open_clickhouse(self.address) as store:
            return read_failures(store, self._list_failed())

    def _list_failed(self) -> list[bytes]:
        query = "SELECT DISTINCT trace_id FROM exceptions ORDER BY trace_id"
        return [trace_id for (trace_id,) in self.whole.read(query)]

    def expected_bounds(self) -> list[tuple[Any, ...]]:
        """Return the bounds of clocks in the file with everything, once it is settled."""
        return sorted(
            self.whole.read("SELECT host, other_host, cell, low_ns, high_ns, calls FROM clock_bounds")
        )


@contextmanager
def open_collectors(folder: Path, engine: Engine, database: str) -> Iterator[Collectors]:
    """Yield two empty journals and a database without rows."""
    address = read_address(engine.url(database), {})
    initialize(address, Layout(), lambda line: None)
    with ExitStack() as stack:
        stores = [
            stack.enter_context(Store(folder / f"{name}.db", clock_ns=lambda: EPOCH_NS))
            for name in ("whole", "one", "two")
        ]
        shops = [
            Shop(folder / f"{name}.db", store, address)
            for name, store in zip(("one", "two"), stores[1:], strict=True)
        ]
        yield Collectors(folder, stores[0], shops)


def read_file_figures(store: Store) -> Figures:
    """Return the figures that are settled in a file."""
    methods = store.read("SELECT id, service, name, kind FROM methods")
    names = _name_paths(methods, store.read("SELECT id, parent, method FROM paths ORDER BY id"))
    return {
        (*key, names[path]): (*numbers, _sort(json.loads(histogram)))
        for (*key, path), (*numbers, histogram) in ((row[:6], row[6:]) for row in store.read(_IN_FILE))
    }


def read_figures(client: "Client") -> Figures:
    """Return the figures that are settled in a database, without rows that add up to nothing."""
    paths = _select(client, "SELECT id, parent, method FROM paths FINAL ORDER BY depth")
    names = _name_paths(_select(client, "SELECT id, service, name, kind FROM methods"), paths)
    found = {}
    for *key, path, rest in ((*row[:6], row[6:]) for row in _select(client, _IN_ENGINE)):
        numbers = (*rest[:-1], _sort(rest[-1]))
        if any(numbers):
            found[*key, names[path]] = numbers
    return found


def read_failures(store: SqliteStore | ClickHouseStore, trace_ids: Iterable[bytes]) -> list[Any]:
    """Return the exception groups of a store, and the exceptions of traces."""
    groups = store.groups(Selection(), Filter(), NEWEST, None)
    exceptions = [(trace_id, sorted(store.exceptions(trace_id))) for trace_id in trace_ids]
    # What its removed occurrences had is still in a group's services and template.
    return [[each._replace(key=0, services="", template="") for each in groups], exceptions]


def read_bounds(client: "Client") -> list[tuple[Any, ...]]:
    """Return the bounds of clocks in a database."""
    query = (
        "SELECT toString(host), toString(other_host), cell, max(low).1, min(high).1, sum(calls)"
        " FROM clock_bounds GROUP BY host, other_host, cell"
    )
    return sorted(map(tuple, _select(client, query)))


def _name_paths(methods: Iterable[Any], paths: Iterable[Any]) -> dict[int, str]:
    """Return the names from the root to each path."""
    words = {id_: " ".join(words) for id_, *words in methods}
    names = {0: ""}
    for id_, parent, method in paths:
        names[id_] = f"{names[parent]} > {words.get(method, '(other)')}"
    return names


def _select(client: "Client", query: str) -> Sequence[Any]:
    rows: Sequence[Any] = client.query(query).result_rows
    return rows


def _sort(histogram: dict[Any, int]) -> list[tuple[int, int]]:
    return sorted((int(bucket), count) for bucket, count in histogram.items() if count)


class Forest:
    """Random trees over the three services, whose spans come in any order."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._trees = 0
        self._spans = 0
        #: Spans that come later.
        self._late: list[tuple[str, Span]] = []

    def grow(self, count: int) -> list[tuple[str, Span]]:
        """Return the spans of new trees but for some, and some of those that were left out before."""
        chance = self.chance
        chance.shuffle(self._late)
        kept = len(self._late) // 2
        found, self._late = self._late[kept:], self._late[:kept]
        for _ in range(count):
            for each in self._make_tree():
                (self._late if chance.random() < 0.2 else found).append(each)
        chance.shuffle(found)
        return found

    def _make_tree(self) -> Iterator[tuple[str, Span]]:
        self._trees += 1
        trace, at_ns = trace_id(self._trees), EPOCH_NS + self.chance.randrange(7200) * 10**9
        yield from self._make_call(trace, None, at_ns, 200 * MS, 0)

    def _make_call(
        self, trace: bytes, parent: bytes | None, at_ns: int, within_ns: int, depth: int
    ) -> Iterator[tuple[str, Span]]:
        """Yield a served call, and the calls that it makes of the others."""
        chance = self.chance
        self._spans += 1
        own, service = span_id(self._spans), chance.choice(SERVICES)
        kind = CONSUMER if chance.random() < 0.1 else SERVER
        # Clocks of the hosts differ.
        ahead_ns = SERVICES.index(service) * 3600 * 10**9
        yield service, self._make_span(trace, own, parent, at_ns + ahead_ns, within_ns, kind)
        for number in range(chance.randrange(3) if depth < 3 else 0):
            self._spans += 1
            client, begin_ns = span_id(self._spans), at_ns + number * within_ns // 4
            made = self._make_span(trace, client, own, begin_ns + ahead_ns, within_ns // 3, CLIENT)
            yield service, made
            yield from self._make_call(trace, client, begin_ns + MS, within_ns // 4, depth + 1)

    def _make_span(
        self, trace: bytes, own: bytes, parent: bytes | None, at_ns: int, within_ns: int, kind: int
    ) -> Span:
        chance = self.chance
        exception = details = None
        if is_failed := chance.random() < 0.3:
            # A failure without an exception, one whose sender names no origin, or one that began here.
            sender = chance.randrange(3)
            if sender:
                exception = ExceptionRecord(
                    f"db.Lost{chance.randrange(2)}", "no box", (), (), RAISED, None, None
                )
            details = {"events": [_EVENT]} if sender == 1 else None
        return make_span(
            trace_id=trace,
            span_id=own,
            parent_id=parent,
            kind=kind,
            name=f"method{chance.randrange(4)}",
            start_ns=at_ns,
            duration_ns=within_ns // 2 + chance.randrange(within_ns // 2),
            self_ns=chance.choice((None, MS)),
            status=ERROR if is_failed else 0,
            exception=exception,
            details=details,
        )
