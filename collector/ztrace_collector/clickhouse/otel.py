"""View of the spans with the columns of OpenTelemetry's ClickHouse exporter, for dashboards that expect them.

Exceptions are not among the events: the table ``exceptions`` has them, once and at their origin. A search by
``TraceId`` reads every row; ``WHERE trace_id = unhex('…')``, the last column, reads one trace.
"""

#: Attributes of a JSON object as text: texts as they are, other values as JSON.
_MAP = (
    "mapApply((k, v) -> (k, if(startsWith(v, '\"'), JSONExtractString(v), v)),"
    " CAST(JSONExtractKeysAndValuesRaw({}), 'Map(String, String)'))"
)

#: Statement that creates the view.
OTEL_VIEW = f"""CREATE VIEW IF NOT EXISTS otel_traces AS SELECT
    fromUnixTimestamp64Nano(s.start_ns, 'UTC') AS Timestamp,
    lower(hex(s.trace_id)) AS TraceId,
    lower(hex(s.span_id)) AS SpanId,
    if(s.parent_id = toFixedString('', 8), '', lower(hex(s.parent_id))) AS ParentSpanId,
    JSONExtractString(s.details, 'trace_state') AS TraceState,
    m.name AS SpanName,
    initcap(m.kind) AS SpanKind,
    m.service AS ServiceName,
    {_MAP.format("i.resource")} AS ResourceAttributes,
    JSONExtractString(s.details, 'scope', 'name') AS ScopeName,
    JSONExtractString(s.details, 'scope', 'version') AS ScopeVersion,
    {_MAP.format("s.attributes")} AS SpanAttributes,
    toUInt64(s.duration_ns) AS Duration,
    multiIf(s.status = 1, 'Error', JSONExtractString(s.details, 'status') = 'ok', 'Ok', 'Unset')
        AS StatusCode,
    JSONExtractString(s.details, 'status_message') AS StatusMessage,
    JSONExtractArrayRaw(s.details, 'events') AS raw_events,
    JSONExtractArrayRaw(s.links) AS raw_links,
    arrayMap(e -> fromUnixTimestamp64Nano(JSONExtractInt(e, 'time_ns'), 'UTC'), raw_events)
        AS `Events.Timestamp`,
    arrayMap(e -> JSONExtractString(e, 'name'), raw_events) AS `Events.Name`,
    arrayMap(e -> {_MAP.format("JSONExtractRaw(e, 'attributes')")}, raw_events) AS `Events.Attributes`,
    arrayMap(l -> JSONExtractString(l, 'trace_id'), raw_links) AS `Links.TraceId`,
    arrayMap(l -> JSONExtractString(l, 'span_id'), raw_links) AS `Links.SpanId`,
    s.trace_id AS trace_id
FROM spans AS s
LEFT JOIN (SELECT * FROM methods FINAL) AS m ON m.id = s.method
LEFT JOIN (SELECT * FROM instances FINAL) AS i ON i.id = s.instance
WHERE (s.trace_id, s.span_id, s.instance, s.journal) NOT IN
    (SELECT trace_id, span_id, instance, journal FROM duplicates)"""
