"""What was wrong with what came in, counted by reason: the one list of the reasons.

One idea: nothing that arrives may stop the collector, and nothing that it turns away goes uncounted. The
words are what ``ztrace status`` shows and what people search for: they stay as they are.
"""

import sqlite3

#: A message that is refused as a whole. ``undecodable``, ``foreign``, ``version`` and ``header`` are
#: `ztrace.wire`'s words.
FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER = "frames", "undecodable", "foreign", "version", "header"
OVERSIZED, BODY, SPAN_COUNT = "oversized", "body", "span_count"
#: A span that is refused: the field that is missing, of the wrong type or out of its range.
FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND = "fields", "trace_id", "span_id", "parent_id", "kind"
NAME, TIME, STATUS = "name", "time", "status"
#: A span that is kept, with something in it replaced, cut or left out.
UTF8, LONG_NAME, ATTRIBUTES, LARGE_ATTRIBUTES = "utf8", "long_name", "attributes", "large_attributes"
LINKS, EXCEPTION = "links", "exception"

MESSAGE_REASONS = (FRAMES, UNDECODABLE, FOREIGN, VERSION, HEADER, OVERSIZED, BODY, SPAN_COUNT)
SPAN_REASONS = (FIELDS, TRACE_ID, SPAN_ID, PARENT_ID, KIND, NAME, TIME, STATUS)
MENDED_REASONS = (UTF8, LONG_NAME, ATTRIBUTES, LARGE_ATTRIBUTES, LINKS, EXCEPTION)

#: Characters kept of a refusal's detail: it is shown on one line.
MAX_DETAIL = 200


class Refusals:
    """The refusals of one transaction."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
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

    def write(self, db: sqlite3.Connection, now_ns: int) -> None:
        """Add the counts to the table ``refusals``."""
        db.executemany(
            "INSERT INTO refusals (reason, count, last_ns, detail) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count,"
            " last_ns = excluded.last_ns, detail = excluded.detail",
            [
                (reason, count, now_ns, _one_line(self._details[reason]))
                for reason, count in self.counts.items()
            ],
        )


def _one_line(detail: str) -> str:
    """Return text that SQLite takes and a terminal survives."""
    plain = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in detail[:MAX_DETAIL]
    )
    return plain
