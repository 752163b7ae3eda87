"""Views of a database file, for users of other programs.

One idea: a view shows what a person reads: names for keys, hex for ids, and milliseconds. ztrace itself reads
the tables.
"""

#: Spans as a person reads them, from a table or view.
SPAN_LIST = """
SELECT spans.id, lower(hex(trace_id)) AS trace_id, lower(hex(span_id)) AS span_id,
        lower(hex(parent_id)) AS parent_id, methods.service, methods.name, methods.kind,
        datetime(start_ns / 1000000000, 'unixepoch') AS started, start_ns,
        duration_ns / 1e6 AS duration_ms, self_ns / 1e6 AS self_ms, cpu_ns / 1e6 AS cpu_ms,
        CASE status WHEN 0 THEN 'ok' WHEN 1 THEN 'error' ELSE 'unfinished' END AS status,
        instances.host, instances.pid, attributes, links, details
    FROM {} AS spans JOIN methods ON methods.id = method JOIN instances ON instances.id = instance"""
#: Statements that create them.
VIEWS = f"""
CREATE VIEW span_list AS {SPAN_LIST.format("spans")};
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
CREATE VIEW stack_list AS
    WITH RECURSIVE named (id, depth, file, function, line, stack) AS (
        SELECT stacks.id, 0, file, function, line, function || ':' || line
            FROM stacks JOIN frames ON frames.id = frame WHERE parent = 0
        UNION ALL
        SELECT stacks.id, depth + 1, frames.file, frames.function, frames.line,
            stack || ' > ' || frames.function || ':' || frames.line
            FROM named JOIN stacks ON parent = named.id JOIN frames ON frames.id = frame
    )
    SELECT * FROM named;
CREATE VIEW loss_list AS
    SELECT losses.id, service, host, pid, reason, span_count,
        datetime(first_ns / 1000000000, 'unixepoch') AS first,
        datetime(last_ns / 1000000000, 'unixepoch') AS last, first_ns, last_ns
    FROM losses JOIN instances ON instances.id = instance;
"""
