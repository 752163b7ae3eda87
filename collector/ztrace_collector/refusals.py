"""What was wrong with what came in, counted by reason: the one list of the reasons.

One idea: nothing that arrives may stop the collector, and nothing that it turns away goes uncounted. The
words are what ``ztrace status`` shows and what people search for: they stay as they are.
"""

import logging
import sqlite3
from collections import deque
from typing import Protocol

#: A message that is refused as a whole. ``undecodable``, ``foreign``, ``version`` and ``header`` are
#: `ztrace.wire`'s words.
FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER = "frames", "undecodable", "foreign", "version", "header"
OVERSIZED, BODY, SPAN_COUNT = "oversized", "body", "span_count"
#: Who was not let in, or sent what its key does not allow; ``INCARNATION`` without keys, too.
HANDSHAKE_FAILED, HANDSHAKE_DENIED, CONNECTION_LIMIT = (
    "handshake_failed",
    "handshake_denied",
    "connection_limit",
)
SERVICE_NOT_OF_KEY, KEY_REVOKED, INCARNATION = "service_not_of_key", "key_revoked", "incarnation"
#: A message, or spans of OTLP, that make ztrace itself fail.
INTERNAL_ERROR = "internal_error"
#: A request of OTLP that is refused as a whole, or a connection that brought none.
OTLP_BODY, OTLP_OVERSIZED, OTLP_REQUEST = "otlp_body", "otlp_oversized", "otlp_request"
OTLP_ORIGIN, OTLP_CONNECTION = "otlp_origin", "otlp_connection"
#: A span that is refused: the field that is missing, of the wrong type or out of its range.
FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND = "fields", "trace_id", "span_id", "parent_id", "kind"
NAME, TIME, STATUS = "name", "time", "status"
#: A span that has not ended, beyond those that are kept.
UNFINISHED = "unfinished"
#: A span that is kept, with something in it replaced, cut or left out.
UTF8, LONG_NAME, ATTRIBUTES, LARGE_ATTRIBUTES = "utf8", "long_name", "attributes", "large_attributes"
LINKS, EXCEPTION, TOO_MANY_NAMES = "links", "exception", "too_many_names"
DETAILS, LARGE_DETAILS, END_BEFORE_START = "details", "large_details", "end_before_start"

DOOR_REASONS = (
    HANDSHAKE_FAILED,
    HANDSHAKE_DENIED,
    CONNECTION_LIMIT,
    SERVICE_NOT_OF_KEY,
    KEY_REVOKED,
    INCARNATION,
)
MESSAGE_REASONS = (FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER, OVERSIZED, BODY, SPAN_COUNT)
DEFECT_REASONS = (INTERNAL_ERROR,)
OTLP_REASONS = (OTLP_BODY, OTLP_OVERSIZED, OTLP_REQUEST, OTLP_ORIGIN, OTLP_CONNECTION)
SPAN_REASONS = (FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND, NAME, TIME, STATUS, UNFINISHED)
MENDED_REASONS = (
    UTF8,
    LONG_NAME,
    ATTRIBUTES,
    LARGE_ATTRIBUTES,
    LINKS,
    EXCEPTION,
    TOO_MANY_NAMES,
    DETAILS,
    LARGE_DETAILS,
    END_BEFORE_START,
)

#: Characters kept of a refusal's detail: it is shown on one line.
MAX_DETAIL = 200
#: Refused spans whose ids are kept, the newest: so that a child in a tree can say what became of its parent.
MAX_SPANS = 10_000

_log = logging.getLogger(__name__)


class Note(Protocol):
    """Function that counts refusals: `Refusals.note`, or one that hands them on to it."""

    def __call__(self, reason: str, detail: str, count: int = 1) -> None:
        """Count some refusals of one reason."""


class Refusals:
    """The refusals of one transaction.

    Attributes:
        counts: by reason.
        spans: ids of spans that were refused, with the reason.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.spans: deque[tuple[bytes, bytes, str]] = deque(maxlen=MAX_SPANS)
        self._details: dict[str, str] = {}

    @property
    def total(self) -> int:
        """How many there were, whatever the reason."""
        return sum(self.counts.values())

    def note(self, reason: str, detail: str, count: int = 1) -> None:
        """Count refusals; the last detail of each reason is kept."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        self._details[reason] = detail

    def add(self, other: "Refusals") -> None:
        """Count another's as well."""
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
    """Return text that SQLite takes and a terminal survives."""
    plain = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in detail[:MAX_DETAIL]
    )
    return plain
