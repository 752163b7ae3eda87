"""Responses of the application in this process."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.stored import span, store, trace_id
from ztrace.addresses import Address
from ztrace_viewer.web.app import make_app
from ztrace_viewer.web.jaeger import version1
from ztrace_viewer.web.live import Live

TOKEN = "token-of-the-tests"


def ask(database: Path, path: str) -> tuple[int, Any]:
    """Send one request to the application, and return the status and the document of the response."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"x-ztrace-token", TOKEN.encode())],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    app = make_app(database, TOKEN, Address("127.0.0.1", 4711), Live(database))
    try:
        asyncio.run(app(scope, receive, send))
    except TypeError:
        pass  # The server would log it once more.
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)


def test_a_defect_is_logged_and_not_told(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is answered with status 500, and logged with its traceback."""

    def list_services(db: object) -> list[str]:
        raise TypeError("a secret")

    monkeypatch.setattr(version1, "list_services", list_services)
    status, document = ask(shop, "/api/services")
    assert (status, document["errors"][0]["code"]) == (500, 500)
    assert "defect" in document["errors"][0]["msg"]
    assert "secret" not in json.dumps(document)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ztrace_viewer.web.app", logging.ERROR)
    assert record.getMessage() == "GET '/api/services' failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is TypeError


def test_circles_of_parents_are_shown(path: Path) -> None:
    """A span that is its own parent, and each circle, have a root in what Jaeger's page draws."""
    own, ring = trace_id(1), trace_id(2)
    spans = [span(own, 1, 1), span(own, 2, 1, start_ms=1)]
    spans += [span(ring, number, number % 3 + 1, start_ms=number) for number in (1, 2, 3)]
    store(path, {"shop": [*spans, span(ring, 4, 3, start_ms=4)]})
    for trace in (own.hex(), ring.hex()):
        status, document = ask(path, f"/api/traces/{trace}")
        assert status == 200
        (found,) = document["data"]
        roots = [each for each in found["spans"] if not each["references"]]
        assert [each["spanID"] for each in roots] == [f"{1:016x}"]
        assert roots[0]["warnings"] == ["its parents form a circle, so it is shown as a root"]
        status, document = ask(path, f"/api/v3/traces/{trace}")
        assert status == 200
        later = [
            each
            for resource in document["result"]["resourceSpans"]
            for scope in resource["scopeSpans"]
            for each in scope["spans"]
        ]
        assert [each["spanId"] for each in later if "parentSpanId" not in each] == [f"{1:016x}"]
        assert len(later) == len(found["spans"])
