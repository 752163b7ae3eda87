"""The tables, and how a database file becomes ztrace's.

One idea: every question the viewer answers has a table that is kept up to date while writing, so that no
question scans ``spans``. Names, services and kinds are interned in ``methods``, processes in ``instances``.
Times are integers in nanoseconds, Unix or durations. Ids are blobs; the views at the end show them as hex.
The tables are documented in docs/reference/schema.md, for people who open the file with other programs.

A new version of the schema is a new function at the end of this module: `sqlite_utils.Migrations` records
which have run, and ``PRAGMA user_version`` counts them, so that the viewer can check a file at one glance.
"""

from sqlite_utils import Database, Migrations

from ztrace_collector.layout import APPLICATION_ID as APPLICATION_ID
from ztrace_collector.layout import BUCKETS_PER_E as BUCKETS_PER_E
from ztrace_collector.layout import HOUR_NS as HOUR_NS
from ztrace_collector.layout import RESOLUTIONS_S as RESOLUTIONS_S
from ztrace_collector.layout import SCHEMA_VERSION as SCHEMA_VERSION

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
    started_ns INTEGER NOT NULL
);
CREATE TABLE publishers (
    instance INTEGER PRIMARY KEY REFERENCES instances (id),
    state TEXT NOT NULL,
    next_sequence INTEGER NOT NULL,
    spans_created INTEGER NOT NULL,
    spans_stored INTEGER NOT NULL,
    spans_dropped INTEGER NOT NULL,
    spans_missing INTEGER NOT NULL,
    spans_refused INTEGER NOT NULL,
    spans_elsewhere INTEGER NOT NULL,
    mended TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL
);
CREATE TABLE gaps (
    id INTEGER PRIMARY KEY,
    instance INTEGER NOT NULL REFERENCES instances (id),
    first_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    span_count INTEGER NOT NULL,
    reason TEXT NOT NULL,
    noted_ns INTEGER NOT NULL
);
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
    links TEXT
);
CREATE INDEX spans_by_trace ON spans (trace_id);
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
    at_ns INTEGER NOT NULL
);
CREATE INDEX exceptions_by_trace ON exceptions (trace_id);
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
    frames TEXT NOT NULL
);
CREATE TABLE exception_minutes (
    exception_group INTEGER NOT NULL REFERENCES exception_groups (id),
    minute INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (exception_group, minute)
) WITHOUT ROWID;
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
INSERT INTO totals VALUES ('spans', 0), ('traces', 0);
CREATE VIEW span_list AS
    SELECT spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, self_ns / 1e6 AS self_ms, cpu_ns / 1e6 AS cpu_ms,
        CASE status WHEN 0 THEN 'ok' WHEN 1 THEN 'error' ELSE 'unfinished' END AS status,
        instances.host, instances.pid, attributes, links
    FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance;
CREATE VIEW trace_list AS
    SELECT traces.id, lower(hex(trace_id)) AS trace_id, methods.service, methods.name,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, span_count, error_count, services
    FROM traces JOIN methods ON methods.id = root_method;
CREATE VIEW exception_list AS
    SELECT exceptions.id, lower(hex(exceptions.trace_id)) AS trace_id,
        lower(hex(exceptions.span_id)) AS span_id,
        lower(hex(exceptions.origin_span_id)) AS origin_span_id, fingerprint AS exception_group, how,
        exceptions.type, exceptions.message,
        datetime(at_ns / 1000000000, 'unixepoch') AS at, at_ns, exceptions.frames, causes
    FROM exceptions LEFT JOIN exception_groups ON exception_groups.id = exception_group;
CREATE VIEW method_minute_list AS
    SELECT datetime(bucket * 60, 'unixepoch') AS minute, service, name, kind, calls, errors,
        total_ns / 1e6 AS total_ms, self_ns / 1e6 AS self_ms, histogram
    FROM method_figures JOIN methods ON methods.id = method WHERE resolution_s = 60;
"""


@migrations()
def create_tables(db: Database) -> None:
    """Create everything version 1 has."""
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            db.execute(statement)


_UNFINISHED_AND_LOSSES = """
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
    UNIQUE (trace_id, span_id)
);
CREATE TABLE refused_spans (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    reason TEXT NOT NULL,
    at_ns INTEGER NOT NULL
);
CREATE INDEX refused_spans_by_trace ON refused_spans (trace_id);
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
INSERT INTO losses (instance, reason, span_count, first_ns, last_ns, first_sequence, last_sequence)
    SELECT instance, reason, span_count, noted_ns, noted_ns, first_sequence, last_sequence
    FROM gaps WHERE span_count > 0 ORDER BY id;
INSERT INTO losses (instance, reason, span_count, first_ns, last_ns)
    SELECT instance, 'queue full', spans_dropped, first_seen_ns, last_seen_ns
    FROM publishers WHERE spans_dropped > 0;
INSERT INTO losses (instance, reason, span_count, first_ns, last_ns)
    SELECT instance, 'refused', spans_refused, first_seen_ns, last_seen_ns
    FROM publishers WHERE spans_refused > 0;
DROP TABLE gaps;
ALTER TABLE publishers RENAME TO old_publishers;
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
INSERT INTO publishers
    SELECT instance, state, next_sequence, spans_created, spans_stored, spans_dropped,
        tombstoned, spans_missing - tombstoned - undelivered - crashed, undelivered, crashed,
        spans_refused, spans_elsewhere, mended, first_seen_ns, last_seen_ns
    FROM old_publishers JOIN (
        SELECT publisher.instance AS of_instance,
            coalesce(sum(span_count) FILTER (WHERE reason = 'window full'), 0) AS tombstoned,
            coalesce(sum(span_count) FILTER (WHERE reason = 'not delivered before the end'), 0)
                AS undelivered,
            coalesce(sum(span_count) FILTER (WHERE reason = 'process crashed'), 0) AS crashed
        FROM old_publishers AS publisher LEFT JOIN losses ON losses.instance = publisher.instance
        GROUP BY publisher.instance
    ) ON of_instance = instance;
DROP TABLE old_publishers;
INSERT INTO totals VALUES ('spans_expired', 0);
ALTER TABLE instances ADD COLUMN spans_expired INTEGER NOT NULL DEFAULT 0;
CREATE VIEW unfinished_list AS
    SELECT unfinished_spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns, seen_ns,
        publishers.state, publishers.last_seen_ns, instances.host, instances.pid, attributes, links
    FROM unfinished_spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
        JOIN publishers USING (instance);
CREATE VIEW loss_list AS
    SELECT losses.id, service, host, pid, reason, span_count,
        datetime(first_ns / 1000000000, 'unixepoch') AS first,
        datetime(last_ns / 1000000000, 'unixepoch') AS last, first_ns, last_ns
    FROM losses JOIN instances ON instances.id = instance;
"""


@migrations()
def add_unfinished_spans_and_losses(db: Database) -> None:
    """Add version 2: spans that have not ended, every loss with its time, one column for each reason."""
    for statement in _UNFINISHED_AND_LOSSES.split(";\n"):
        if statement.strip():
            db.execute(statement)


_WAYS_OF_EXCEPTIONS = """
ALTER TABLE exceptions ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';
ALTER TABLE exceptions ADD COLUMN members TEXT NOT NULL DEFAULT '[]';
ALTER TABLE exceptions ADD COLUMN is_root INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exceptions ADD COLUMN service TEXT NOT NULL DEFAULT '';
ALTER TABLE exceptions ADD COLUMN other_origins TEXT;
CREATE INDEX exceptions_by_origin ON exceptions (origin_span_id, span_id);
CREATE TABLE exception_edges (
    trace_id BLOB NOT NULL,
    origin_span_id BLOB NOT NULL,
    PRIMARY KEY (trace_id, origin_span_id)
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
ALTER TABLE exception_groups ADD COLUMN state TEXT NOT NULL DEFAULT 'open';
ALTER TABLE exception_groups ADD COLUMN resolved_ns INTEGER;
ALTER TABLE exception_groups ADD COLUMN template TEXT NOT NULL DEFAULT '';
ALTER TABLE exception_groups ADD COLUMN services TEXT NOT NULL DEFAULT '[]';
ALTER TABLE exception_groups ADD COLUMN edge_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE exception_minutes ADD COLUMN edge_count INTEGER NOT NULL DEFAULT 0;
UPDATE exceptions SET is_root = 1 FROM traces
    WHERE traces.trace_id = exceptions.trace_id AND root_span_id = span_id;
UPDATE exceptions SET service = methods.service FROM spans JOIN methods ON methods.id = method
    WHERE spans.trace_id = exceptions.trace_id AND spans.span_id = exceptions.span_id;
INSERT OR IGNORE INTO exception_edges
    SELECT trace_id, origin_span_id FROM exceptions WHERE is_root AND origin_trace_id = trace_id;
INSERT OR IGNORE INTO exception_edges
    SELECT exceptions.trace_id, origin_span_id FROM exceptions JOIN spans USING (trace_id, span_id)
        JOIN methods ON methods.id = method
    WHERE methods.kind = 'consumer' AND origin_trace_id = exceptions.trace_id;
UPDATE exception_minutes SET edge_count = reached FROM (
        SELECT exception_group AS of_group, at_ns / 60000000000 AS at, count(*) AS reached
        FROM exceptions JOIN exception_edges USING (trace_id, origin_span_id)
        WHERE span_id = origin_span_id AND origin_trace_id = trace_id GROUP BY of_group, at
    ) WHERE exception_group = of_group AND minute = at;
UPDATE exception_groups SET template = message, services = json_array(service), edge_count = (
        SELECT coalesce(sum(edge_count), 0) FROM exception_minutes WHERE exception_group = exception_groups.id
    );
UPDATE exception_groups SET services = found FROM (
        SELECT exception_group AS of_group, json_group_array(service) AS found FROM (
            SELECT DISTINCT exception_group, service FROM exceptions WHERE service <> '' ORDER BY 1, 2
        ) GROUP BY of_group
    ) WHERE id = of_group;
INSERT INTO exception_samples (exception_group, trace_id, span_id, at_ns, which)
    SELECT exception_group, trace_id, span_id, min(at_ns), 'first' FROM exceptions
    WHERE span_id = origin_span_id AND origin_trace_id = trace_id
        AND exception_group IN (SELECT id FROM exception_groups) GROUP BY exception_group;
INSERT INTO exception_samples (exception_group, trace_id, span_id, at_ns, which)
    SELECT exception_groups.id, exception_groups.trace_id, exception_groups.origin_span_id, last_ns, 'latest'
    FROM exception_groups JOIN exception_samples ON exception_group = exception_groups.id
    WHERE (exception_groups.trace_id, origin_span_id) <> (exception_samples.trace_id, span_id)
        AND EXISTS (SELECT 1 FROM exceptions WHERE exceptions.trace_id = exception_groups.trace_id);
DROP VIEW exception_list;
CREATE VIEW exception_list AS
    SELECT exceptions.id, lower(hex(exceptions.trace_id)) AS trace_id,
        lower(hex(exceptions.span_id)) AS span_id,
        lower(hex(exceptions.origin_span_id)) AS origin_span_id, fingerprint AS exception_group, how, is_root,
        exceptions.service, exceptions.type, exceptions.message,
        datetime(at_ns / 1000000000, 'unixepoch') AS at, at_ns, exceptions.frames, causes, notes, members
    FROM exceptions LEFT JOIN exception_groups ON exception_groups.id = exception_group;
CREATE VIEW group_list AS
    SELECT id, fingerprint AS exception_group, state, type, template, service, name, kind, count, edge_count,
        count - edge_count AS swallowed_count, services,
        datetime(first_ns / 1000000000, 'unixepoch') AS first,
        datetime(last_ns / 1000000000, 'unixepoch') AS last, first_ns, last_ns,
        lower(hex(trace_id)) AS trace_id, lower(hex(origin_span_id)) AS origin_span_id, message, frames
    FROM exception_groups;
"""


@migrations()
def add_ways_of_exceptions(db: Database) -> None:
    """Add version 3: how far exceptions came, samples of each group, and what became of it."""
    for statement in _WAYS_OF_EXCEPTIONS.split(";\n"):
        if statement.strip():
            db.execute(statement)


_DETAILS = """
ALTER TABLE spans ADD COLUMN details TEXT;
ALTER TABLE unfinished_spans ADD COLUMN details TEXT;
ALTER TABLE instances ADD COLUMN resource TEXT;
DROP VIEW span_list;
CREATE VIEW span_list AS
    SELECT spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, self_ns / 1e6 AS self_ms, cpu_ns / 1e6 AS cpu_ms,
        CASE status WHEN 0 THEN 'ok' WHEN 1 THEN 'error' ELSE 'unfinished' END AS status,
        instances.host, instances.pid, attributes, links, details
    FROM spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance;
DROP VIEW unfinished_list;
CREATE VIEW unfinished_list AS
    SELECT unfinished_spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns, seen_ns,
        publishers.state, publishers.last_seen_ns, instances.host, instances.pid, attributes, links, details
    FROM unfinished_spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance
        JOIN publishers USING (instance);
"""


@migrations()
def add_details(db: Database) -> None:
    """Add version 4: what only OpenTelemetry has, of spans and of the processes they come from."""
    for statement in _DETAILS.split(";\n"):
        if statement.strip():
            db.execute(statement)


_DESTINATIONS = """
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
"""


@migrations()
def add_destinations(db: Database) -> None:
    """Add version 5: where spans are sent on to, and how far that has come."""
    for statement in _DESTINATIONS.split(";\n"):
        if statement.strip():
            db.execute(statement)
