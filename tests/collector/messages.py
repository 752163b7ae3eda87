"""Messages as a publisher sends them, for the collector's tests."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack

from ztrace.records import OK, UNFINISHED, WAIT, Profile, Span
from ztrace.wire import BEAT, BYE, CRASH, DATA, OPEN, PROFILE, TOMBSTONE, TOPIC, Header, Request, pack_header
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS
from ztrace_collector.refusals import HANDSHAKE_FAILED
from ztrace_collector.storing.requesting import make_request, write_request

#: Base time of the tests, which keeps rows readable: 2024-01-01T00:00:00Z.
EPOCH_NS = 1_704_067_200_000_000_000
MS = 1_000_000


def trace_id(number: int) -> bytes:
    """Return a nonzero trace id."""
    return (number + 1).to_bytes(16, "big")


def span_id(number: int) -> bytes:
    """Return a nonzero span id."""
    return (number + 1).to_bytes(8, "big")


def make_span(number: int = 0, **changes: Any) -> Span:
    """Return an ended root span of 10 ms."""
    span = Span(
        trace_id=trace_id(number),
        span_id=span_id(number),
        parent_id=None,
        kind=2,
        name="charge",
        start_ns=EPOCH_NS,
        duration_ns=10 * MS,
        self_ns=10 * MS,
        cpu_ns=None,
        status=OK,
        attributes=None,
        links=None,
        exception=None,
    )
    return span._replace(**changes)


def make_open(number: int = 0, **changes: Any) -> Span:
    """Return an unfinished root span."""
    open_ended: dict[str, Any] = {"duration_ns": None, "self_ns": None, "status": UNFINISHED}
    return make_span(number, **(open_ended | changes))


def make_profile(**changes: Any) -> Profile:
    """Return a profile of 2 samples in two stacks: ``main`` calls ``load``, which waits, and ``render``."""
    profile = Profile(
        first=0,
        samples=2,
        start_ns=EPOCH_NS,
        end_ns=EPOCH_NS + 10_000 * MS,
        answers=[],
        texts=["shop.py", "main", "load", "render", "charge"],
        frames=[0, 1, 3, 0, 2, 7, 0, 3, 9],
        stacks=[0, 0, 1, 1, 1, 2],
        methods=[2, 4],
        sums=[0, 2, WAIT, 20_000, 0, 3, 0, 20_000],
        spans=[],
    )
    return profile._replace(**changes)


def pack_body(spans: Any) -> bytes:
    """Return a packed body; elements that are no spans are packed unchanged."""
    body: bytes = msgpack.packb(spans)
    return body


class Sender:
    """One incarnation of a publisher without a socket, which creates messages and keeps its own account."""

    def __init__(self, number: int = 0, service: str = "billing") -> None:
        self.incarnation = bytes([number + 1]) * 16
        self.service = service
        self.sequence = self.floor = self.created = self.dropped = self.retired = self.sampled = 0
        self.mended: dict[str, int] = {}

    def header(self, kind: int, **changes: Any) -> Header:
        """Return a header with the sender's current counts."""
        header = Header(
            kind=kind,
            incarnation=self.incarnation,
            sequence=self.sequence,
            floor=self.floor,
            covered=int(kind in (DATA, PROFILE, BYE, CRASH)),
            span_count=0,
            created=self.created,
            dropped=self.dropped,
            retired=self.retired,
            mended=self.mended,
            service=self.service,
            host="desk",
            pid=42,
            started_ns=EPOCH_NS,
            sampled=self.sampled,
        )
        return header._replace(**changes)

    def message(self, kind: int, body: bytes = b"", **changes: Any) -> list[bytes]:
        """Return a message that takes no sequence number."""
        return [TOPIC, pack_header(self.header(kind, **changes)), body]

    def data(self, *spans: Any, body: bytes | None = None, **changes: Any) -> list[bytes]:
        """Return the next batch."""
        self.created += len(spans)
        changes = {"span_count": len(spans)} | changes
        message = self.message(DATA, pack_body(spans) if body is None else body, **changes)
        self.sequence += 1
        return message

    def profile(self, profile: Profile | None = None, *, body: bytes | None = None) -> list[bytes]:
        """Return the next batch, with a profile whose samples are numbered after those before."""
        profile = make_profile() if profile is None else profile
        profile = profile._replace(first=self.sampled)
        self.sampled += profile.samples
        message = self.message(PROFILE, pack_body(profile) if body is None else body)
        self.sequence += 1
        return message

    def beat(self) -> list[bytes]:
        """Return a heartbeat message with the current counts."""
        return self.message(BEAT)

    def tombstone(self, covered: int, span_count: int, body: bytes = b"") -> list[bytes]:
        """Return a tombstone for the next batches."""
        self.created += span_count
        message = self.message(TOMBSTONE, body, covered=covered, span_count=span_count)
        self.sequence += covered
        return message

    def open(self, *spans: Any) -> list[bytes]:
        """Return a message with unfinished spans."""
        return self.message(OPEN, pack_body(spans), span_count=len(spans))

    def bye(self, kind: int = BYE, body: bytes = b"", **changes: Any) -> list[bytes]:
        """Return the final message, which takes a sequence number."""
        message = self.message(kind, body, **changes)
        self.sequence += 1
        return message

    def crash(self) -> list[bytes]:
        """Return the final message that an heir sends for a crashed process."""
        return self.bye(CRASH)


def rows(path: Path, sql: str, *parameters: Any) -> list[dict[str, Any]]:
    """Return a query's rows, read over a separate connection."""
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(sql, parameters)]


def row(path: Path, sql: str, *parameters: Any) -> dict[str, Any]:
    """Return a query's only row."""
    (only,) = rows(path, sql, *parameters)
    return only


def refusals(path: Path, *, strangers: bool = False) -> dict[str, int]:
    """Return the counts of refusals by reason.

    Args:
        path: the database.
        strangers: include failed handshakes. Clients of other tests may still try a port that the system has
            given to this collector since.
    """
    counts = {one["reason"]: one["count"] for one in rows(path, "SELECT reason, count FROM refusals")}
    return {reason: count for reason, count in counts.items() if strangers or reason != HANDSHAKE_FAILED}


def is_balanced(publisher: dict[str, Any]) -> bool:
    """Return whether a publisher's row accounts for every span it created."""
    columns = ("spans_stored", "spans_elsewhere", *LOSS_COLUMNS.values())
    samples, *parts = (publisher[column] for column in SAMPLE_COLUMNS)
    spans = sum(publisher[column] for column in columns)
    return bool(publisher["spans_created"] == spans and samples == sum(parts))


def request_profile(path: Path, service: str, hz: int, seconds: int, now_ns: int) -> Request:
    """Write a request, and return it."""
    request = make_request(service, hz, seconds)
    write_request(path, request, now_ns)
    return request
