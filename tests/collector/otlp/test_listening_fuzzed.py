"""Fuzzed requests: no server error, no leaked memory, and every refusal counted.

Valid requests in protobuf and JSON are damaged by hypothesis. Schemathesis on an OpenAPI description was
tried and
rejected: it knows no protobuf, and hardly one span in a thousand JSON requests passed the first checks.
"""

import gzip
import http.client
import json
import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.collector.otlp.listeners import DEADLINE_S, Started, count_spans, refusals, started
from tests.collector.otlp.requests import requests
from tests.ztrace.waiting import wait_for
from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_collector.refusals import OTLP_REASONS

pytestmark = pytest.mark.process

JSON, PROTOBUF = "application/json", "application/x-protobuf"
#: Growth of a process allowed for a few hundred requests of some kilobytes, due to Python and SQLite.
GROWTH_KB = 30_000

_JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["resourceSpans", "resource", "attributes", "key", "value", "intValue", "scopeSpans", "spans"]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@st.composite
def _damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """Draw the bytes with some of them changed, removed or inserted."""
    content = bytearray(body)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        how = draw(st.sampled_from(["change", "cut", "end", "insert"]))
        if how == "change" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 9))]
        elif how == "end":
            del content[at:]
        else:
            content[at:at] = draw(st.binary(max_size=6))
    return bytes(content)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Draw a body, and headers that may fit it."""
    form = draw(st.sampled_from([PROTOBUF, JSON]))
    which = draw(st.sampled_from(["whole", "whole", "good", "good", "rubbish", "shaped"]))
    if which in ("whole", "good"):
        request = draw(requests())
        body = request.SerializeToString() if form == PROTOBUF else format_request(request).encode()
        body = draw(_damaged(body)) if which == "good" else body
    elif which == "rubbish":
        body = draw(st.binary(max_size=200))
    else:
        form = JSON
        body = json.dumps(draw(_JSON_VALUES)).encode()
    headers = {"Content-Type": form}
    if draw(st.booleans()):
        headers["Content-Encoding"] = "gzip"
        body = draw(_damaged(gzip.compress(body))) if draw(st.booleans()) else gzip.compress(body)
    return body, headers


_ODD_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Content-Type": st.sampled_from(
            ["", "text/plain", "application/json;;", "APPLICATION/JSON", "a/b/c", ";"]
        ),
        "Content-Encoding": st.sampled_from(["", "br", "gzip, gzip", "deflate", "\xff"]),
        "Host": st.sampled_from(["", "localhost", "example.org", "[", "::1", "localhost:x"]),
        "Origin": st.sampled_from(["", "null", "http://localhost"]),
    },
)


def resident_kb(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


class Sent:
    """Counts of the answers received."""

    def __init__(self, collector: Started) -> None:
        self._address = collector.http.removeprefix("http://")
        self.refused_requests = self.refused_spans = self.taken = 0

    def post(
        self, body: bytes, headers: dict[str, str], method: str = "POST", path: str = "/v1/traces"
    ) -> None:
        """Send a request, and check and count its answer."""
        with closing(http.client.HTTPConnection(self._address, timeout=DEADLINE_S)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content, form = answer.read(), answer.headers["Content-Type"]
        assert answer.status in (200, 400, 403, 404, 405, 415), (answer.status, content)
        assert form in (JSON, PROTOBUF)
        if answer.status == 200:
            response = ExportTraceServiceResponse()
            Parse(content, response) if form == JSON else response.ParseFromString(content)
            self.taken += 1
            self.refused_spans += response.partial_success.rejected_spans
        else:
            status = Status()
            Parse(content, status) if form == JSON else status.ParseFromString(content)
            assert status.code
            assert status.message
            self.refused_requests += 1


@pytest.mark.slow
def test_whatever_is_posted(tmp_path: Path) -> None:
    """Any request is accepted or refused with a parsable answer, and counted once."""
    path = tmp_path / "traces.db"
    with started(path) as collector:
        sent = Sent(collector)

        @settings(max_examples=max(50, settings().max_examples))
        @given(body=bodies())
        def post_bodies(body: tuple[bytes, dict[str, str]]) -> None:
            sent.post(*body)

        @settings(max_examples=max(50, settings().max_examples))
        @given(
            body=st.sampled_from([b"", b"{}", b"\xff"]),
            headers=_ODD_HEADERS,
            method=st.sampled_from(["POST", "GET", "PUT", "OPTIONS", "TRACE", "POSTS"]),
            path=st.sampled_from(["/v1/traces", "/v1/traces?x=1", "/", "//v1/traces", "/v1/%74races", "*"]),
        )
        def post_oddly(body: bytes, headers: dict[str, str], method: str, path: str) -> None:
            sent.post(body, headers, method, path)

        post_bodies()
        post_oddly()
        before_kb = resident_kb(collector.process.pid)
        post_bodies()
        assert resident_kb(collector.process.pid) - before_kb < GROWTH_KB
        wait_for(lambda: _requests_refused(path) >= sent.refused_requests)
        assert collector.stop() == ""
    assert min(sent.taken, sent.refused_requests, count_spans(path)) > 5
    assert _requests_refused(path) == sent.refused_requests
    with closing(sqlite3.connect(path)) as db:
        (refused,) = db.execute("SELECT coalesce(sum(spans_refused), 0) FROM publishers").fetchone()
    assert refused == sent.refused_spans


def _requests_refused(path: Path) -> int:
    return sum(count for reason, count in refusals(path).items() if reason in OTLP_REASONS)


def test_whatever_is_sent(tmp_path: Path) -> None:
    """Any bytes on the connection cause no server error, and closed connections are released."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    good = head + b"Content-Length: 2\r\n\r\n{}"
    with started(tmp_path / "traces.db") as collector:
        host, port = collector.http.removeprefix("http://").split(":")

        @settings(max_examples=2 * settings().max_examples)
        @given(content=st.one_of(st.binary(max_size=300), _damaged(good), _damaged(good * 3)))
        def send(content: bytes) -> None:
            with socket.create_connection((host, int(port)), DEADLINE_S) as client:
                try:
                    client.sendall(content)
                    client.shutdown(socket.SHUT_WR)
                    answer = b""
                    while part := client.recv(65536):
                        answer += part
                except OSError:
                    return  # Disconnected while data was in flight.
            assert not re.search(rb"HTTP/1\.1 5", answer)

        send()
        Sent(collector).post(b"{}", {"Content-Type": JSON})
        assert collector.stop() == ""
