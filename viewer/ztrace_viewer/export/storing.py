"""Storing of imported spans in a database.

One idea: a request is stored as if it had been received when its spans ended, in transactions of some
thousand spans. Spans already stored are recognized by their ids, so an interrupted import can be repeated.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.addresses import DEFAULT_OTLP_HTTP
from ztrace.errors import DatabaseInUse
from ztrace_collector.checking.parcels import Parcel, pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.refusals import MENDED_REASONS, Refusals
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.status import read_refusal_counts, read_totals

#: Spans of one transaction; more are not faster.
TURN_SPANS = 4096


class Storing:
    """Target database of an import.

    Attributes:
        stored: number of new spans.
        duplicates: number of spans that were stored before.
        traces: number of new traces.
        counts: number of refused spans and corrected values, by reason.
    """

    def __init__(self, database: Path) -> None:
        """Prepare a database, which is opened or created once there is something to store."""
        self.stored = self.duplicates = self.traces = 0
        self.counts: Counter[str] = Counter()
        self._noted = Refusals()
        self._database = database
        self._store: Store | None = None
        self._waiting: list[Parcel] = []
        self._waiting_spans = 0

    def open_if_there(self) -> None:
        """Open an existing database, so that an error is raised before the files are read."""
        if self._database.exists():
            self.open()

    def open(self) -> None:
        """Open or create the database; `close` closes it.

        Raises:
            DatabaseError: the database cannot be written.
        """
        try:
            self._store = Store(self._database)
        except DatabaseInUse as error:
            raise DatabaseInUse(
                f"a collector writes to {self._database}",
                hint=f"import with --to http://{DEFAULT_OTLP_HTTP} if it listens for OTLP, or stop it first",
            ) from error

    def close(self) -> None:
        """Close the database, and discard spans that were not flushed."""
        if self._store is not None:
            self._store.close()

    def settle(self) -> Iterator[None]:
        """Count the stored trees in the figures by path; yield after each step."""
        if self._store is not None:
            yield from settle_all(self._store)

    def note(self, reason: str, detail: str, count: int = 1) -> None:
        """Count spans that a reader cannot read, or values that it corrects; stored with the next spans."""
        self._noted.note(reason, detail, count)
        self.counts[reason] += count

    @property
    def refused(self) -> Counter[str]:
        """Number of refused spans, by reason."""
        return Counter({name: count for name, count in self.counts.items() if name not in MENDED_REASONS})

    @property
    def mended(self) -> Counter[str]:
        """Number of corrected values, by reason."""
        return Counter({name: count for name, count in self.counts.items() if name in MENDED_REASONS})

    def add(self, request: ExportTraceServiceRequest) -> None:
        """Add a request, and store all added ones once they fill a transaction."""
        for parcel in _pack(request):
            self._waiting.append(parcel)
            self._waiting_spans += parcel.span_count
        if self._waiting_spans >= TURN_SPANS:
            self.flush()

    def flush(self) -> None:
        """Store all added requests.

        Raises:
            DatabaseError: none of them is stored.
        """
        if not self._waiting:
            return
        if self._store is None:
            self.open()
        assert self._store is not None
        before, counts_before = self._count_traces(), self._read_counts()
        written = self._store.store(parcels=self._waiting)
        for outcome in written.outcomes or ():
            self.stored += outcome.stored
            self.duplicates += outcome.duplicates
        self.traces += self._count_traces() - before
        self.counts += self._read_counts() - counts_before
        self._store.noted.add(self._noted)
        self._noted = Refusals()
        if self._store.noted.total:
            self._store.store()
        self._waiting, self._waiting_spans = [], 0

    def _read_counts(self) -> Counter[str]:
        assert self._store is not None
        return Counter(read_refusal_counts(self._store.read))

    def _count_traces(self) -> int:
        assert self._store is not None
        return read_totals(self._store.read).get("traces", 0)


def _pack(request: ExportTraceServiceRequest) -> Iterator[Parcel]:
    for resource in request.resource_spans:
        # Each process was last seen when its last span ended, and is not live now.
        ends_ns = [span.end_time_unix_nano for scope in resource.scope_spans for span in scope.spans]
        for batch in read_request(ExportTraceServiceRequest(resource_spans=[resource])):
            for parcel in pack(batch):
                yield parcel._replace(seen_ns=max(ends_ns, default=0))
