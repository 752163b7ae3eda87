"""Tables of a ClickHouse database, as the statements that create them.

One idea: spans are inserted in blocks, and views add each block to rollups that are sums, least and greatest
values; merging them in any order gives the same. A block has a deduplication token, which needs a window on
every table that a block reaches: without one a repeated block would be counted again by a view.

Trace ids begin with the time, so the order by trace id is an order by time too. Partitions are days of
arrival, because a span's own time may be years off. docs/reference/clickhouse.md documents the tables.

A new version of the schema is a further element of `MIGRATIONS`.
"""

from collections.abc import Callable
from typing import NamedTuple

from ztrace_collector.clickhouse.batches import BATCHES
from ztrace_collector.clickhouse.lease import CLAIMS
from ztrace_collector.clickhouse.mirrored import MIRRORED, Mirrored
from ztrace_collector.clickhouse.otel import OTEL_VIEW
from ztrace_collector.layout import BUCKETS_PER_E, HOUR_NS, MINUTE_NS, PATH_MINUTES_NS, RESOLUTIONS_S
from ztrace_collector.tables.extent import AHEAD_NS, FAR_NS

#: Blocks whose tokens a table remembers: a shipper repeats none but its last one.
WINDOW = 10_000
#: Figures by call path; and time for which those by minute are kept, an hour more for those who read now.
FIGURES, _MINUTES_S = "path_figures", (PATH_MINUTES_NS + HOUR_NS) // 10**9
#: Table with one row for each migration that has run.
VERSIONS = "schema_versions"

_INT64_MAX = 2**63 - 1
_ROOT = "Tuple(start_ns Int64, span_id FixedString(8), duration_ns Int64, method UInt64)"
#: Condition on a span whose time may count for the extent of its trace, see `ztrace_collector.tables.extent`.
_COUNTS = (
    f"s.start_ns + s.duration_ns <= toUnixTimestamp64Nano(s.arrived) + {AHEAD_NS}"
    f" AND s.duration_ns <= {FAR_NS}"
)
_IS_ROOT = "s.parent_id = toFixedString('', 8)"


class Layout(NamedTuple):
    """Choices at the creation of a database.

    Attributes:
        replicated: use the replicated engines, which need Keeper.
        ttl_days: days after which rows are deleted; None to keep them.
    """

    replicated: bool = False
    ttl_days: int | None = None

    def define(
        self,
        family: str,
        order: str,
        *,
        blocks: bool = False,
        partitioned: bool = False,
        scattered: bool = False,
        ttl: str | None = None,
    ) -> str:
        """Return the clauses after the columns of a table.

        Args:
            family: engine without its ending, such as "Replacing", with parameters in parentheses.
            order: the sorting key.
            blocks: blocks of spans reach the table, so it remembers tokens.
            partitioned: a partition for each day of arrival; expired rows are dropped by whole parts.
            scattered: few rows at many places are read at once, each by its key.
            ttl: TTL expression of a table whose rows expire by a rule of their own; empty for none.
        """
        kind, bracket, parameters = family.partition("(")
        engine = f"{'Replicated' if self.replicated else ''}{kind}MergeTree{bracket}{parameters}"
        # By default the engine does not wait for the disk, and the journal does not send a block again.
        settings = ["fsync_after_insert = 1", "fsync_part_directory = 1"]
        if blocks:
            prefix = "replicated" if self.replicated else "non_replicated"
            settings.append(f"{prefix}_deduplication_window = {WINDOW}")
        if partitioned:
            settings.append("ttl_only_drop_parts = 1")
        if scattered:
            # For each place, the engine reads a granule and decompresses a block of each column.
            settings += [
                "index_granularity = 1024",
                "min_compress_block_size = 8192",
                "max_compress_block_size = 16384",
            ]
        days = " PARTITION BY toDate(arrived)" if partitioned else ""
        if ttl is None:
            ttl = expiry_of("", self.ttl_days)
        expiring = f" TTL {ttl}" if ttl else ""
        return f"ENGINE = {engine}{days} ORDER BY ({order}){expiring} SETTINGS {', '.join(settings)}"


def expiry(days: int) -> str:
    """Return the TTL expression of every table that has one."""
    return f"toDate(arrived) + toIntervalDay({days})"


def expiry_of(table: str, days: int | None) -> str:
    """Return the TTL expression of a table, empty if its rows stay; None for no days."""
    parts = [] if days is None else [expiry(days)]
    if table == FIGURES:
        parts.append(
            f"arrived + toIntervalSecond({_MINUTES_S}) DELETE WHERE resolution_s = {RESOLUTIONS_S[0]}"
        )
    return ", ".join(parts)


def list_expiring() -> list[str]:
    """Return the tables whose rows expire."""
    of_spans = ["spans", "blocks", "traces", "roots", "method_figures", "thinned_traces"]
    settled = [FIGURES, "settled", "clock_bounds", "duplicates", "corrected_exceptions", "corrected_minutes"]
    return [*of_spans, *settled, *(table.name for table in MIRRORED)]


def _create_tables(layout: Layout) -> list[str]:
    """Return the statements of version 1."""
    spans = layout.define("", "trace_id, start_ns", blocks=True, partitioned=True, scattered=True)
    traces = layout.define("Aggregating", "trace_id", blocks=True, partitioned=True, scattered=True)
    roots = layout.define("", "hour, duration_ns", blocks=True, partitioned=True, scattered=True)
    figures = layout.define("Aggregating", "resolution_s, bucket, method", blocks=True)
    blocks = layout.define("", "journal, arrived", blocks=True)
    thinned = layout.define("", "trace_id", partitioned=True)
    lasting = layout._replace(ttl_days=None)
    return [
        f"""CREATE TABLE IF NOT EXISTS methods (
            id UInt64, service LowCardinality(String), name String, kind LowCardinality(String)
        ) {lasting.define("Replacing", "id")}""",
        f"""CREATE TABLE IF NOT EXISTS spans (
            trace_id FixedString(16) CODEC(ZSTD(1)),
            span_id FixedString(8) CODEC(NONE),
            parent_id FixedString(8) CODEC(ZSTD(1)),
            method UInt64 CODEC(ZSTD(1)),
            instance UInt64 CODEC(ZSTD(1)),
            start_ns Int64 CODEC(Delta(8), ZSTD(1)),
            duration_ns Int64 CODEC(T64, ZSTD(1)),
            self_ns Nullable(Int64) CODEC(T64, ZSTD(1)),
            cpu_ns Nullable(Int64) CODEC(T64, ZSTD(1)),
            lane Nullable(Int64) CODEC(T64, ZSTD(1)),
            status UInt8 CODEC(ZSTD(1)),
            attributes String CODEC(ZSTD(3)),
            links String CODEC(ZSTD(3)),
            details String CODEC(ZSTD(3)),
            journal LowCardinality(String) CODEC(ZSTD(1)),
            arrived DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
            INDEX arrivals arrived TYPE minmax GRANULARITY 1
        ) {spans}""",
        f"""CREATE TABLE IF NOT EXISTS blocks (
            journal LowCardinality(String), arrived DateTime64(3, 'UTC'), span_count UInt64
        ) {blocks}""",
        """CREATE MATERIALIZED VIEW IF NOT EXISTS blocks_of_spans TO blocks AS SELECT
            s.journal AS journal, s.arrived AS arrived, count() AS span_count
        FROM spans AS s GROUP BY journal, arrived""",
        f"""CREATE TABLE IF NOT EXISTS traces (
            trace_id FixedString(16) CODEC(ZSTD(1)),
            arrived Date CODEC(ZSTD(1)),
            first_arrival SimpleAggregateFunction(min, DateTime64(3, 'UTC')) CODEC(Delta(8), ZSTD(1)),
            root SimpleAggregateFunction(min, {_ROOT}) CODEC(ZSTD(1)),
            first SimpleAggregateFunction(min, Tuple(start_ns Int64, method UInt64)) CODEC(ZSTD(1)),
            end_ns SimpleAggregateFunction(max, Int64) CODEC(Delta(8), ZSTD(1)),
            span_count SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            error_count SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            methods SimpleAggregateFunction(groupUniqArrayArray, Array(UInt64)) CODEC(ZSTD(1)),
            INDEX arrivals first_arrival TYPE minmax GRANULARITY 1
        ) {traces}""",
        f"""CREATE MATERIALIZED VIEW IF NOT EXISTS traces_of_spans TO traces AS SELECT
            s.trace_id AS trace_id,
            toDate(s.arrived) AS arrived,
            min(s.arrived) AS first_arrival,
            min(if({_IS_ROOT}, (s.start_ns, s.span_id, s.duration_ns, s.method),
                (toInt64({_INT64_MAX}), toFixedString('', 8), toInt64(0), toUInt64(0)))) AS root,
            min(if({_COUNTS}, (s.start_ns, s.method), (toInt64({_INT64_MAX}), toUInt64(0)))) AS first,
            max(if({_COUNTS}, s.start_ns + s.duration_ns, toInt64(0))) AS end_ns,
            count() AS span_count,
            countIf(s.status = 1) AS error_count,
            groupUniqArray(s.method) AS methods
        FROM spans AS s GROUP BY trace_id, arrived""",
        f"""CREATE TABLE IF NOT EXISTS roots (
            hour Int64 CODEC(ZSTD(1)),
            duration_ns Int64 CODEC(ZSTD(1)),
            trace_id FixedString(16) CODEC(ZSTD(1)),
            span_id FixedString(8) CODEC(NONE),
            method UInt64 CODEC(ZSTD(1)),
            start_ns Int64 CODEC(Delta(8), ZSTD(1)),
            arrived Date CODEC(ZSTD(1))
        ) {roots}""",
        f"""CREATE MATERIALIZED VIEW IF NOT EXISTS roots_of_spans TO roots AS SELECT
            intDiv(s.start_ns, {HOUR_NS}) AS hour, s.duration_ns AS duration_ns, s.trace_id AS trace_id,
            s.span_id AS span_id, s.method AS method, s.start_ns AS start_ns, toDate(s.arrived) AS arrived
        FROM spans AS s WHERE {_IS_ROOT}""",
        f"""CREATE TABLE IF NOT EXISTS method_figures (
            resolution_s UInt32 CODEC(ZSTD(1)),
            bucket Int64 CODEC(Delta(8), ZSTD(1)),
            method UInt64 CODEC(ZSTD(1)),
            calls SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            errors SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            total_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            self_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            histogram SimpleAggregateFunction(sumMap, Map(UInt16, Int64)) CODEC(ZSTD(1)),
            arrived SimpleAggregateFunction(max, Date) CODEC(ZSTD(1))
        ) {figures}""",
        _add_figures("method_figures_of_spans", "spans"),
        f"""CREATE TABLE IF NOT EXISTS journals (
            journal String,
            delivered SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
            seen SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
            settled SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
        ) {lasting.define("Aggregating", "journal")}""",
        f"""CREATE TABLE IF NOT EXISTS {CLAIMS} (
            id String, journal String, since DateTime64(3, 'UTC'), renewed DateTime64(3, 'UTC'),
            revision UInt64
        ) {layout.define("Replacing(revision)", "id", ttl="toDateTime(renewed) + toIntervalDay(2)")}""",
        f"""CREATE TABLE IF NOT EXISTS {BATCHES} (
            task LowCardinality(String), number UInt64, id String, content String CODEC(ZSTD(3))
        ) {lasting.define("Replacing(number)", "task", blocks=True)}""",
        *_create_settled(layout, lasting),
        *(_create_mirrored(table, layout) for table in MIRRORED),
        f"""CREATE TABLE IF NOT EXISTS thinned_traces (
            trace_id FixedString(16) CODEC(ZSTD(1)),
            arrived Date CODEC(ZSTD(1)),
            threshold UInt64 CODEC(ZSTD(1)),
            span_count UInt64 CODEC(T64, ZSTD(1))
        ) {thinned}""",
        f"""CREATE TABLE IF NOT EXISTS thinned_days (
            day Date, state LowCardinality(String), span_count UInt64, trace_count UInt64, until_ns Int64,
            at DateTime64(9, 'UTC')
        ) {lasting.define("Replacing(at)", "day")}""",
        f"""CREATE TABLE IF NOT EXISTS pins (
            trace_id FixedString(16), pinned UInt8, at DateTime64(9, 'UTC')
        ) {lasting.define("Replacing(at)", "trace_id")}""",
        f"""CREATE TABLE IF NOT EXISTS profile_requests (
            nonce FixedString(8), service String, hz UInt32, seconds UInt32, withdrawn UInt8,
            asked DateTime64(3, 'UTC'), at DateTime64(9, 'UTC')
        ) {layout.define("Replacing(at)", "nonce", ttl="toDateTime(asked) + toIntervalDay(2)")}""",
        f"""CREATE TABLE IF NOT EXISTS told_events (
            event LowCardinality(String), key String, moment Int64, revision UInt64
        ) {lasting.define("Replacing(revision)", "event, key", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS resolutions (
            fingerprint String, is_resolved UInt8, at_ns Int64, at DateTime64(9, 'UTC')
        ) {lasting.define("Replacing(at)", "fingerprint")}""",
        OTEL_VIEW,
    ]


def _add_figures(view: str, source: str, sign: str = "") -> str:
    """Return the view that adds spans of a table to the figures of methods, or takes them away."""
    # By minute and bucket first: what is more costly is then done with few rows.
    return f"""CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO method_figures AS SELECT
        resolution_s, intDiv(m.minute * 60, resolution_s) AS bucket, m.method AS method,
        sum({sign}m.calls) AS calls, sum({sign}m.errors) AS errors, sum({sign}m.total_ns) AS total_ns,
        sum({sign}m.self_ns) AS self_ns, sumMap(map(m.duration, {sign}m.calls)) AS histogram,
        max(m.arrived) AS arrived
    FROM (
        SELECT intDiv(s.start_ns + s.duration_ns, {MINUTE_NS}) AS minute, s.method AS method,
            toUInt16(if(s.duration_ns > 1, floor({BUCKETS_PER_E} * log(s.duration_ns)), 0)) AS duration,
            toInt64(count()) AS calls, toInt64(countIf(s.status = 1)) AS errors,
            sum(toInt128(s.duration_ns)) AS total_ns, sum(toInt128(ifNull(s.self_ns, 0))) AS self_ns,
            max(toDate(s.arrived)) AS arrived
        FROM {source} AS s GROUP BY minute, method, duration
    ) AS m ARRAY JOIN {list(RESOLUTIONS_S)} AS resolution_s GROUP BY resolution_s, bucket, method"""


def _create_settled(layout: Layout, lasting: Layout) -> list[str]:
    """Return the statements of what is settled from the spans of all journals."""
    figures = layout.define(
        "Aggregating",
        "resolution_s, bucket, path, version, own_version, failed",
        blocks=True,
        ttl=expiry_of(FIGURES, layout.ttl_days),
    )
    return [
        f"""CREATE TABLE IF NOT EXISTS paths (
            id UInt64, parent UInt64, method UInt64, depth Int64, root UInt64
        ) {lasting.define("Replacing", "id", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS versions (
            service String, version String
        ) {lasting.define("Replacing", "service, version", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS {FIGURES} (
            resolution_s UInt32 CODEC(ZSTD(1)),
            bucket Int64 CODEC(Delta(8), ZSTD(1)),
            version LowCardinality(String) CODEC(ZSTD(1)),
            own_version LowCardinality(String) CODEC(ZSTD(1)),
            failed UInt8 CODEC(ZSTD(1)),
            path UInt64 CODEC(ZSTD(1)),
            root_calls SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            calls SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            errors SimpleAggregateFunction(sum, Int64) CODEC(ZSTD(1)),
            total_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            self_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            critical_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            cpu_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            timed_ns SimpleAggregateFunction(sum, Int128) CODEC(ZSTD(1)),
            histogram SimpleAggregateFunction(sumMap, Map(UInt16, Int64)) CODEC(ZSTD(1)),
            arrived SimpleAggregateFunction(max, DateTime) DEFAULT now() CODEC(ZSTD(1))
        ) {figures}""",
        f"""CREATE TABLE IF NOT EXISTS settled (
            trace_id FixedString(16) CODEC(ZSTD(1)),
            upto Map(LowCardinality(String), Int64) CODEC(ZSTD(1)),
            span_count UInt64 CODEC(T64, ZSTD(1)),
            figures String CODEC(ZSTD(3)),
            revision UInt64 CODEC(Delta(8), ZSTD(1)),
            arrived DateTime DEFAULT now() CODEC(Delta(4), ZSTD(1))
        ) {layout.define("Replacing(revision)", "trace_id", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS clock_bounds (
            host LowCardinality(String),
            other_host LowCardinality(String),
            cell Int64,
            low SimpleAggregateFunction(max, Tuple(ns Int64, at_ns Int64)),
            high SimpleAggregateFunction(min, Tuple(ns Int64, at_ns Int64)),
            calls SimpleAggregateFunction(sum, Int64),
            seen_ns SimpleAggregateFunction(max, Int64),
            arrived SimpleAggregateFunction(max, DateTime) DEFAULT now()
        ) {layout.define("Aggregating", "host, other_host, cell", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS settling (
            name String, value Int64, revision UInt64
        ) {lasting.define("Replacing(revision)", "name", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS duplicates (
            trace_id FixedString(16),
            span_id FixedString(8),
            instance UInt64,
            journal LowCardinality(String),
            method UInt64,
            start_ns Int64,
            duration_ns Int64,
            self_ns Nullable(Int64),
            status UInt8,
            arrived DateTime64(3, 'UTC')
        ) {layout.define("", "trace_id", blocks=True)}""",
        f"""CREATE MATERIALIZED VIEW IF NOT EXISTS traces_of_duplicates TO traces AS SELECT
            s.trace_id AS trace_id,
            toDate(s.arrived) AS arrived,
            min(s.arrived) AS first_arrival,
            (toInt64({_INT64_MAX}), toFixedString('', 8), toInt64(0), toUInt64(0)) AS root,
            (toInt64({_INT64_MAX}), toUInt64(0)) AS first,
            toInt64(0) AS end_ns,
            -toInt64(count()) AS span_count,
            -toInt64(countIf(s.status = 1)) AS error_count,
            []::Array(UInt64) AS methods
        FROM duplicates AS s GROUP BY trace_id, arrived""",
        _add_figures("method_figures_of_duplicates", "duplicates", "-"),
        f"""CREATE TABLE IF NOT EXISTS corrected_exceptions (
            trace_id FixedString(16) CODEC(ZSTD(1)),
            journal LowCardinality(String) CODEC(ZSTD(1)),
            id UInt64,
            span_id FixedString(8),
            origin_trace_id FixedString(16) CODEC(ZSTD(1)),
            origin_span_id FixedString(8) CODEC(ZSTD(1)),
            exception_group LowCardinality(String),
            how LowCardinality(String),
            derived UInt8,
            other_origins String CODEC(ZSTD(3)),
            counted_group LowCardinality(String),
            at_ns Int64 CODEC(Delta(8), ZSTD(1)),
            count Int64 CODEC(T64, ZSTD(1)),
            uncaught_count Int64 CODEC(T64, ZSTD(1)),
            revision UInt64 CODEC(Delta(8), ZSTD(1)),
            arrived DateTime DEFAULT now() CODEC(Delta(4), ZSTD(1))
        ) {layout.define("Replacing(revision)", "trace_id, journal, id", blocks=True)}""",
        f"""CREATE TABLE IF NOT EXISTS corrected_minutes (
            exception_group LowCardinality(String),
            minute Int64,
            journal LowCardinality(String),
            count SimpleAggregateFunction(sum, Int64),
            uncaught_count SimpleAggregateFunction(sum, Int64),
            first_ns SimpleAggregateFunction(min, Int64),
            last_ns SimpleAggregateFunction(max, Int64),
            services SimpleAggregateFunction(groupUniqArrayArray, Array(String)),
            arrived SimpleAggregateFunction(max, DateTime) DEFAULT now()
        ) {layout.define("Aggregating", "exception_group, minute, journal", blocks=True)}""",
    ]


def _create_mirrored(table: Mirrored, layout: Layout) -> str:
    columns = "".join(f"{name} {kind}, " for name, kind in table.columns)
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}journal LowCardinality(String), revision UInt64,"
        f" deleted UInt8, arrived DateTime) {layout.define('Replacing(revision, deleted)', table.order)}"
    )


#: Statements of each version of the schema, from the one before.
MIGRATIONS: tuple[Callable[[Layout], list[str]], ...] = (_create_tables,)
#: The version that this ztrace reads and writes.
SCHEMA_VERSION = len(MIGRATIONS)
