"""Constants that the writer and every reader of a database file share.

One idea: a reader needs these and nothing else of the collector, so this module imports nothing.
`ztrace_collector.tables.schema` has the tables.
"""

#: "ZTRC", the ``PRAGMA application_id`` of every ztrace database, by which a foreign file is recognized.
APPLICATION_ID = 0x5A545243
#: Number of migrations in `tables.migrations`; ``PRAGMA user_version`` of an up-to-date file.
SCHEMA_VERSION = 1

#: Nanoseconds of a second and of a minute, the finest bucket of figures.
SECOND_NS, MINUTE_NS = 1_000_000_000, 60_000_000_000
#: Nanoseconds of an hour.
HOUR_NS = 3_600_000_000_000
#: Part of an hour's traces, in SQL: 16,384 of them in order of arrival. Traces are indexed by hour, part and
#: duration, so inserts are random within some hundred pages, however many traces an hour has.
PART = "id >> 14"
#: Silence of a publisher after five missed beats, which are a second apart.
SILENT_AFTER_NS = 5 * SECOND_NS
#: Bucket sizes of ``method_figures`` in seconds: a query adds up days, hours and minutes.
RESOLUTIONS_S = (60, 3600, 86400)
#: Histogram buckets per factor of e: bucket b holds durations from e**(b/20) to e**((b+1)/20) ns, so its
#: midpoint is within 2.5% of each.
BUCKETS_PER_E = 20

#: Size at which the write-ahead log beside a file is emptied: a page of an index is then written to the
#: database once per emptying instead of once per transaction. A larger log means a reader that stays.
LOG_BYTES = 80_000_000

#: Reasons for lost spans in the table ``losses``: no room in the publisher's queue, or in its window; gone
#: from the publisher and never received; undelivered at its end, or at its crash; received and refused.
QUEUE_FULL = "queue full"
WINDOW_FULL = "window full"
NEVER_RECEIVED = "never received"
NOT_DELIVERED = "not delivered before the end"
PROCESS_CRASHED = "process crashed"
REFUSED = "refused"
#: Column of ``publishers`` that counts the lost spans of each reason.
LOSS_COLUMNS = {
    QUEUE_FULL: "spans_dropped",
    WINDOW_FULL: "spans_tombstoned",
    NEVER_RECEIVED: "spans_missing",
    NOT_DELIVERED: "spans_undelivered",
    PROCESS_CRASHED: "spans_crashed",
    REFUSED: "spans_refused",
}
#: Columns of ``publishers`` with the account of samples: the first is the sum of the others once all arrived.
SAMPLE_COLUMNS = ("samples_created", "samples_stored", "samples_lost", "samples_elsewhere")

#: Prefix of the names in ``totals`` of columns of deleted ``publishers``.
PAST = "past_"

#: States in ``exception_groups``: the group occurs; a user has marked it as resolved; it has occurred since.
OPEN, RESOLVED, REGRESSED = "open", "resolved", "regressed"

#: Names in ``settling``: id of the last span up to which all are counted in ``path_figures``, number of trees
#: that are too large for that, and number of spans that are not counted since their trees had expired or been
#: thinned.
SETTLED, LEFT_OUT, LATE = "span", "left_out", "late"
#: Name in ``settling``: id of the trace up to which all have been thinned.
THINNED = "thinned"
#: Names in ``settling``: highest id of a span that has been sealed, and the largest distance of two ids in a
#: sealed trace.
SEALED, SEALED_SPREAD = "sealed", "sealed_spread"
#: Names in ``totals`` of spans that have been stored: those that are, and those deleted since. The ids of
#: spans have no gaps, so their sum is the id of the last one.
STORED_SPANS = ("spans", "spans_expired", "spans_thinned")
#: Age up to which ``path_figures`` has minutes; hours and days stay.
PATH_MINUTES_NS = 6 * HOUR_NS
#: Time of which ``clock_bounds`` keeps the tightest bounds: clocks hardly drift apart within it.
CLOCK_CELL_NS = 10 * SECOND_NS
