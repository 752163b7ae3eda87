"""Exported files without the order of spans and the numbers of processes, which stores choose."""

import json
from typing import Any


def sort_exported(text: str, form: str) -> list[str]:
    """Return the parts of a file in one order."""
    if form == "otlp":
        return sorted(_write(each) for line in text.splitlines() for each in _split(json.loads(line)))
    document = json.loads(text)
    if form == "jaeger":
        return sorted(
            _write([trace["traceID"], span | {"processID": trace["processes"][span["processID"]]}])
            for trace in document["data"]
            for span in trace["spans"]
        )
    if form == "chrome":
        numbers = {"pid": 0, "tid": 0, "id": 0}
        return sorted(_write({**event, **numbers}) for event in document["traceEvents"])
    return [_write(document)]


def _split(request: dict[str, Any]) -> list[Any]:
    """Return the spans of a request, each with its resource and its scope."""
    return [
        [resource["resource"], scope["scope"], span]
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _write(value: object) -> str:
    return json.dumps(value, sort_keys=True)
