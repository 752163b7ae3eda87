"""Tables and views of a database file, and the migrations that create them.

One idea: every query of the viewer has a table that is kept up to date while writing, so no query scans
``spans``. Names, services and kinds are interned in ``methods``, processes in ``instances``. Times are
integers in nanoseconds, Unix times or durations. Ids are blobs; the views show them as hex.
docs/reference/schema.md documents the tables for users of other programs.

A new version of the schema is a new function at the end of this module, and a new `layout.SCHEMA_VERSION`:
`sqlite_utils.Migrations` records which functions have run, and ``PRAGMA user_version`` counts them, for a
quick check by readers.
"""

from sqlite_utils import Database, Migrations

migrations = Migrations("ztrace")

_TABLES = """
CREATE TABLE methods (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (service, name, kind)
);
CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    instance_id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    spans_expired INTEGER NOT NULL DEFAULT 0,
    resource TEXT,
    processes INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE publishers (
    instance INTEGER PRIMARY KEY REFERENCES instances (id),
    state TEXT NOT NULL,
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
    mended TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL
);
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
    status INTEGER NOT NULL,
    attributes TEXT,
    links TEXT,
    details TEXT
);
CREATE INDEX spans_by_trace ON spans (trace_id);
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
    hour INTEGER NOT NULL
);
CREATE INDEX traces_by_duration ON traces (hour, duration_ns, start_ns, root_method);
CREATE INDEX failed_traces_by_duration ON traces (hour, duration_ns, start_ns, root_method)
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
CREATE INDEX exceptions_by_origin ON exceptions (origin_span_id, span_id);
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
    version TEXT NOT NULL,
    path INTEGER NOT NULL REFERENCES paths (id),
    root_calls INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    total_ns INTEGER NOT NULL,
    self_ns INTEGER NOT NULL,
    critical_ns INTEGER NOT NULL,
    histogram TEXT NOT NULL,
    PRIMARY KEY (resolution_s, bucket, version, path)
) WITHOUT ROWID;
CREATE TABLE settled (
    trace INTEGER PRIMARY KEY REFERENCES traces (id),
    span INTEGER NOT NULL,
    version TEXT NOT NULL DEFAULT '',
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
INSERT INTO settling VALUES ('span', 0), ('left_out', 0);
CREATE TABLE refusals (
    reason TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    detail TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE destinations (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    protocol TEXT NOT NULL,
    in_use INTEGER NOT NULL,
    place INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    since_ns INTEGER NOT NULL,
    success_ns INTEGER,
    failing_ns INTEGER,
    error TEXT,
    error_ns INTEGER
);
CREATE TABLE destination_refusals (
    destination INTEGER NOT NULL REFERENCES destinations (id),
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (destination, reason)
) WITHOUT ROWID;
CREATE TABLE sent_unfinished_spans (
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    destination INTEGER NOT NULL REFERENCES destinations (id),
    PRIMARY KEY (trace_id, span_id, destination)
) WITHOUT ROWID;
CREATE TABLE totals (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals VALUES ('spans', 0), ('traces', 0), ('spans_expired', 0);
"""

_VIEWS = """
CREATE VIEW span_list AS
    SELECT spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, self_ns / 1e6 AS self_ms, cpu_ns / 1e6 AS cpu_ms,
        CASE status WHEN 0 THEN 'ok' WHEN 1 THEN 'error' ELSE 'unfinished' END AS status,
        instances.host, instances.pid, attributes, links, details
    FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance;
CREATE VIEW unfinished_list AS
    SELECT unfinished_spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns, seen_ns,
        publishers.state, publishers.last_seen_ns, instances.host, instances.pid, attributes, links, details
    FROM unfinished_spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
        JOIN publishers USING (instance);
CREATE VIEW trace_list AS
    SELECT traces.id, lower(hex(trace_id)) AS trace_id, methods.service, methods.name,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, span_count + unfinished_count AS span_count, error_count, services,
        unfinished_count
    FROM (SELECT *, (SELECT count(*) FROM unfinished_spans WHERE unfinished_spans.trace_id = traces.trace_id)
        AS unfinished_count FROM traces) AS traces JOIN methods ON methods.id = root_method;
CREATE VIEW exception_list AS
    SELECT exceptions.id, lower(hex(exceptions.trace_id)) AS trace_id,
        lower(hex(exceptions.span_id)) AS span_id,
        lower(hex(exceptions.origin_span_id)) AS origin_span_id, fingerprint AS exception_group, how, is_root,
        exceptions.service, exceptions.type, exceptions.message,
        datetime(at_ns / 1000000000, 'unixepoch') AS at, at_ns, exceptions.frames, causes, notes, members
    FROM exceptions LEFT JOIN exception_groups ON exception_groups.id = exception_group;
CREATE VIEW group_list AS
    SELECT id, fingerprint AS exception_group, state, type, template, service, name, kind, count,
        uncaught_count, count - uncaught_count AS swallowed_count, services,
        datetime(first_ns / 1000000000, 'unixepoch') AS first,
        datetime(last_ns / 1000000000, 'unixepoch') AS last, first_ns, last_ns,
        lower(hex(trace_id)) AS trace_id, lower(hex(origin_span_id)) AS origin_span_id, message, frames
    FROM exception_groups;
CREATE VIEW method_minute_list AS
    SELECT datetime(bucket * 60, 'unixepoch') AS minute, service, name, kind, calls, errors,
        total_ns / 1e6 AS total_ms, self_ns / 1e6 AS self_ms, histogram
    FROM method_figures JOIN methods ON methods.id = method WHERE resolution_s = 60;
CREATE VIEW path_list AS
    WITH RECURSIVE named (id, root, depth, service, name, kind, path) AS (
        SELECT paths.id, root, depth, service, name, kind, service || '.' || name
            FROM paths JOIN methods ON methods.id = method WHERE parent = 0
        UNION ALL
        SELECT paths.id, paths.root, paths.depth, methods.service, methods.name, methods.kind,
            named.path || ' > ' || coalesce(methods.service || '.' || methods.name, '(other)')
            FROM named JOIN paths ON parent = named.id LEFT JOIN methods ON methods.id = method
    )
    SELECT * FROM named;
CREATE VIEW loss_list AS
    SELECT losses.id, service, host, pid, reason, span_count,
        datetime(first_ns / 1000000000, 'unixepoch') AS first,
        datetime(last_ns / 1000000000, 'unixepoch') AS last, first_ns, last_ns
    FROM losses JOIN instances ON instances.id = instance;
"""


@migrations()
def create_tables(db: Database) -> None:
    """Create the tables and views of version 1."""
    for statement in (_TABLES + _VIEWS).split(";\n"):
        if statement.strip():
            db.execute(statement)
