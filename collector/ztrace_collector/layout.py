"""The numbers that the writer and every reader of a database file agree on.

One idea: a reader needs these and nothing else of the collector, so they stand in a module that imports
nothing. `ztrace_collector.tables.schema` has the tables.
"""

#: "ZTRC": ``PRAGMA application_id`` of every ztrace database, so that a foreign file is known as such.
APPLICATION_ID = 0x5A545243
#: Number of migrations in `tables.schema`; ``PRAGMA user_version`` of an up-to-date file.
SCHEMA_VERSION = 1

#: Nanoseconds of a second, and of a minute, the bucket of the finest figures.
SECOND_NS, MINUTE_NS = 1_000_000_000, 60_000_000_000
#: Traces are found by duration within an hour, so the index is random over one hour only.
HOUR_NS = 3_600_000_000_000
#: A publisher beats every second: five missed beats make it silent.
SILENT_AFTER_NS = 5 * SECOND_NS
#: Sizes of the time buckets of ``method_figures``, in seconds: a question adds up days, hours and minutes.
RESOLUTIONS_S = (60, 3600, 86400)
#: Histogram buckets per factor of e: bucket b holds durations from e**(b/20) to e**((b+1)/20) ns, so that
#: its middle is within 2.5% of each.
BUCKETS_PER_E = 20

#: Why spans are lost, as the table ``losses`` has it: no room in the publisher's queue, or in its window;
#: gone from the publisher and never here; undelivered when it ended, or when it crashed; here, and not fit
#: to be stored.
QUEUE_FULL = "queue full"
WINDOW_FULL = "window full"
NEVER_RECEIVED = "never received"
NOT_DELIVERED = "not delivered before the end"
PROCESS_CRASHED = "process crashed"
REFUSED = "refused"
#: The column of ``publishers`` that counts the spans lost for each reason.
LOSS_COLUMNS = {
    QUEUE_FULL: "spans_dropped",
    WINDOW_FULL: "spans_tombstoned",
    NEVER_RECEIVED: "spans_missing",
    NOT_DELIVERED: "spans_undelivered",
    PROCESS_CRASHED: "spans_crashed",
    REFUSED: "spans_refused",
}

#: What becomes of an exception group, as ``exception_groups`` has it: it occurs; somebody has said that it
#: will not any more; it has all the same.
OPEN, RESOLVED, REGRESSED = "open", "resolved", "regressed"
