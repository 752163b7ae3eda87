"""Answers compared with Jaeger's for the same spans, recorded by `record.py`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.web.serving import Site
from tests.viewer.web.spans import VERSION_1, VERSION_3, VERSION_3_NEW

RECORDED = Path(__file__).parent / "recorded"
QUESTIONS = {**VERSION_1, **VERSION_3, **VERSION_3_NEW}


def _in_order(items: list[Any]) -> list[Any]:
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def whole_id(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item with a full trace id: Jaeger omits a zero first half."""
    return {**item, "traceID": item["traceID"].zfill(32)} if "traceID" in item else item


def plain_trace(trace: dict[str, Any]) -> dict[str, Any]:
    """Return a version 1 trace without arbitrary parts: process numbers and orders."""
    spans = []
    for span in trace["spans"]:
        process = trace["processes"][span["processID"]]
        logs = [{**log, "fields": _in_order(log["fields"])} for log in span["logs"]]
        spans.append(
            {
                **whole_id(span),
                "processID": {**process, "tags": _in_order(process["tags"])},
                "tags": _in_order(span["tags"]),
                "references": _in_order([whole_id(each) for each in span["references"]]),
                "logs": logs,
                # Jaeger's own wording, for the same spans.
                "warnings": len(span["warnings"] or ()),
            }
        )
    return {**whole_id(trace), "spans": _in_order(spans), "processes": len(trace["processes"])}


def plain_spans(resources: list[dict[str, Any]]) -> list[Any]:
    """Return OTLP spans, each with its resource and scope, in a fixed order."""
    return _in_order(
        [
            [_plain(resource["resource"]), _plain(scope.get("scope", {})), _plain(span)]
            for resource in resources
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
    )


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in item.items() if value not in ("", {}, [])}
    if "attributes" in made:
        made["attributes"] = _in_order([_plain_attribute(each) for each in made["attributes"]])
    if "events" in made:
        made["events"] = [_plain(event) for event in made["events"]]
    return made


def _plain_attribute(attribute: dict[str, Any]) -> dict[str, Any]:
    value = attribute["value"]
    if "arrayValue" in value:
        # This Jaeger stored lists as text, even for OTLP answers.
        texts = [each["stringValue"] for each in value["arrayValue"]["values"]]
        value = {"stringValue": json.dumps(texts, separators=(",", ":"))}
    return {"key": attribute["key"], "value": value}


def plain(document: dict[str, Any]) -> Any:
    """Return a document without arbitrary parts and without the wording of errors."""
    if "error" in document:
        error = document["error"]
        return {"error": {**error, "message": type(error["message"]).__name__}}
    if "result" in document:
        return plain_spans(document["result"]["resourceSpans"])
    if "summaries" in document or not document:
        return _in_order(document.get("summaries", []))
    for name in ("services", "operations"):
        if name in document:
            return {name: _in_order(document[name])}
    # Jaeger has null for some empty lists.
    data = document["data"] or []
    if any("spans" in each for each in data):
        data = [plain_trace(trace) for trace in data]
    if any("callCount" in each for each in data):
        # Jaeger counts calls within a service too.
        data = [each for each in data if each["parent"] != each["child"]]
    errors = [{**whole_id(each), "msg": type(each["msg"]).__name__} for each in document["errors"] or []]
    return {**document, "data": _in_order(data), "errors": _in_order(errors)}


@pytest.mark.process
@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_those_of_jaeger(like_jaeger: Site, name: str) -> None:
    """Answers have Jaeger's status, keys, types and values, except the wording of errors."""
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    answer = like_jaeger.ask(QUESTIONS[name])
    assert answer.status == recorded["status"]
    assert plain(answer.document) == plain(recorded["document"])


def test_every_recording_is_used() -> None:
    """Every recorded file belongs to a query."""
    assert {path.stem for path in RECORDED.glob("*.json")} == set(QUESTIONS)
