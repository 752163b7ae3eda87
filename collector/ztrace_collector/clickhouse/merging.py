"""Traces merged from the rows of their blocks, in SQL that readers and thinning share."""

#: Start of a root in rows of blocks that have none.
NEVER = 2**63 - 1
#: Columns of a merged trace, of rows ``t``; the start is the root's, or the first span's.
COLUMNS = f"""
    trace_id, min(t.root) AS root, min(t.first) AS first,
    root.1 < {NEVER} AS rooted,
    if(rooted, root.1, first.1) AS start_ns,
    greatest(max(t.end_ns), start_ns) AS end_ns,
    if(rooted, root.3, end_ns - start_ns) AS duration_ns,
    if(rooted, root.4, first.2) AS root_method,
    sum(t.span_count) AS spans, sum(t.error_count) AS errors,
    groupUniqArrayArray(t.methods) AS all_methods"""
#: Query of merged traces, without GROUP BY.
MERGED = f"SELECT {COLUMNS} FROM traces AS t"
