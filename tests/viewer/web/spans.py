"""Spans whose Jaeger answers are recorded: one request in OTLP JSON, with every kind of data.

One idea: a failed checkout, an order pushed and processed, an orphan, and a trace id with leading zeros;
every
kind of value, and each field of a span once.
"""

import json
from pathlib import Path
from typing import Any

from ztrace_collector.checking.parcels import pack
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.otlp.mapping.json_form import parse_request
from ztrace_collector.storing.store import Store

#: Start of all spans: 2026-01-31 12:00:00 UTC.
NOON_NS = 1_769_860_800_000_000_000
MS = 1_000_000

CHECKOUT = "0198c0a1b2c3d4e5f60718293a4b5c6d"
ORDER = "0198c0a1b2c3d4e5f60718293a4b5c6e"
WORK = "0198c0a1b2c3d4e5f60718293a4b5c6f"
ORPHAN = "0198c0a1b2c3d4e5f60718293a4b5c70"
SHORT = "00000000000000000000000000000abc"

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5
UNSET, OK, ERROR = 0, 1, 2


def attribute(key: str, **value: object) -> dict[str, object]:
    """Return an attribute, with its value by the name of its type."""
    return {"key": key, "value": value}


def span(
    trace: str,
    number: int,
    parent: int | None,
    name: str,
    kind: int,
    start_ms: float,
    took_ms: float,
    **more: object,
) -> dict[str, object]:
    """Return a span of a trace."""
    start_ns = NOON_NS + int(start_ms * MS)
    made = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + int(took_ms * MS)),
        **more,
    }
    if parent is not None:
        made["parentSpanId"] = f"{parent:016x}"
    return made


def process(service: str, spans: list[dict[str, object]], **scope: object) -> dict[str, object]:
    """Return a process with its spans, in one scope."""
    return {
        "resource": {
            "attributes": [
                attribute("service.name", stringValue=service),
                attribute("host.name", stringValue="box"),
                attribute("process.pid", intValue="4711"),
            ]
        },
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }


#: Request sent to Jaeger.
REQUEST: dict[str, Any] = {
    "resourceSpans": [
        process(
            "shop",
            [
                span(
                    CHECKOUT,
                    1,
                    None,
                    "checkout",
                    SERVER,
                    0,
                    120,
                    attributes=[
                        attribute("http.request.method", stringValue="POST"),
                        attribute("http.response.status_code", intValue="500"),
                        attribute("big", intValue="9007199254740993"),
                        attribute("ratio", doubleValue=0.25),
                        attribute("retried", boolValue=False),
                        attribute("raw", bytesValue="AAEC/w=="),
                        attribute(
                            "items", arrayValue={"values": [{"stringValue": "a"}, {"stringValue": "b"}]}
                        ),
                        attribute("empty", stringValue=""),
                    ],
                    status={"code": ERROR, "message": "payment refused"},
                    traceState="vendor=1",
                ),
                span(CHECKOUT, 2, 1, "charge", CLIENT, 5, 100.5, status={"code": ERROR}),
                span(
                    ORDER,
                    5,
                    None,
                    "orders",
                    PRODUCER,
                    1000,
                    2,
                    attributes=[attribute("messaging.system", stringValue="zeromq")],
                ),
                span(SHORT, 8, None, "ping", INTERNAL, 3000, 0.001),
            ],
            name="shop.tracer",
            version="1.2",
        ),
        process(
            "billing",
            [
                span(
                    CHECKOUT,
                    3,
                    2,
                    "charge",
                    SERVER,
                    10,
                    90,
                    status={"code": ERROR},
                    events=[
                        {
                            "name": "exception",
                            "timeUnixNano": str(NOON_NS + 99 * MS + 1),
                            "attributes": [
                                attribute("exception.type", stringValue="CardRefused"),
                                attribute("exception.message", stringValue="no money"),
                            ],
                        }
                    ],
                ),
                span(CHECKOUT, 4, 3, "look up", INTERNAL, 20, 30, status={"code": OK}),
            ],
        ),
        process(
            "worker",
            [
                span(
                    WORK,
                    6,
                    None,
                    "orders",
                    CONSUMER,
                    1010,
                    50,
                    links=[{"traceId": ORDER, "spanId": f"{5:016x}"}],
                    attributes=[attribute("messaging.system", stringValue="zeromq")],
                ),
                span(ORPHAN, 7, 99, "lost", SERVER, 2000, 10),
            ],
        ),
    ]
}


def store_request(path: Path, request: dict[str, Any]) -> None:
    """Store a request as if received."""
    batches = read_request(parse_request(json.dumps(request)))
    store = Store(path)
    written = store.store([], [parcel for batch in batches for parcel in pack(batch)])
    store.close()
    assert written.outcomes is not None
    assert not any(outcome.refused for outcome in written.outcomes), written.outcomes


_ALL = "start=0&end=1769860900000000"
#: Queries of versions 1 and 3, by the name of the file with the answer.
VERSION_1 = {
    "v1_services": "/api/services",
    "v1_operations_of_shop": "/api/services/shop/operations",
    "v1_operations_of_nobody": "/api/services/nobody/operations",
    "v1_operations": "/api/operations?service=shop",
    "v1_operations_of_kind": "/api/operations?service=shop&spanKind=client",
    "v1_operations_of_none": "/api/operations",
    "v1_trace": f"/api/traces/{CHECKOUT}",
    "v1_trace_short_id": "/api/traces/abc",
    "v1_trace_linked": f"/api/traces/{WORK}",
    "v1_trace_missing": "/api/traces/77",
    "v1_trace_bad_id": "/api/traces/xyz",
    "v1_search": "/api/traces?service=shop&start=1769860800000000&end=1769860900000000",
    "v1_search_operation": f"/api/traces?service=billing&operation=look%20up&{_ALL}",
    "v1_search_limit": f"/api/traces?service=shop&limit=1&{_ALL}",
    "v1_search_early": "/api/traces?service=shop&start=0&end=1769860799000000",
    "v1_search_short": f"/api/traces?service=shop&maxDuration=1ms&{_ALL}",
    "v1_search_long": f"/api/traces?service=shop&minDuration=110ms&{_ALL}",
    "v1_search_tags": f"/api/traces?service=shop&tags=%7B%22http.request.method%22%3A%22POST%22%7D&{_ALL}",
    "v1_search_tag": f"/api/traces?service=shop&tag=http.response.status_code:500&{_ALL}",
    "v1_search_error": f"/api/traces?service=billing&tags=%7B%22error%22%3A%22true%22%7D&{_ALL}",
    "v1_search_event": f"/api/traces?service=billing&tag=exception.type:CardRefused&{_ALL}",
    "v1_search_process": f"/api/traces?service=worker&tag=host.name:box&{_ALL}",
    "v1_search_other_tag": f"/api/traces?service=shop&tag=http.request.method:GET&{_ALL}",
    "v1_search_ids": f"/api/traces?traceID={WORK}&traceID=abc&traceID=77",
    "v1_search_nobody": f"/api/traces?service=nobody&{_ALL}",
    "v1_search_bad_duration": "/api/traces?service=shop&minDuration=soon",
    "v1_search_bad_tags": "/api/traces?service=shop&tags=nonsense",
    "v1_search_bad_start": "/api/traces?service=shop&start=yesterday",
    "v1_dependencies": "/api/dependencies?endTs=1769860900000&lookback=3600000",
    "v1_metrics": "/api/metrics/calls?service=shop",
}
_TIME = "query.startTimeMin=2026-01-31T11:00:00Z&query.startTimeMax=2026-01-31T13:00:00Z"
_OLD_TIME = "query.start_time_min=2026-01-31T11:00:00Z&query.start_time_max=2026-01-31T13:00:00Z"
VERSION_3 = {
    "v3_services": "/api/v3/services",
    "v3_operations": "/api/v3/operations?service=shop",
    "v3_operations_of_kind": "/api/v3/operations?service=shop&span_kind=client",
    "v3_trace": f"/api/v3/traces/{CHECKOUT}",
    "v3_trace_missing": "/api/v3/traces/77",
    "v3_trace_bad_id": "/api/v3/traces/xyz",
    "v3_search": f"/api/v3/traces?query.service_name=billing&{_OLD_TIME}",
    "v3_search_nobody": f"/api/v3/traces?query.service_name=nobody&{_OLD_TIME}",
    "v3_search_without_time": "/api/v3/traces?query.service_name=billing",
    "v3_search_bad_time": "/api/v3/traces?query.start_time_min=noon&query.start_time_max=now",
}
#: Queries that only servers of version 2 answer.
VERSION_3_NEW = {
    "v3_search_new_names": f"/api/v3/traces?query.serviceName=billing&{_TIME}",
    "v3_summaries": f"/api/v3/trace-summaries?query.serviceName=shop&{_TIME}",
    "v3_summaries_of_all": f"/api/v3/trace-summaries?{_TIME}",
    "v3_summaries_of_orphan": f"/api/v3/trace-summaries?query.serviceName=worker&{_TIME}",
    "v3_summaries_of_nobody": f"/api/v3/trace-summaries?query.serviceName=nobody&{_TIME}",
    "v3_summaries_without_time": "/api/v3/trace-summaries?query.serviceName=shop",
}
