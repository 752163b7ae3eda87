"""Tables that ClickHouse has as copies of the journal's, row by row.

One idea: a row of these tables may change after it was sent, so each state of it is sent, and the engine
keeps the one with the highest ``revision``: read them with FINAL. Revisions are numbers of the journal's
table ``changes``, so sending a state twice changes nothing. Rows that retention deletes from the journal
stay until the engine's own TTL; only those that the journal takes back are deleted.

The rules for columns: ids of methods and instances are hashes that every journal shares; other numbers named
``id`` are the journal's, beside ``journal``. Text and parents that are NULL in SQLite are empty, or zero.
"""

from typing import NamedTuple

#: Types of most columns.
TEXT, LABEL, INT, UINT = "String CODEC(ZSTD(3))", "LowCardinality(String)", "Int64", "UInt64"
TRACE_ID, SPAN_ID = "FixedString(16)", "FixedString(8)"
NUMBER_OR_NULL = "Nullable(Int64)"


class Mirrored(NamedTuple):
    """One table, in both stores.

    Attributes:
        name: name in both.
        columns: name and ClickHouse type, in the order of both SELECT and INSERT.
        order: the sorting key, which identifies a row.
        key: columns of the journal's primary key.
        sources: SQLite expressions of columns that are not columns of the table; ``t`` is the table.
        deleted_when: condition on ``OLD``, under which a deletion is sent on; None for never.
        deleted_key: columns of the sorting key with expressions on ``OLD``, if they are not those of the key.
        joined: further tables of the SELECT.
        table: the journal's table, if its name is another.
        events: changes that are sent on.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    order: str
    key: tuple[str, ...] = ("id",)
    sources: tuple[tuple[str, str], ...] = ()
    deleted_when: str | None = None
    deleted_key: tuple[tuple[str, str], ...] = ()
    joined: str = ""
    table: str = ""
    events: tuple[str, ...] = ("INSERT", "UPDATE")

    @property
    def source(self) -> str:
        """Name of the journal's table."""
        return self.table or self.name


_COUNTS = [
    "first_sequence",
    "next_sequence",
    "spans_created",
    "spans_stored",
    "spans_dropped",
    "spans_tombstoned",
    "spans_missing",
    "spans_undelivered",
    "spans_crashed",
    "spans_refused",
    "spans_elsewhere",
    "acknowledged_elsewhere",
    "samples_created",
    "samples_stored",
    "samples_lost",
    "samples_elsewhere",
    "first_seen_ns",
    "last_seen_ns",
]
#: Spans and exceptions are deleted first where retention deletes a trace.
_SPAN_IS_STORED = "EXISTS (SELECT 1 FROM spans WHERE trace_id = OLD.trace_id AND span_id = OLD.span_id)"
_IS_RAISED = "EXISTS (SELECT 1 FROM exceptions WHERE trace_id = OLD.trace_id)"
_GROUP = (("exception_group", "exception_groups.fingerprint"),)
_JOIN_GROUP = "{} JOIN exception_groups ON exception_groups.id = t.exception_group"

#: The tables. Those that no reader needs stay in the journal: see docs/reference/clickhouse.md.
MIRRORED = (
    Mirrored(
        "instances",
        (
            ("id", UINT),
            ("instance_id", TEXT),
            ("service", LABEL),
            ("host", LABEL),
            ("pid", INT),
            ("started_ns", INT),
            ("spans_expired", INT),
            ("resource", TEXT),
            ("processes", INT),
            ("version", TEXT),
        ),
        "id",
    ),
    Mirrored(
        "publishers",
        (
            ("id", UINT),
            ("instance", UINT),
            ("state", LABEL),
            *((name, INT) for name in _COUNTS),
            ("mended", TEXT),
        ),
        "journal, id",
        ("instance",),
        (("id", "t.instance"),),
        deleted_when="TRUE",
    ),
    Mirrored(
        "sequence_ranges",
        (("instance", UINT), ("first_sequence", INT), ("next_sequence", INT)),
        "instance, journal, first_sequence",
        ("instance", "first_sequence"),
    ),
    Mirrored(
        "losses",
        (
            ("id", UINT),
            ("instance", UINT),
            ("reason", LABEL),
            ("span_count", INT),
            ("first_ns", INT),
            ("last_ns", INT),
            ("first_sequence", NUMBER_OR_NULL),
            ("last_sequence", NUMBER_OR_NULL),
        ),
        "journal, id",
        deleted_when="TRUE",
    ),
    Mirrored(
        "unfinished_spans",
        (
            ("id", UINT),
            ("trace_id", TRACE_ID),
            ("span_id", SPAN_ID),
            ("parent_id", SPAN_ID),
            ("method", UINT),
            ("instance", UINT),
            ("start_ns", INT),
            ("seen_ns", INT),
            ("attributes", TEXT),
            ("links", TEXT),
            ("details", TEXT),
        ),
        "trace_id, span_id, instance, journal",
        ("trace_id", "span_id", "instance"),
        deleted_when=_SPAN_IS_STORED,
    ),
    Mirrored(
        "refused_spans",
        (("id", UINT), ("trace_id", TRACE_ID), ("span_id", SPAN_ID), ("reason", LABEL), ("at_ns", INT)),
        "trace_id, journal, id",
    ),
    Mirrored(
        "adopted_spans",
        (("trace_id", TRACE_ID), ("span_id", SPAN_ID), ("instance", UINT), ("parent_id", SPAN_ID)),
        "trace_id, span_id, instance",
        table="spans",
        events=("UPDATE OF parent_id",),
    ),
    Mirrored(
        "exceptions",
        (
            ("id", UINT),
            ("trace_id", TRACE_ID),
            ("span_id", SPAN_ID),
            ("origin_trace_id", TRACE_ID),
            ("origin_span_id", SPAN_ID),
            ("exception_group", LABEL),
            ("how", LABEL),
            ("type", LABEL),
            ("message", TEXT),
            ("frames", TEXT),
            ("causes", TEXT),
            ("at_ns", INT),
            ("notes", TEXT),
            ("members", TEXT),
            ("is_root", "UInt8"),
            ("service", LABEL),
            ("other_origins", TEXT),
            ("parent_id", SPAN_ID),
            ("kind", LABEL),
            ("instance", UINT),
            ("derived", "UInt8"),
        ),
        "trace_id, journal, id",
        sources=_GROUP,
        joined=_JOIN_GROUP.format("LEFT"),
    ),
    Mirrored(
        "uncaught_exceptions",
        (("trace_id", TRACE_ID), ("origin_span_id", SPAN_ID)),
        "trace_id, origin_span_id, journal",
        ("trace_id", "origin_span_id"),
        deleted_when=_IS_RAISED,
    ),
    Mirrored(
        "exception_groups",
        (
            ("fingerprint", TEXT),
            ("type", LABEL),
            ("message", TEXT),
            ("service", LABEL),
            ("name", LABEL),
            ("kind", LABEL),
            ("first_ns", INT),
            ("last_ns", INT),
            ("trace_id", TRACE_ID),
            ("origin_span_id", SPAN_ID),
            ("frames", TEXT),
            ("state", LABEL),
            ("resolved_ns", NUMBER_OR_NULL),
            ("template", TEXT),
            ("services", TEXT),
        ),
        "fingerprint, journal",
        # A group whose occurrences have all begun elsewhere.
        deleted_when=_IS_RAISED,
        deleted_key=(("fingerprint", "OLD.fingerprint"),),
    ),
    Mirrored(
        "exception_minutes",
        (("exception_group", LABEL), ("minute", INT), ("count", INT), ("uncaught_count", INT)),
        "exception_group, minute, journal",
        ("exception_group", "minute"),
        _GROUP,
        deleted_when="OLD.count <= 0",
        deleted_key=(
            ("exception_group", "(SELECT fingerprint FROM exception_groups WHERE id = OLD.exception_group)"),
            ("minute", "OLD.minute"),
        ),
        joined=_JOIN_GROUP.format(""),
    ),
    Mirrored(
        "exception_samples",
        (
            ("id", UINT),
            ("exception_group", LABEL),
            ("trace_id", TRACE_ID),
            ("span_id", SPAN_ID),
            ("at_ns", INT),
            ("which", LABEL),
        ),
        "trace_id, span_id, journal",
        ("trace_id", "span_id"),
        _GROUP,
        deleted_when=_IS_RAISED,
        joined=_JOIN_GROUP.format(""),
    ),
    Mirrored(
        "frames",
        (("id", UINT), ("file", LABEL), ("function", LABEL), ("line", INT), ("hour", INT)),
        "journal, id",
    ),
    Mirrored("stacks", (("id", UINT), ("parent", UINT), ("frame", UINT), ("hour", INT)), "journal, id"),
    Mirrored(
        "stack_minutes",
        (
            ("minute", INT),
            ("method", UINT),
            ("run_ns", INT),
            ("wait_ns", INT),
            ("busy_ns", INT),
            ("sums", TEXT),
        ),
        "minute, method, journal",
    ),
    Mirrored(
        "stack_hours",
        (
            ("hour", INT),
            ("method", UINT),
            ("run_ns", INT),
            ("wait_ns", INT),
            ("busy_ns", INT),
            ("sums", TEXT),
        ),
        "hour, method, journal",
    ),
    Mirrored(
        "span_stacks",
        (
            ("id", UINT),
            ("trace_id", TRACE_ID),
            ("span_id", SPAN_ID),
            ("instance", UINT),
            ("at_ns", INT),
            ("runs", TEXT),
        ),
        "trace_id, journal, id",
    ),
    Mirrored(
        "sent_requests",
        (("nonce", SPAN_ID), ("sent_ns", NUMBER_OR_NULL)),
        "nonce, journal",
        table="profile_requests",
    ),
    Mirrored(
        "profile_answers",
        (("nonce", SPAN_ID), ("instance", UINT), ("state", INT), ("at_ns", INT)),
        "nonce, instance, journal",
        ("nonce", "instance"),
    ),
    Mirrored(
        "refusals",
        (("reason", LABEL), ("count", INT), ("last_ns", INT), ("detail", TEXT)),
        "reason, journal",
        ("reason",),
    ),
    Mirrored("totals", (("name", LABEL), ("value", INT)), "name, journal", ("name",)),
)
