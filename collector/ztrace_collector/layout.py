"""The numbers that the writer and every reader of a database file agree on.

One idea: a reader needs these and nothing else of the collector, so they stand in a module that imports
nothing. `ztrace_collector.schema` has the tables.
"""

#: "ZTRC": ``PRAGMA application_id`` of every ztrace database, so that a foreign file is known as such.
APPLICATION_ID = 0x5A545243
#: How many migrations there are; ``PRAGMA user_version`` of an up-to-date file.
SCHEMA_VERSION = 1

#: Traces are found by duration within an hour, so the index is random over one hour only.
HOUR_NS = 3_600_000_000_000
#: Sizes of the time buckets of ``method_figures``, in seconds: a question adds up days, hours and minutes.
RESOLUTIONS_S = (60, 3600, 86400)
#: Histogram buckets per factor of e: bucket b holds durations from e**(b/20) to e**((b+1)/20) ns, so that
#: its middle is within 2.5% of each.
BUCKETS_PER_E = 20
