"""The forwarding process: it reads the file, with one thread per destination.

One idea: in its own interpreter, building and compressing messages takes nothing from the collector.
"""

import logging
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from ztrace_collector.forwarding.child import FINISH, Output, open_file, prepare
from ztrace_collector.forwarding.pauses import Pauses
from ztrace_collector.otlp.forwarding.messages import Orders, Report
from ztrace_collector.otlp.forwarding.rows import read_open_ended, read_place
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan, read_after, read_process, read_unfinished
from ztrace_collector.otlp.sending.answers import Later, Transport
from ztrace_collector.otlp.sending.deliver import Part, deliver, open_transport
from ztrace_collector.otlp.sending.destinations import Destination
from ztrace_collector.storing.defects import log_defect
from ztrace_collector.tables.spans import last_span_id

#: Maximum of spans in a request, fewer if they are large.
MAX_SPANS = 2_000
#: Poll interval for stored spans.
LOOK_S = 0.2
#: Poll interval for unfinished spans whose processes have ended.
LOOK_UNFINISHED_S = 2.0
#: Maximum of answered requests whose reports are not confirmed when the next request is sent.
UNWRITTEN = 1

_log = logging.getLogger(__name__)


class Courier(threading.Thread):
    """Thread that sends to one destination."""

    def __init__(
        self, key: int, destination: Destination, database: Path, output: Output, *, unfinished: bool
    ) -> None:
        super().__init__(name=destination.url, daemon=True)
        self._key = key
        self._destination = destination
        self._database = database
        self._output = output
        self._unfinished = unfinished
        self._finishing = threading.Event()
        self._unwritten = 0
        self._written = threading.Condition()
        self._pauses = Pauses()
        #: Consecutive errors, and whether the user has been warned of rejected spans.
        self._failures = 0
        self._has_refused = False
        self._limit = MAX_SPANS

    def confirm(self) -> None:
        """Count a report as written."""
        with self._written:
            self._unwritten -= 1
            self._written.notify()

    def finish(self) -> None:
        """Send the spans that can be sent at once, and end."""
        self._finishing.set()

    def run(self) -> None:
        """Send stored spans until `finish`."""
        going = True
        while going:
            try:
                with (
                    closing(open_transport(self._destination)) as way,
                    closing(open_file(self._database)) as db,
                ):
                    self._send_all(db, way)
                return
            except Exception as error:
                # Retry from the position after a delay; the threads of other destinations are not affected.
                if not isinstance(error, (sqlite3.Error, OSError)):
                    log_defect(_log, f"sending to {self._destination.url}", error)
                text = self._destination.redact(f"{type(error).__name__}: {error}")
                going = self._retry(Later(text))

    def _send_all(self, db: sqlite3.Connection, transport: Transport) -> None:
        builder = Builder(partial(read_process, db))
        place = read_place(db, self._key)
        look_unfinished_s = 0.0
        while True:
            finishing = self._finishing.is_set()
            spans, last_id = self._read(db, place)
            if spans:
                reached = self._send(place, spans, last_id, builder, transport)
                if reached == place:
                    return
                place = reached
                continue
            if last_id > place:
                self._report(Report(self._key, time.time_ns(), last_id, skipped=last_id - place))
                place = last_id
            if self._unfinished and (finishing or time.monotonic() >= look_unfinished_s):
                look_unfinished_s = time.monotonic() + LOOK_UNFINISHED_S
                if not self._send_open_ended(db, builder, transport):
                    return
            if finishing:
                return
            self._finishing.wait(LOOK_S)

    def _read(self, db: sqlite3.Connection, place: int) -> tuple[list[StoredSpan], int]:
        """Return the next spans, and the id up to which they are complete."""
        db.execute("BEGIN")
        try:
            spans = read_after(db, place, self._limit)
            return spans, spans[-1].id if len(spans) == self._limit else last_span_id(db)
        finally:
            db.execute("COMMIT")

    def _send(
        self, place: int, spans: list[StoredSpan], last_id: int, builder: Builder, transport: Transport
    ) -> int:
        """Send spans and report the outcome; return the new position."""
        parts = 0
        for part in deliver(spans, builder.request, transport, self._retry):
            parts += 1
            end = last_id if part.spans[-1] is spans[-1] else part.spans[-1].id
            # Ids have no gaps, so a missing one was deleted.
            self._report_part(part, Report(self._key, 0, end, skipped=end - place - len(part.spans)))
            place = end
        # Read fewer spans at a time if they are large, to bound the memory.
        self._limit = max(1, self._limit // 2) if parts > 1 else min(MAX_SPANS, 2 * self._limit)
        return place

    def _send_open_ended(self, db: sqlite3.Connection, builder: Builder, transport: Transport) -> bool:
        """Send spans that will never end; return False to give up."""
        while wanted := set(read_open_ended(db, self._key, MAX_SPANS)):
            traces = list({trace_id for trace_id, _ in wanted})
            spans = [span for span in read_unfinished(db, traces) if (span.trace_id, span.span_id) in wanted]
            reached = 0
            for part in deliver(spans, builder.request, transport, self._retry):
                reached += len(part.spans)
                ids = [(span.trace_id.hex(), span.span_id.hex()) for span in part.spans]
                self._report_part(part, Report(self._key, 0, unfinished=ids))
            if reached < len(spans) or not spans:
                return not spans
            with self._written:
                self._written.wait_for(lambda: self._unwritten <= 0)
        return True

    def _report_part(self, part: Part[StoredSpan], report: Report) -> None:
        self._pauses.reset()
        if self._failures > 1:
            self._output.say(f"{self._destination.url} answers again")
        self._failures = 0
        if part.refused and not self._has_refused:
            ((reason, (_, detail)), *_) = part.refused.items()
            said = f": {detail}" if detail else ""
            self._output.say(f"{self._destination.url} rejects spans: {reason}{said}; see 'ztrace status'")
        self._has_refused = bool(part.refused)
        self._report(report._replace(at_ns=time.time_ns(), sent=part.sent, refused=dict(part.refused)))

    def _report(self, report: Report) -> None:
        """Send a report and wait for the previous one's confirmation, to bound duplicates after a kill."""
        with self._written:
            self._unwritten += 1
        self._output.send(report.to_line())
        with self._written:
            self._written.wait_for(lambda: self._unwritten <= UNWRITTEN)

    def _retry(self, later: Later) -> bool:
        """Wait before a retry; return False if the process is to end."""
        self._failures += 1
        pause_s = self._pauses.next_s(later.after_s)
        self._report(Report(self._key, time.time_ns(), error=later.error))
        if self._failures == 2:
            self._output.say(f"{self._destination.url} accepts no spans: {later.error}; retrying")
        return not self._finishing.wait(pause_s)


def main() -> None:
    """Run the process; its argument is the number of a log level."""
    output = prepare()
    # Reports have the connection errors that gRPC would print.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    line = sys.stdin.buffer.readline()
    if not line:
        return
    orders = Orders.from_line(line)
    couriers = {
        key: Courier(key, destination, orders.database, output, unfinished=orders.unfinished)
        for key, destination in orders.destinations
    }
    for courier in couriers.values():
        courier.start()
    threading.Thread(target=_listen, args=(couriers,), daemon=True).start()
    for courier in couriers.values():
        courier.join()
    # The interpreter's normal exit would wait for threads of libraries.
    os._exit(0)


def _listen(couriers: dict[int, Courier]) -> None:
    """Read the collector's lines until it ends."""
    for line in sys.stdin.buffer:
        if line == FINISH:
            for courier in couriers.values():
                courier.finish()
        else:
            couriers[int(line)].confirm()
    os._exit(0)


if __name__ == "__main__":
    main()
