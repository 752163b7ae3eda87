"""Reasons for refusals, and their counts.

One idea: no input may stop the collector, and nothing that is refused goes uncounted. ``ztrace status`` shows
the reasons and people search for them, so their words do not change.
"""

import logging
import sqlite3
from collections import deque
from typing import Protocol

#: Reasons for refusing a whole message; `ztrace.wire` raises ``undecodable``, ``foreign``, ``version`` and
#: ``header``.
FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER = "frames", "undecodable", "foreign", "version", "header"
OVERSIZED, BODY, SPAN_COUNT, PROFILE = "oversized", "body", "span_count", "profile"
#: Reasons for rejecting a connection, or a message that its key does not allow; INCARNATION needs no keys.
HANDSHAKE_FAILED, HANDSHAKE_DENIED, NO_KEY, CONNECTION_LIMIT = (
    "handshake_failed",
    "handshake_denied",
    "no_key",
    "connection_limit",
)
SERVICE_NOT_OF_KEY, KEY_REVOKED, INCARNATION = "service_not_of_key", "key_revoked", "incarnation"
SEVERAL_COLLECTORS = "several_collectors"
#: Reason for refusing a message, or spans of OTLP, that cause an internal error.
INTERNAL_ERROR = "internal_error"
#: Reasons for refusing a whole OTLP request, or a connection without one.
OTLP_BODY, OTLP_OVERSIZED, OTLP_REQUEST = "otlp_body", "otlp_oversized", "otlp_request"
OTLP_ORIGIN, OTLP_CONNECTION = "otlp_origin", "otlp_connection"
#: Reasons for refusing a span: the field that is missing, of the wrong type or out of range.
FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND = "fields", "trace_id", "span_id", "parent_id", "kind"
NAME, TIME, STATUS = "name", "time", "status"
#: Reasons for refusing an unfinished span beyond the limits, and a span with the id of another one.
UNFINISHED, REPEATED_ID = "unfinished", "repeated_id"
#: Reasons for correcting a span, with a value replaced, truncated or left out.
UTF8, LONG_NAME, ATTRIBUTES, LARGE_ATTRIBUTES = "utf8", "long_name", "attributes", "large_attributes"
LINKS, EXCEPTION, TOO_MANY_NAMES, TOO_MANY_GROUPS = (
    "links",
    "exception",
    "too_many_names",
    "too_many_groups",
)
DETAILS, LARGE_DETAILS, END_BEFORE_START = "details", "large_details", "end_before_start"
#: Reason for keeping sampled time without the innermost part of its code.
TOO_MANY_STACKS = "too_many_stacks"
#: Reasons for not delivering an event to a command or a webhook.
EVENT_FAILED, EVENT_LEFT_OUT = "event_failed", "event_left_out"

DOOR_REASONS = (
    HANDSHAKE_FAILED,
    HANDSHAKE_DENIED,
    NO_KEY,
    CONNECTION_LIMIT,
    SERVICE_NOT_OF_KEY,
    KEY_REVOKED,
    INCARNATION,
    SEVERAL_COLLECTORS,
)
MESSAGE_REASONS = (FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER, OVERSIZED, BODY, SPAN_COUNT, PROFILE)
DEFECT_REASONS = (INTERNAL_ERROR,)
OTLP_REASONS = (OTLP_BODY, OTLP_OVERSIZED, OTLP_REQUEST, OTLP_ORIGIN, OTLP_CONNECTION)
SPAN_REASONS = (FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND, NAME, TIME, STATUS, UNFINISHED, REPEATED_ID)
MENDED_REASONS = (
    UTF8,
    LONG_NAME,
    ATTRIBUTES,
    LARGE_ATTRIBUTES,
    LINKS,
    EXCEPTION,
    TOO_MANY_NAMES,
    TOO_MANY_GROUPS,
    DETAILS,
    LARGE_DETAILS,
    END_BEFORE_START,
    TOO_MANY_STACKS,
)
EVENT_REASONS = (EVENT_FAILED, EVENT_LEFT_OUT)

#: Characters kept of a refusal's detail, which is shown on one line.
MAX_DETAIL = 200
#: Refused spans whose ids are kept, the newest, so that a tree can say why the parent of a span is missing.
MAX_SPANS = 10_000

_log = logging.getLogger(__name__)


class Note(Protocol):
    """Function that counts refusals: `Refusals.note`, or one that forwards to it."""

    def __call__(self, reason: str, detail: str, count: int = 1) -> None:
        """Count some refusals of one reason."""
        ...


def drop_note(reason: str, detail: str, count: int = 1) -> None:
    """Count nothing, as a `Note` for content of ztrace's own."""


class Refusals:
    """Refusals of one transaction.

    Attributes:
        counts: by reason.
        spans: trace id, span id and reason of each refused span.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.spans: deque[tuple[bytes, bytes, str]] = deque(maxlen=MAX_SPANS)
        self._details: dict[str, str] = {}

    @property
    def total(self) -> int:
        """Number of refusals of all reasons."""
        return sum(self.counts.values())

    def note(self, reason: str, detail: str, count: int = 1) -> None:
        """Count refusals, and keep the last detail of each reason."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self._details[reason] = detail

    def add(self, other: "Refusals") -> None:
        """Add the refusals of another object."""
        for reason, count in other.counts.items():
            self.note(reason, other._details[reason], count)
        self.spans.extend(other.spans)

    def write(self, db: sqlite3.Connection, now_ns: int) -> None:
        """Add the counts to the table ``refusals``, and the spans to ``refused_spans``."""
        for reason, count in self.counts.items():
            _log.debug("refused or mended %d as %s: %s", count, reason, _one_line(self._details[reason]))
        db.executemany(
            "INSERT INTO refusals (reason, count, last_ns, detail) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count,"
            " last_ns = excluded.last_ns, detail = excluded.detail",
            [
                (reason, count, now_ns, _one_line(self._details[reason]))
                for reason, count in self.counts.items()
            ],
        )
        if self.spans:
            db.executemany(
                "INSERT INTO refused_spans (trace_id, span_id, reason, at_ns) VALUES (?, ?, ?, ?)",
                [(*span, now_ns) for span in self.spans],
            )
            db.execute(
                "DELETE FROM refused_spans WHERE id <= (SELECT max(id) FROM refused_spans) - ?", (MAX_SPANS,)
            )


def _one_line(detail: str) -> str:
    """Return a detail that is valid in SQLite and safe on a terminal, on one line."""
    plain = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in detail[:MAX_DETAIL]
    )
    return plain
