"""Deliveries to ClickHouse in the test's own process, and the comparison of both stores.

One idea: a delivery keeps nothing that the journal does not have, so one that is abandoned at any point is
one whose process was killed there.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.clickhouse import Engine
from tests.collector.messages import EPOCH_NS, MS, Sender, make_open, make_span
from ztrace.records import ERROR, RAISED, ExceptionRecord, Span
from ztrace_collector.clickhouse.address import ClickHouseAddress, read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.journal import ClickHouseSending
from ztrace_collector.clickhouse.messages import Orders, Step
from ztrace_collector.clickhouse.mirrored import MIRRORED, Mirrored
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.shipping import Delivery
from ztrace_collector.forwarding.child import open_file
from ztrace_collector.storing.store import Store

YEAR_NS = 365 * 24 * 3600 * 10**9
#: Columns of copies that have other values in each store.
_OWN = ("id", "method", "instance", "exception_group", "spans_expired")


class Killed(Exception):
    """End of a delivery at a point that a test has chosen."""


class Shop:
    """A journal, and the ClickHouse database that it is sent to.

    Attributes:
        store: the journal.
        path: its file.
        address: the database.
        steps: the steps that were reported.
    """

    def __init__(self, path: Path, store: Store, address: ClickHouseAddress) -> None:
        self.path, self.store, self.address = path, store, address
        self.steps: list[Step] = []
        self.sender = Sender()
        self._sending = ClickHouseSending(path, address)
        with store.transaction() as db:
            self._destination = Orders.from_line(self._sending.register(db)).destination

    def add(self, *spans: Span) -> None:
        """Store spans as they arrive from a publisher."""
        self.store.store([self.sender.data(*spans)])

    def report(self, step: Step) -> None:
        """Write a step as the collector does."""
        self.steps.append(step)
        with self.store.transaction() as db:
            self._sending.write_reports(db, [step._replace(destination=self._destination, at_ns=1)])

    @contextmanager
    def delivering(self) -> Iterator[Delivery]:
        """Yield a delivery over a new connection."""
        with open_engine(self.address) as client, closing(open_file(self.path)) as db:
            yield Delivery(client, db, self.address, self.report)

    def deliver(self) -> None:
        """Deliver everything, as the next process does after a kill."""
        with self.delivering() as delivery:
            delivery.go_on()

    def differences(self) -> dict[str, object]:
        """Return what differs between the journal and ClickHouse."""
        return differences(self.path, self.address)

    @property
    def destination(self) -> dict[str, Any]:
        """The destination's row."""
        names = ("place", "sent", "skipped")
        (row,) = self.store.read(f"SELECT {', '.join(names)} FROM destinations")
        return dict(zip(names, row, strict=True))


@contextmanager
def open_shop(path: Path, engine: Engine, database: str) -> Iterator[Shop]:
    """Yield a shop with an empty journal and new tables."""
    address = read_address(engine.url(database), {})
    initialize(address, Layout(), lambda line: None)
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        yield Shop(path, store, address)


def make_spans(seed: int, count: int) -> list[Span]:
    """Return spans of trees with failures, of which some have random ids and times that are years off."""
    seeds = random.Random(seed)
    spans: list[Span] = []
    traces = [seeds.randbytes(16) for _ in range(1 + count // 5)]
    for number in range(count):
        parents = spans[-20:]
        parent = seeds.choice(parents) if parents and seeds.random() < 0.8 else None
        span_id = seeds.randbytes(8)
        trace_id = parent.trace_id if parent else seeds.choice(traces)
        far_ns = seeds.choice((-20, 30)) * YEAR_NS if seeds.random() < 0.05 else 0
        failed = seeds.random() < 0.1
        raised = ExceptionRecord("ValueError", f"no {number % 7}", (), (), RAISED, trace_id, span_id, (), ())
        spans.append(
            make_span(
                trace_id=trace_id,
                span_id=span_id,
                parent_id=parent.span_id if parent else None,
                name=f"method{seeds.randrange(12)}",
                start_ns=EPOCH_NS + far_ns + seeds.randrange(3600 * 10**9),
                duration_ns=int(10 ** seeds.uniform(0, 10)),
                self_ns=seeds.choice((None, 3 * MS)),
                status=ERROR if failed else 0,
                attributes={"n": number, "text": "x" * seeds.randrange(40)} if number % 2 else None,
                exception=raised if failed else None,
            )
        )
    return spans


def differences(path: Path, address: ClickHouseAddress) -> dict[str, object]:
    """Return what differs between a journal and ClickHouse, by table; nothing if they agree."""
    with open_engine(address) as client, closing(sqlite3.connect(path)) as db:

        def both(sqlite: str, clickhouse: str) -> object:
            kept = Counter(tuple(row) for row in db.execute(sqlite))
            sent = Counter(tuple(row) for row in client.query(clickhouse).result_rows)
            return None if kept == sent else (kept - sent, sent - kept)

        found = {
            "spans": both(
                "SELECT hex(trace_id), hex(span_id), coalesce(hex(parent_id), ''), service, name, kind,"
                " start_ns, duration_ns, self_ns, cpu_ns, lane, status, coalesce(attributes, ''),"
                " coalesce(links, ''), coalesce(details, '') FROM spans JOIN methods ON methods.id = method",
                "SELECT hex(trace_id), hex(span_id),"
                " if(parent_id = toFixedString('', 8), '', hex(parent_id)),"
                " service, name, kind, start_ns, duration_ns, self_ns, cpu_ns, lane, status,"
                " attributes, links, details"
                " FROM spans JOIN (SELECT * FROM methods FINAL) AS m ON m.id = method",
            ),
            "traces": both(
                "SELECT hex(trace_id), span_count, error_count FROM traces",
                "SELECT hex(trace_id), sum(span_count), sum(error_count) FROM traces GROUP BY trace_id",
            ),
            "roots of traces": both(
                "SELECT hex(trace_id), coalesce(hex(root_span_id), '') FROM traces",
                "SELECT hex(trace_id), if(min(root).1 = 9223372036854775807, '', hex(min(root).2))"
                " FROM traces GROUP BY trace_id",
            ),
            "roots": both(
                "SELECT hex(span_id), duration_ns FROM spans WHERE parent_id IS NULL",
                "SELECT hex(span_id), duration_ns FROM roots",
            ),
            "method_figures": both(
                "SELECT resolution_s, bucket, service, name, calls, errors, total_ns, self_ns,"
                " (SELECT group_concat(key || ':' || value) FROM (SELECT key, value FROM json_each(histogram)"
                " ORDER BY CAST(key AS INTEGER)))"
                " FROM method_figures JOIN methods ON methods.id = method",
                "SELECT resolution_s, bucket, any(service), any(name), sum(calls), sum(errors),"
                " sum(total_ns), sum(self_ns), arrayStringConcat(arrayMap(b -> concat(toString(b.1), ':',"
                " toString(b.2)), arraySort(CAST(sumMap(histogram), 'Array(Tuple(UInt16, UInt64))'))), ',')"
                " FROM method_figures JOIN (SELECT * FROM methods FINAL) AS m ON m.id = method"
                " GROUP BY resolution_s, bucket, method",
            ),
            **{
                table.name: both(_from_sqlite(table), _from_clickhouse(table))
                for table in MIRRORED
                if not table.table
            },
        }
    return {table: each for table, each in found.items() if each is not None}


def _from_sqlite(table: Mirrored) -> str:
    columns = []
    for name, kind in table.columns:
        if kind.startswith("FixedString") or name in ("sums", "runs"):
            columns.append(f"coalesce(nullif(hex({name}), ''), '{'0' * 16}')")
        elif name not in _OWN:
            columns.append(f"coalesce({name}, '')" if "String" in kind else name)
    return f"SELECT {', '.join(columns)} FROM {table.name}"


def _from_clickhouse(table: Mirrored) -> str:
    columns = []
    for name, kind in table.columns:
        if kind.startswith("FixedString") or name in ("sums", "runs"):
            columns.append(f"hex({name})")
        elif name not in _OWN:
            columns.append(name)
    return f"SELECT {', '.join(columns)} FROM {table.name} FINAL"


def open_some(shop: Shop, spans: list[Span]) -> None:
    """Report spans as running."""
    opened = [make_open(trace_id=each.trace_id, span_id=each.span_id, name=each.name) for each in spans]
    shop.store.store([shop.sender.open(*opened)])
