"""Tables of what is sent on: the destinations of spans, and the copies in ClickHouse.

One idea: a position in the file is written together with the counts of what was sent up to there, so both
agree whenever a process is killed.
"""

#: Statements that create them.
SENDING = """
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
CREATE TABLE shipping (
    engine TEXT PRIMARY KEY,
    journal TEXT NOT NULL,
    destination INTEGER REFERENCES destinations (id),
    place INTEGER NOT NULL,
    block_end INTEGER,
    block_ms INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    complete_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    key ANY NOT NULL,
    deleted INTEGER NOT NULL
);
CREATE INDEX changes_by_key ON changes (source, key);
"""
