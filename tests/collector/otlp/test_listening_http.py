"""OTLP over HTTP on real sockets: accepted and refused requests."""

import gzip
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
import requests
from google.protobuf.json_format import Parse
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.collector.otlp.listeners import DEADLINE_S, Running, count_spans, refusals, running
from tests.collector.otlp.requests import make_request, make_span, put_in_order, send_all, spans_of
from tests.ztrace.waiting import wait_for
from ztrace_collector.otlp.listening import bodies, http, http_connections, intake, thread
from ztrace_collector.otlp.mapping import incoming
from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_collector.refusals import Note

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Running]:
    """Yield a collector that listens for OTLP, and assert that it reports nothing."""
    with running(tmp_path / "traces.db") as started:
        yield started
        assert started.said == []


@pytest.fixture(scope="module")
def running_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield a collector that several tests use, and assert that it reports nothing."""
    with running(tmp_path_factory.mktemp("shared") / "traces.db") as started:
        yield started
        assert started.said == []


@pytest.fixture
def shared(running_for_all: Running) -> Running:
    """Return a collector that knows what earlier tests had refused."""
    return running_for_all._replace(known=refusals(running_for_all.path))


def request(first: int = 0, count: int = 1) -> ExportTraceServiceRequest:
    """Return a request of spans with consecutive numbers."""
    numbers = range(first + 1, first + count + 1)
    return make_request(*(make_span(span_id=number.to_bytes(8, "big")) for number in numbers))


def told(answer: requests.Response) -> Status:
    """Return the status in the body of a refused request, in its own encoding."""
    assert answer.status_code >= 400
    if answer.headers["Content-Type"] == "application/x-protobuf":
        return Status.FromString(answer.content)
    assert answer.headers["Content-Type"] == "application/json"
    return Parse(answer.content, Status())


def wait_for_refusals(collector: Running, counts: dict[str, int]) -> None:
    """Wait until the file has exactly these refusals beyond those already known."""
    expected = Counter(collector.known) + Counter(counts)
    wait_for(lambda: refusals(collector.path).keys() >= expected.keys())
    wait_for(lambda: refusals(collector.path) == expected)


@pytest.mark.parametrize("coding", ["", "identity", "gzip", "deflate", "members"])
@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_a_request_is_taken_in_its_form(collector: Running, form: str, coding: str) -> None:
    """Protobuf and JSON are accepted under any compression, and answered in the same encoding."""
    sent = request()
    body = sent.SerializeToString() if form == "protobuf" else format_request(sent).encode()
    headers = dict(PROTOBUF if form == "protobuf" else JSON)
    if coding:
        headers["Content-Encoding"] = "gzip" if coding == "members" else coding
    coded = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "members": gzip.compress(body[:7]) + gzip.compress(body[7:]),
    }.get(coding, body)
    answer = requests.post(collector.url, coded, headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == 200
    if form == "protobuf":
        assert answer.headers["Content-Type"] == "application/x-protobuf"
        response = ExportTraceServiceResponse.FromString(answer.content)
    else:
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {}
        response = Parse(answer.content, ExportTraceServiceResponse())
    assert not response.HasField("partial_success")
    assert put_in_order(send_all(collector.path)) == put_in_order(sent)
    assert "access-control-allow-origin" not in answer.headers


def test_what_is_refused_of_a_request_is_told(collector: Running) -> None:
    """Refused spans are counted by reason in the answer and in the file, and the others are stored."""
    good, bad = make_span(), [make_span(span_id=bytes(8)), make_span(trace_id=b"short")]
    sent = make_request(good, *bad).SerializeToString()
    answer = requests.post(collector.url, sent, headers=PROTOBUF, timeout=DEADLINE_S)
    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 2
    assert "span_id 1, trace_id 1" in partial.error_message
    assert put_in_order(send_all(collector.path)) == put_in_order(make_request(good))
    assert refusals(collector.path) == {"span_id": 1, "trace_id": 1}
    text = format_request(make_request(*bad))
    answer = requests.post(collector.url, text, headers=JSON, timeout=DEADLINE_S)
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "2"


def test_an_empty_request_is_taken(collector: Running) -> None:
    """An empty request is accepted."""
    for body, headers in ((b"", PROTOBUF), (b"{}", JSON), (b'{"resourceSpans": []}', JSON)):
        assert requests.post(collector.url, body, headers=headers, timeout=DEADLINE_S).status_code == 200


def test_a_request_sent_twice_is_stored_once(collector: Running) -> None:
    """A repeated request is accepted and stored once."""
    sent = request(count=20).SerializeToString()
    for _ in range(2):
        answer = requests.post(collector.url, sent, headers=PROTOBUF, timeout=DEADLINE_S)
        assert (answer.status_code, answer.content) == (200, b"")
    assert count_spans(collector.path) == 20


def test_a_large_request_is_stored_in_pieces(collector: Running) -> None:
    """A large request is stored in pieces without loss, whatever its resources and scopes."""
    sent = make_request()
    for number in range(3):
        of_one = request(10_000 * number, intake.PIECE_SPANS - 700).resource_spans[0]
        of_one.resource.attributes.add(key="number").value.int_value = number
        of_one.schema_url = f"https://example.org/{number}"
        of_one.scope_spans[0].scope.name = "scope"
        sent.resource_spans.append(of_one)
    answer = requests.post(collector.url, sent.SerializeToString(), headers=PROTOBUF, timeout=DEADLINE_S)
    assert (answer.status_code, answer.content) == (200, b"")
    assert put_in_order(send_all(collector.path)) == put_in_order(sent)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\xff\xff", PROTOBUF),
        (b"{", JSON),
        (b'{"resourceSpans": 7}', JSON),
        (b"[]", JSON),
        (b"\xff{}", JSON),
        (b"no gzip", {**PROTOBUF, "Content-Encoding": "gzip"}),
        (gzip.compress(b"cut short", mtime=0)[:-4], {**JSON, "Content-Encoding": "gzip"}),
        (gzip.compress(b"{}", mtime=0) + b"more", {**JSON, "Content-Encoding": "gzip"}),
    ],
)
def test_a_bad_body_is_refused(shared: Running, body: bytes, headers: dict[str, str]) -> None:
    """An invalid body is answered with 400 and a status in the request's encoding."""
    answer = requests.post(shared.url, body, headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == headers["Content-Type"].partition(";")[0]
    status = told(answer)
    assert status.code == 3
    assert status.message
    wait_for_refusals(shared, {"otlp_body": 1})


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "more"),
    [
        ("POST", "/v1/metrics", PROTOBUF, 404, {}),
        ("POST", "/", JSON, 404, {}),
        ("POST", "/v1/traces/", JSON, 404, {}),
        ("GET", "/v1/traces", {}, 405, {"Allow": "POST"}),
        ("PUT", "/v1/traces", PROTOBUF, 405, {"Allow": "POST"}),
        ("OPTIONS", "/v1/traces", {"Origin": "https://example.org"}, 405, {"Allow": "POST"}),
        ("POST", "/v1/traces", {}, 415, {}),
        ("POST", "/v1/traces", {"Content-Type": "text/plain"}, 415, {}),
        ("POST", "/v1/traces", {"Content-Type": "application/x-www-form-urlencoded"}, 415, {}),
        ("POST", "/v1/traces", {**JSON, "Content-Encoding": "br"}, 415, {"Accept-Encoding": "gzip, deflate"}),
    ],
)
def test_what_is_no_request_of_otlp_is_refused(
    shared: Running, method: str, path: str, headers: dict[str, str], status: int, more: dict[str, str]
) -> None:
    """Other paths are answered with 404, methods with 405, and content types and encodings with 415."""
    url = f"http://{shared.http}{path}"
    answer = requests.request(method, url, data=b"{}", headers=headers, timeout=DEADLINE_S)
    assert answer.status_code == status
    assert told(answer).message
    assert {name: answer.headers[name] for name in more} == more
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    wait_for_refusals(shared, {"otlp_request": 1})


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:4318"},
        {"Host": "example.org:4318"},
        {"Host": "127.0.0.1.example.org"},
        {"Host": "localhost.example.org:80"},
        {"Host": "10.0.0.1:4318"},
    ],
)
def test_web_pages_cannot_send(shared: Running, headers: dict[str, str]) -> None:
    """Requests with an Origin header or a foreign Host header, as sent by browsers, are refused with 403."""
    answer = requests.post(shared.url, b"{}", headers={**JSON, **headers}, timeout=DEADLINE_S)
    assert (answer.status_code, told(answer).code) == (403, 7)
    wait_for_refusals(shared, {"otlp_origin": 1})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:4318", "127.0.0.1", "127.9.9.9:1", "[::1]:4318"])
def test_this_machine_has_several_names(shared: Running, host: str) -> None:
    """Every loopback name is accepted as Host header."""
    answer = requests.post(shared.url, b"{}", headers={**JSON, "Host": host}, timeout=DEADLINE_S)
    assert answer.status_code == 200


@pytest.mark.parametrize("how", ["announced", "chunked", "compressed"])
def test_a_body_that_is_too_large_is_refused(shared: Running, how: str) -> None:
    """A body too large, by its header, its chunks or after decompression, is answered with 413."""
    large = bytes(bodies.MAX_BODY_BYTES + 1)
    body: bytes | Iterator[bytes] = large
    headers = dict(PROTOBUF)
    if how == "chunked":
        body = (large[at : at + (1 << 20)] for at in range(0, len(large), 1 << 20))
    if how == "compressed":
        body, headers["Content-Encoding"] = gzip.compress(large, 1), "gzip"
    answer = requests.post(shared.url, body, headers=headers, timeout=DEADLINE_S)
    assert (answer.status_code, told(answer).code) == (413, 8)
    wait_for_refusals(shared, {"otlp_oversized": 1})
    assert requests.post(shared.url, b"{}", headers=JSON, timeout=DEADLINE_S).status_code == 200


def test_who_asks_first_need_not_send_what_is_too_large(collector: Running) -> None:
    """``Expect: 100-continue`` for an oversized body is answered with 413 at once."""
    with socket.create_connection(collector.http) as client:
        length = b"Content-Length: %d\r\n" % (bodies.MAX_BODY_BYTES + 1)
        client.sendall(HEAD + length + b"Expect: 100-continue\r\n\r\n")
        client.settimeout(DEADLINE_S)
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


BOMB = """
import gzip, io, resource, sys
from tests.collector.otlp.listeners import running
from pathlib import Path
import requests
buffer = io.BytesIO()
with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
    for _ in range(1024):
        file.write(bytes(1 << 20))
bomb = buffer.getvalue() * 2
with running(Path(sys.argv[1])) as collector:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    requests.post(collector.url, b"", headers={"Content-Type": "application/x-protobuf"})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        assert requests.post(collector.url, bomb, headers=headers).status_code == 413
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A compressed body of two gigabytes is refused with bounded memory."""
    command = [sys.executable, "-c", BOMB, str(tmp_path / "traces.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * (bodies.MAX_BODY_BYTES >> 20)


def test_requests_do_not_wait_for_each_other(collector: Running) -> None:
    """While nothing can be stored, all requests are answered with 503 at once, and accepted afterwards."""
    with closing(sqlite3.connect(collector.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def send(number: int) -> tuple[int, float]:
            start_s = time.monotonic()
            body = request(100 * number, 100).SerializeToString()
            answer = requests.post(collector.url, body, headers=PROTOBUF, timeout=DEADLINE_S)
            if answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) >= 1
                assert told(answer).code == 14
            return answer.status_code, time.monotonic() - start_s

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(send, range(50)))
            assert {status for status, _ in answers} == {503}
            assert max(took_s for _, took_s in answers) < bodies.ANSWER_S
            other.execute("COMMIT")
            wait_for(lambda: send(0)[0] == 200)
            assert {status for status, _ in pool.map(send, range(50))} == {200}
    assert count_spans(collector.path) == 5000
    assert refusals(collector.path) == {}
    assert "storing resumes by itself" in collector.said.pop(0) if collector.said else True


def answered(client: socket.socket) -> bytes:
    """Return everything received until the connection closes, or nothing if it is reset."""
    client.settimeout(DEADLINE_S)
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v1/tra",
        HEAD,
        HEAD + b"Content-Length: 2\r\n\r\n{}POST /v1",
    ],
)
def test_who_does_not_send_a_request_is_cut(
    collector: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A connection that sends an incomplete head, or nothing, is closed after the timeout."""
    monkeypatch.setattr(http_connections, "HEAD_S", 0.3)
    with socket.create_connection(collector.http) as client:
        client.sendall(sent)
        assert answered(client).count(b"HTTP/1.1 200") == sent.count(b"{}")
    wait_for_refusals(collector, {"otlp_connection": 1})


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
def test_a_body_that_does_not_come_is_refused(
    collector: Running, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """An incomplete body is answered with 408 after the timeout."""
    monkeypatch.setattr(http, "PART_S", 0.3)
    with socket.create_connection(collector.http) as client:
        client.sendall(HEAD + rest)
        assert answered(client).startswith(b"HTTP/1.1 408 ")
    wait_for_refusals(collector, {"otlp_connection": 1})


def test_a_body_that_trickles_is_refused(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body sent too slowly as a whole is answered with 408."""
    monkeypatch.setattr(http, "BODY_S", 0.5)
    with socket.create_connection(collector.http) as client:
        client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n{")
        ended = threading.Event()

        def trickle() -> None:
            while not ended.wait(0.02):
                try:
                    client.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert answered(client).startswith(b"HTTP/1.1 408 ")
        finally:
            ended.set()
            thread.join()
    wait_for_refusals(collector, {"otlp_connection": 1})


def test_who_goes_away_within_a_request_is_counted(collector: Running) -> None:
    """A client that disconnects within a request is counted."""
    with socket.create_connection(collector.http) as client:
        client.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    wait_for_refusals(collector, {"otlp_connection": 1})


def test_what_is_no_http_is_counted(collector: Running) -> None:
    """Data that is no HTTP is counted, alone or behind a valid request."""
    with socket.create_connection(collector.http) as client:
        client.sendall(b"\x00\x01\r\n\r\n")
        assert answered(client).startswith(b"HTTP/1.1 400 ")
    with socket.create_connection(collector.http) as client:
        client.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}\x00\x01\r\n\r\n")
        assert b"HTTP/1.1 200 OK" in answered(client)
    wait_for_refusals(collector, {"otlp_connection": 2})


def test_too_many_connections_cut_the_idle_ones(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, the longest idle connections are closed, and exporters are served."""
    monkeypatch.setattr(http_connections, "MAX_CONNECTIONS", 20)
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(collector.http)) for _ in range(60)]
        for _ in range(3):
            assert requests.post(collector.url, b"{}", headers=JSON, timeout=DEADLINE_S).status_code == 200
        assert answered(idle[0]) == b""
        wait_for(lambda: refusals(collector.path).get("otlp_connection", 0) >= 40)


def test_half_a_request_keeps_nobody_out(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections with half a head or body give way, and an exporter's idle connection stays."""
    monkeypatch.setattr(http_connections, "MAX_CONNECTIONS", 20)
    with ExitStack() as stack:
        exporter = stack.enter_context(closing(HTTPConnection(*collector.http, timeout=DEADLINE_S)))
        exporter.request("POST", "/v1/traces", b"{}", JSON)
        assert exporter.getresponse().read() == b"{}"
        kept = exporter.sock
        for number in range(60):
            half = stack.enter_context(socket.create_connection(collector.http))
            with suppress(OSError):  # It may have given way.
                half.sendall(HEAD + b"Content-Length: 100\r\n\r\n{" if number % 2 else HEAD)
        for _ in range(3):
            assert requests.post(collector.url, b"{}", headers=JSON, timeout=DEADLINE_S).status_code == 200
        exporter.request("POST", "/v1/traces", b"{}", JSON)
        assert exporter.getresponse().read() == b"{}"
        assert exporter.sock is kept


def test_bodies_on_their_way_are_bounded(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The total size of bodies being received is limited, and requests beyond it get 503 until it falls."""
    monkeypatch.setattr(http, "MAX_RECEIVED_BYTES", 1 << 20)
    body = request(count=2000).SerializeToString()
    assert 1 << 16 < len(body) < 1 << 18
    with ExitStack() as stack:
        for _ in range(4):
            half = stack.enter_context(socket.create_connection(collector.http))
            half.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + bytes(250_000))
        wait_for(
            lambda: (
                requests.post(collector.url, body, headers=PROTOBUF, timeout=DEADLINE_S).status_code == 503
            )
        )
    wait_for(
        lambda: requests.post(collector.url, body, headers=PROTOBUF, timeout=DEADLINE_S).status_code == 200
    )
    assert count_spans(collector.path) == 2000


def test_a_connection_is_kept(collector: Running) -> None:
    """A connection is kept open across requests and errors."""
    with closing(HTTPConnection(*collector.http, timeout=DEADLINE_S)) as connection:
        connection.connect()
        kept = connection.sock
        for number in range(5):
            body = request(number).SerializeToString()
            for method, content, status in (("POST", body, 200), ("POST", b"\xff", 400), ("GET", b"", 405)):
                connection.request(method, "/v1/traces", content, PROTOBUF)
                answer = connection.getresponse()
                answer.read()
                assert (answer.status, connection.sock) == (status, kept)


@pytest.mark.slow
def test_an_end_answers_what_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests in flight at the end are stored and answered, and a partial one is cut off."""
    monkeypatch.setattr(thread, "GRACE_S", 5)
    path = tmp_path / "traces.db"
    bodies = [request(100 * number, 100).SerializeToString() for number in range(8)]
    with running(path) as collector, ExitStack() as stack:
        half = stack.enter_context(socket.create_connection(collector.http))
        half.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        clients = []
        for body in bodies:
            client = stack.enter_context(socket.create_connection(collector.http))
            head = HEAD.replace(b"application/json", b"application/x-protobuf")
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
            clients.append(client)
        for client, body in zip(clients, bodies, strict=True):
            client.sendall(body[-1:])
        wait_for(lambda: count_spans(path) > 0)
        collector.collector.stop()
        answers = [answered(client).partition(b"\r\n")[0] for client in clients]
        assert set(answers) == {b"HTTP/1.1 200 OK"}
        answered(half)
    assert count_spans(path) == 800
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(collector.http)


def test_a_defect_is_logged_once_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A defect in parsing is answered with 400, which no exporter retries, and its request is kept."""
    path = tmp_path / "traces.db"
    with running(path) as collector:
        with monkeypatch.context() as patch:

            def fail(body: bytes, note: Note) -> ExportTraceServiceRequest:
                raise ZeroDivisionError("division by zero")

            patch.setattr(incoming, "parse_request", fail)
            for _ in range(2):
                answer = requests.post(collector.url, b"", headers=PROTOBUF, timeout=DEADLINE_S)
                assert (answer.status_code, told(answer).code) == (400, 13)
        (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
        assert record.message.startswith("internal error while parsing an OTLP request, which is kept in ")
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError
        assert requests.post(collector.url, b"", headers=PROTOBUF, timeout=DEADLINE_S).status_code == 200
    assert refusals(path) == {"internal_error": 2}
    assert len(list(path.with_name("traces.db.defects").iterdir())) == 2


def test_a_bad_value_does_not_cost_its_request(collector: Running) -> None:
    """A number that JavaScript rounds beyond 64 bits is kept as text and counted; all spans are stored."""
    spans = [
        json.loads(format_request(make_request(make_span(span_id=number.to_bytes(8, "big")))))
        for number in (1, 2)
    ]
    body = spans[0]
    (kept,) = spans[1]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    kept["attributes"] = [{"key": "n", "value": {"intValue": 9223372036854775808}}]
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].append(kept)
    answer = requests.post(collector.url, json.dumps(body), headers=JSON, timeout=DEADLINE_S)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert len(list(spans_of(send_all(collector.path)))) == 2
    wait_for_refusals(collector, {"attributes": 1})


def test_wrong_values_are_told_by_their_beginning(shared: Running) -> None:
    """A page's address, a path and a content type of any length are not repeated whole, nor as they are."""
    long = "x" * 5000
    for path, headers, status in (
        ("", {"Origin": f"http://{long}"}, 403),
        (f"/{long}%1b%c2%9b", {}, 404),
        ("", {"Content-Type": long}, 415),
        ("", {"Content-Encoding": long}, 415),
    ):
        url = shared.url + path
        answer = requests.post(url, b"{}", headers={**JSON, **headers}, timeout=DEADLINE_S)
        assert answer.status_code == status
        assert len(answer.content) < 400
        message = told(answer).message
        assert message.isprintable()
    wait_for_refusals(shared, {"otlp_origin": 1, "otlp_request": 3})


def test_what_is_no_span_is_in_the_answer(shared: Running) -> None:
    """A sender is told of elements that are no spans, as of spans that the store refuses."""
    body = json.loads(format_request(request(7_000)))
    body["resourceSpans"][0]["scopeSpans"][0]["spans"] += [None, 7]
    answer = requests.post(shared.url, json.dumps(body), headers=JSON, timeout=DEADLINE_S)
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"] == {
        "rejectedSpans": "2",
        "errorMessage": "refused, by reason: fields 2; the others are stored",
    }
    wait_for_refusals(shared, {"fields": 2})
