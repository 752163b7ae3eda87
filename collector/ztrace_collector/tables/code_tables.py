"""Tables of sampled code, and of requests for profiles and the answers to them."""

#: Statements that create them.
CODE_TABLES = """
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL,
    function TEXT NOT NULL,
    line INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    UNIQUE (file, function, line)
);
CREATE TABLE stacks (
    id INTEGER PRIMARY KEY,
    parent INTEGER NOT NULL,
    frame INTEGER NOT NULL REFERENCES frames (id),
    hour INTEGER NOT NULL,
    UNIQUE (parent, frame)
);
CREATE TABLE stack_minutes (
    id INTEGER PRIMARY KEY,
    minute INTEGER NOT NULL,
    method INTEGER NOT NULL REFERENCES methods (id),
    run_ns INTEGER NOT NULL,
    wait_ns INTEGER NOT NULL,
    busy_ns INTEGER NOT NULL,
    sums BLOB NOT NULL,
    UNIQUE (minute, method)
);
CREATE TABLE stack_hours (
    id INTEGER PRIMARY KEY,
    hour INTEGER NOT NULL,
    method INTEGER NOT NULL REFERENCES methods (id),
    run_ns INTEGER NOT NULL,
    wait_ns INTEGER NOT NULL,
    busy_ns INTEGER NOT NULL,
    sums BLOB NOT NULL,
    UNIQUE (hour, method)
);
CREATE TABLE span_stacks (
    id INTEGER PRIMARY KEY,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    instance INTEGER NOT NULL REFERENCES instances (id),
    at_ns INTEGER NOT NULL,
    runs BLOB NOT NULL
);
CREATE INDEX span_stacks_by_trace ON span_stacks (trace_id);
CREATE TABLE profile_requests (
    id INTEGER PRIMARY KEY,
    nonce BLOB NOT NULL UNIQUE,
    service TEXT NOT NULL,
    hz INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    sent_ns INTEGER
);
CREATE TABLE profile_answers (
    nonce BLOB NOT NULL,
    instance INTEGER NOT NULL REFERENCES instances (id),
    state INTEGER NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (nonce, instance)
) WITHOUT ROWID;
"""
