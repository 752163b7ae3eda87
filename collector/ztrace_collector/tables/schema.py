"""Tables of a database file.

One idea: every query of the viewer has a table that is kept up to date while writing, so no query scans
``spans``. Names, services and kinds are interned in ``methods``, processes in ``instances``. Times are
integers in nanoseconds, Unix times or durations. Ids are blobs; the views show them as hex.
docs/reference/schema.md documents the tables for users of other programs.

`tables.migrations` creates them, with the views.
"""

import functools
import sqlite3
from contextlib import closing

from ztrace_collector.layout import PART
from ztrace_collector.tables.code_tables import CODE_TABLES
from ztrace_collector.tables.sending import SENDING

_TABLES = f"""
CREATE TABLE methods (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (service, name, kind)
);
CREATE TABLE instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    instance_id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    spans_expired INTEGER NOT NULL DEFAULT 0,
    resource TEXT,
    processes INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE publishers (
    instance INTEGER PRIMARY KEY REFERENCES instances (id),
    state TEXT NOT NULL,
    first_sequence INTEGER NOT NULL DEFAULT 0,
    next_sequence INTEGER NOT NULL,
    spans_created INTEGER NOT NULL,
    spans_stored INTEGER NOT NULL,
    spans_dropped INTEGER NOT NULL,
    spans_tombstoned INTEGER NOT NULL,
    spans_missing INTEGER NOT NULL,
    spans_undelivered INTEGER NOT NULL,
    spans_crashed INTEGER NOT NULL,
    spans_refused INTEGER NOT NULL,
    spans_elsewhere INTEGER NOT NULL,
    acknowledged_elsewhere INTEGER NOT NULL DEFAULT 0,
    samples_created INTEGER NOT NULL,
    samples_stored INTEGER NOT NULL,
    samples_lost INTEGER NOT NULL,
    samples_elsewhere INTEGER NOT NULL,
    mended TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL
);
CREATE TABLE sequence_ranges (
    instance INTEGER NOT NULL REFERENCES instances (id),
    first_sequence INTEGER NOT NULL,
    next_sequence INTEGER NOT NULL,
    PRIMARY KEY (instance, first_sequence)
) WITHOUT ROWID;
CREATE TABLE losses (
    id INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL REFERENCES instances (id),
    reason TEXT NOT NULL,
    span_count INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    first_sequence INTEGER,
    last_sequence INTEGER
);
CREATE INDEX losses_by_instance ON losses (instance, reason);
CREATE TABLE spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_id BLOB,
    method INTEGER NOT NULL REFERENCES methods (id),
    instance INTEGER NOT NULL REFERENCES instances (id),
    start_ns INTEGER NOT NULL,
    duration_ns INTEGER,
    self_ns INTEGER,
    cpu_ns INTEGER,
    lane INTEGER,
    status INTEGER NOT NULL,
    attributes TEXT,
    links TEXT,
    details TEXT
);
CREATE INDEX spans_by_trace ON spans (trace_id);
CREATE TABLE sealed_traces (
    trace INTEGER PRIMARY KEY REFERENCES traces (id),
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    span_count INTEGER NOT NULL,
    dictionary INTEGER NOT NULL REFERENCES sealing_dictionaries (id),
    spans BLOB NOT NULL
);
CREATE TABLE sealing_dictionaries (
    id INTEGER PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE unfinished_spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_id BLOB,
    method INTEGER NOT NULL REFERENCES methods (id),
    instance INTEGER NOT NULL REFERENCES instances (id),
    start_ns INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL,
    attributes TEXT,
    links TEXT,
    details TEXT,
    UNIQUE (trace_id, span_id, instance)
);
CREATE TABLE refused_spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL
);
CREATE INDEX refused_spans_by_trace ON refused_spans (trace_id);
CREATE TABLE traces (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL UNIQUE,
    root_span_id BLOB,
    root_method INTEGER NOT NULL REFERENCES methods (id),
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    span_count INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    services TEXT NOT NULL,
    hour INTEGER NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    threshold INTEGER
);
CREATE INDEX traces_by_duration ON traces (hour, {PART}, duration_ns, start_ns, root_method);
CREATE INDEX failed_traces_by_duration ON traces (hour, {PART}, duration_ns, start_ns, root_method)
    WHERE error_count > 0;
CREATE TABLE arrivals (
    hour INTEGER PRIMARY KEY,
    first_trace INTEGER NOT NULL
);
CREATE TABLE collector_time (
    id INTEGER PRIMARY KEY,
    age_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL
);
CREATE TABLE exceptions (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    origin_trace_id BLOB NOT NULL,
    origin_span_id BLOB NOT NULL,
    exception_group INTEGER REFERENCES exception_groups (id),
    how TEXT NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    frames TEXT NOT NULL,
    causes TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    notes TEXT NOT NULL,
    members TEXT NOT NULL,
    is_root INTEGER NOT NULL,
    service TEXT NOT NULL,
    other_origins TEXT,
    parent_id BLOB,
    kind TEXT NOT NULL,
    instance INTEGER NOT NULL REFERENCES instances (id),
    derived INTEGER NOT NULL
);
CREATE INDEX exceptions_by_trace ON exceptions (trace_id);
CREATE INDEX exceptions_by_origin ON exceptions (origin_trace_id, origin_span_id, span_id);
CREATE INDEX exceptions_by_group ON exceptions (exception_group, at_ns) WHERE origin_span_id = span_id;
CREATE INDEX derived_exceptions_by_trace ON exceptions (trace_id) WHERE derived = 1;
CREATE TABLE uncaught_exceptions (
    trace_id BLOB NOT NULL,
    origin_span_id BLOB NOT NULL,
    PRIMARY KEY (trace_id, origin_span_id)
) WITHOUT ROWID;
CREATE TABLE exception_groups (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    trace_id BLOB NOT NULL,
    origin_span_id BLOB NOT NULL,
    frames TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open',
    resolved_ns INTEGER,
    template TEXT NOT NULL DEFAULT '',
    services TEXT NOT NULL DEFAULT '[]',
    uncaught_count INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE exception_minutes (
    exception_group INTEGER NOT NULL REFERENCES exception_groups (id),
    minute INTEGER NOT NULL,
    count INTEGER NOT NULL,
    uncaught_count INTEGER NOT NULL,
    PRIMARY KEY (exception_group, minute)
) WITHOUT ROWID;
CREATE TABLE exception_samples (
    id INTEGER PRIMARY KEY,
    exception_group INTEGER NOT NULL REFERENCES exception_groups (id),
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    at_ns INTEGER NOT NULL,
    which TEXT NOT NULL
);
CREATE INDEX exception_samples_by_group ON exception_samples (exception_group);
CREATE INDEX exception_samples_by_trace ON exception_samples (trace_id);
CREATE TABLE method_figures (
    resolution_s INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    method INTEGER NOT NULL REFERENCES methods (id),
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    self_ns INTEGER NOT NULL,
    histogram TEXT NOT NULL,
    PRIMARY KEY (resolution_s, bucket, method)
) WITHOUT ROWID;
CREATE TABLE retired_figures (
    method INTEGER PRIMARY KEY REFERENCES methods (id),
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    self_ns INTEGER NOT NULL,
    histogram TEXT NOT NULL
);
CREATE TABLE paths (
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    method INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    root INTEGER,
    UNIQUE (parent, method)
);
CREATE INDEX paths_by_root ON paths (root);
CREATE TABLE path_figures (
    resolution_s INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    path INTEGER NOT NULL REFERENCES paths (id),
    version TEXT NOT NULL,
    own_version TEXT NOT NULL,
    failed INTEGER NOT NULL,
    root_calls INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    self_ns INTEGER NOT NULL,
    critical_ns INTEGER NOT NULL,
    cpu_ns INTEGER NOT NULL DEFAULT 0,
    timed_ns INTEGER NOT NULL DEFAULT 0,
    histogram TEXT NOT NULL,
    PRIMARY KEY (resolution_s, bucket, path, version, own_version, failed)
) WITHOUT ROWID;
CREATE TABLE versions (
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (service, version)
) WITHOUT ROWID;
CREATE TABLE settled (
    trace INTEGER PRIMARY KEY REFERENCES traces (id),
    span INTEGER NOT NULL,
    figures TEXT
);
CREATE TABLE adopted_spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_id BLOB,
    span INTEGER NOT NULL
);
CREATE INDEX adopted_spans_by_trace ON adopted_spans (trace_id);
CREATE TABLE settling (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO settling VALUES ('span', 0), ('left_out', 0), ('late', 0), ('thinned', 0), ('sealed', 0),
    ('sealed_spread', 0);
CREATE TABLE expired_traces (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL UNIQUE
);
CREATE TABLE thinned_traces (
    trace_id BLOB PRIMARY KEY,
    at_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE clock_bounds (
    id INTEGER PRIMARY KEY,
    host TEXT NOT NULL,
    other_host TEXT NOT NULL,
    cell INTEGER NOT NULL,
    low_at_ns INTEGER NOT NULL,
    low_ns INTEGER NOT NULL,
    high_at_ns INTEGER NOT NULL,
    high_ns INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL,
    UNIQUE (host, other_host, cell)
);
CREATE TABLE refusals (
    reason TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals
    VALUES ('spans', 0), ('traces', 0), ('spans_expired', 0), ('spans_thinned', 0), ('traces_thinned', 0);
"""

#: Statements that create all tables and their indexes.
TABLES = _TABLES + CODE_TABLES + SENDING


def read_columns(db: sqlite3.Connection) -> set[str]:
    """Return the columns of a database's tables, each as ``table.column``; replace bytes that are no text."""
    columns = db.execute(
        "SELECT CAST(t.name || '.' || c.name AS BLOB) FROM sqlite_master t, pragma_table_info(t.name) c"
        " WHERE t.type = 'table'"
    )
    return {column.decode("utf-8", "replace") for (column,) in columns}


@functools.cache
def expected_columns() -> set[str]:
    """Return the columns of an up-to-date database's tables."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        return read_columns(db)
