"""Delivery of the journal's rows to ClickHouse.

One idea: spans go in blocks between two positions in the journal. The end of a block is written there first,
then the block is sent, then the position is moved. Whichever side is killed, the block is sent again as it
was, and the engine, which knows its token, stores what is missing of it and nothing twice.
"""

import gc
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ztrace.errors import ZtraceError
from ztrace_collector.clickhouse.address import ClickHouseAddress
from ztrace_collector.clickhouse.engine import insert_block, open_engine
from ztrace_collector.clickhouse.handing import RequestsForProfiles
from ztrace_collector.clickhouse.initializing import check_tables
from ztrace_collector.clickhouse.journals import announce, read_delivered
from ztrace_collector.clickhouse.lease import EngineClaims, Lease
from ztrace_collector.clickhouse.messages import Orders, Step
from ztrace_collector.clickhouse.reading import Block, Journal, Spans
from ztrace_collector.clickhouse.tasks import TASKS, LeasedTasks, MakeTask
from ztrace_collector.clickhouse.thinning import Thinner
from ztrace_collector.forwarding.child import Output, open_file
from ztrace_collector.forwarding.pauses import Pauses
from ztrace_collector.storing.defects import log_defect
from ztrace_collector.tables.spans import last_span_id

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Interval of blocks while fewer spans than a whole block arrive: each makes parts that the engine merges.
LOOK_S = 1.0
#: Interval of telling that nothing has been left behind, while there are no spans.
ANNOUNCE_S = 5.0
#: Longest time without a report: retention waits for an engine that is silent for longer.
TELL_S = 20.0


class _Start(NamedTuple):
    """Row of ``shipping``."""

    journal: str
    place: int
    block_end: int | None
    block_ms: int
    complete: int


_READ = f"SELECT {', '.join(_Start._fields)} FROM shipping WHERE engine = ?"

_log = logging.getLogger(__name__)


class Delivery:
    """Delivery over one connection, from the position in the journal.

    It keeps nothing that the journal does not have: the next one continues wherever this one ends.

    Attributes:
        journal: the journal's own id.
    """

    def __init__(
        self,
        client: "Client",
        db: sqlite3.Connection,
        address: ClickHouseAddress,
        report: Callable[[Step], None],
    ) -> None:
        """Begin, and repeat the block that may have been sent before.

        Args:
            client: from `ztrace_collector.clickhouse.engine.open_engine`.
            db: the journal.
            address: address of the engine.
            report: writes a step into the journal before it returns, with its destination and time.

        Raises:
            EngineError: the engine cannot be used.
        """
        self._client, self._db, self._report = client, db, report
        self._rows = Journal(db)
        self._engine = check_tables(client, address).id
        #: Number of the last method that was sent over this connection.
        self._methods = 0
        #: Spans stored and skipped since the last report, and its time.
        self._sent = self._skipped = 0
        self._told_s = 0.0
        report(Step(0, 0, self._engine, begins=True))
        start = _Start(*db.execute(_READ, (self._engine,)).fetchone())
        self.journal, self._place, self._complete = start.journal, start.place, start.complete
        self._delivered_ms = read_delivered(client, self.journal)
        self._announced_s = 0.0
        if start.block_end is not None:
            # With the same boundaries, token and time of arrival it is stored once.
            spans = self._rows.read_spans(self._place, start.block_end, is_bounded=False)
            self._send_block(spans, start.block_end, start.block_ms)
            self._delivered_ms = max(self._delivered_ms, start.block_ms)

    def go_on(self) -> None:
        """Send what the journal has at present.

        Raises:
            EngineError: the engine cannot be used; a new connection continues.
        """
        looked_ms, before_ms = _now_ms(), self._delivered_ms
        last_id, last_change = self._look()
        self._send_spans(last_id)
        changes = self._send_changes(last_change)
        if self._complete < last_id or changes or self._sent or time.monotonic() > self._told_s + TELL_S:
            self._tell(Step(0, 0, self._engine, changes=changes, complete=last_id))
            self._complete = last_id
        if self._delivered_ms > before_ms or time.monotonic() > self._announced_s + ANNOUNCE_S:
            self._announce(looked_ms)

    def _announce(self, looked_ms: int) -> None:
        """Tell other processes that everything stored in the journal up to a time has been sent."""
        # Later blocks arrive after this time, although the clock may be set back.
        self._delivered_ms = max(self._delivered_ms, looked_ms)
        announce(self._client, self.journal, self._delivered_ms)
        self._announced_s = time.monotonic()

    def _look(self) -> tuple[int, int]:
        """Return the ids of the last span and of the last change."""
        self._db.execute("BEGIN")
        try:
            last_id = last_span_id(self._db)
            (last_change,) = self._db.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()
            return last_id, int(last_change)
        finally:
            self._db.execute("COMMIT")

    def _send_spans(self, last_id: int) -> None:
        """Send the spans after the position, up to an id."""
        while self._place < last_id:
            with _without_collection():
                spans = self._rows.read_spans(self._place, last_id, is_bounded=True)
                end, arrived_ms = spans.last if spans else last_id, max(_now_ms(), self._delivered_ms + 1)
                self._tell(Step(0, 0, self._engine, block_end=end, block_ms=arrived_ms))
                self._send_block(spans, end, arrived_ms)
                self._delivered_ms = arrived_ms

    def _send_block(self, spans: Spans | None, end: int, arrived_ms: int) -> None:
        """Send the spans between the position and an id, of which retention may have deleted some."""
        count = 0
        if spans is not None:
            count = spans.number
            self._send_methods()
            self._insert(spans.arrive(self.journal, arrived_ms), f"{self.journal}:{self._place + 1}-{end}")
        self._sent += count
        self._skipped += end - self._place - count
        self._place = end

    def _send_methods(self) -> None:
        """Send the methods that are new, before rows that name them."""
        block, self._methods = self._rows.read_methods(self._methods)
        if block is not None:
            self._insert(block)

    def _send_changes(self, last: int) -> int | None:
        """Send the rows that changed, up to a change; return the change, None if nothing has changed."""
        reached = 0
        while reached < last:
            self._db.execute("BEGIN")
            try:
                blocks, reached = self._rows.read_changes(reached, last, self.journal, int(time.time()))
            finally:
                self._db.execute("COMMIT")
            self._send_methods()
            for block in blocks:
                self._insert(block)
        return reached or None

    def _insert(self, block: Block, token: str | None = None) -> None:
        insert_block(self._client, block.table, block.columns, block.data, token)

    def _tell(self, step: Step) -> None:
        """Report a step with the position."""
        self._report(step._replace(place=self._place, sent=self._sent, skipped=self._skipped))
        self._sent = self._skipped = 0
        self._told_s = time.monotonic()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _without_collection() -> Iterator[None]:
    """Spare a block's million objects, which have no cycles, from being searched for cycles."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Shipper(threading.Thread):
    """Thread that delivers everything to one ClickHouse database, over one connection after the other."""

    def __init__(self, orders: Orders, output: Output) -> None:
        super().__init__(name="clickhouse", daemon=True)
        self._orders = orders
        self._output = output
        self._finishing = threading.Event()
        self._written = threading.Semaphore(0)
        self._pauses = Pauses()
        self._failures = 0
        self._lease = Lease()
        self._tasks: Sequence[MakeTask] = TASKS
        if orders.thin is not None:
            self._tasks = (*TASKS, partial(Thinner, share=orders.thin))

    def confirm(self) -> None:
        """Count a step as written."""
        self._written.release()

    def finish(self) -> None:
        """Send what can be sent at once, and end."""
        self._finishing.set()

    def run(self) -> None:
        """Send rows until `finish`."""
        address = self._orders.address
        while True:
            try:
                with open_engine(address) as client, closing(open_file(self._orders.database)) as db:
                    delivery = Delivery(client, db, address, self._report)
                    claims = EngineClaims(client, delivery.journal)
                    requests = RequestsForProfiles(client, db, self._orders.database)
                    self._deliver(delivery, LeasedTasks(client, claims, self._lease, self._tasks), requests)
                return
            except (ZtraceError, sqlite3.Error, OSError) as error:
                text = str(error)
            except Exception as error:
                log_defect(_log, f"sending to {address.url}", error)
                text = f"{type(error).__name__}: {error}"
            if not self._put_off(address.redact(text)):
                return

    def _deliver(self, delivery: Delivery, tasks: LeasedTasks, requests: RequestsForProfiles) -> None:
        while True:
            is_last = self._finishing.is_set()
            delivery.go_on()
            self._pauses.reset()
            if self._failures > 1:
                self._output.say(f"{self._orders.address.url} answers again")
            self._failures = 0
            if is_last:
                tasks.end()
                return
            began_s = time.monotonic()
            requests.step()
            tasks.run(LOOK_S)
            self._finishing.wait(max(0.0, began_s + LOOK_S - time.monotonic()))

    def _report(self, step: Step) -> None:
        """Report a step, and wait until it is written."""
        self._output.send(step._replace(at_ns=time.time_ns(), destination=self._orders.destination).to_line())
        self._written.acquire()

    def _put_off(self, error: str) -> bool:
        """Report an error and wait before a retry; return False if the collector ends."""
        self._failures += 1
        self._report(Step(0, 0, error=error))
        if self._failures == 2:
            self._output.say(f"{error}; spans stay in {self._orders.database.name} until it works again")
        return not self._finishing.wait(self._pauses.next_s(None))
