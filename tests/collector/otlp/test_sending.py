"""Requests to one destination under OTLP's rules, against receivers that give every kind of answer."""

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import grpc
import pytest
import trustme
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector.otlp.receivers import Failure, Reply, answering, answering_grpc, script
from tests.collector.otlp.requests import make_request, make_span, spans_of
from tests.ports import find_port
from ztrace_collector.forwarding.pauses import (
    FIRST_PAUSE_S,
    JITTER,
    LONGEST_PAUSE_S,
    MAX_ASKED_S,
    Pauses,
)
from ztrace_collector.otlp.sending.answers import Answer, Later, Refused, Taken, TooLarge, Transport
from ztrace_collector.otlp.sending.deliver import MAX_BYTES, deliver, open_transport
from ztrace_collector.otlp.sending.destinations import Destination, read_destinations

REQUEST = make_request(make_span())
PARTIAL = ExportTraceServiceResponse(
    partial_success=ExportTracePartialSuccess(rejected_spans=3, error_message="too old")
)
HTML, JSON, PROTOBUF = (
    {"content-type": kind} for kind in ("text/html", "application/json", "application/x-protobuf")
)


def destination(url: str, *headers: str, **variables: str) -> Destination:
    """Return a destination with a timeout of five seconds."""
    environment = {
        f"OTEL_EXPORTER_OTLP_{name}": value for name, value in {"TIMEOUT": "5000", **variables}.items()
    }
    return read_destinations([url], headers, environment)[0]


@contextmanager
def opened(to: Destination) -> Iterator[Transport]:
    """Open a transport to a destination; it is closed at the end."""
    transport = open_transport(to)
    try:
        yield transport
    finally:
        transport.close()


def send(to: Destination) -> Answer:
    """Send a request and return the answer."""
    with opened(to) as transport:
        return transport.send(REQUEST)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (Reply(), Taken()),
        (Reply(200, b"{}", JSON), Taken()),
        (Reply(200, b"\xff\xff"), Taken()),
        (Reply(202, b"ok"), Taken()),
        (Reply(200, PARTIAL.SerializeToString(), PROTOBUF), Taken(3, "too old")),
        (
            Reply(
                200, b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}, "x": 1}', JSON
            ),
            Taken(3, "too old"),
        ),
        (
            Reply(400, Status(code=3, message="no trace id").SerializeToString(), PROTOBUF),
            Refused("HTTP 400", "no trace id"),
        ),
        (Reply(400, b'{"code": 3, "message": "no trace id"}', JSON), Refused("HTTP 400", "no trace id")),
        (Reply(401, b"who\nare you?"), Refused("HTTP 401", "who are you?")),
        (Reply(404, b"<html>not here</html>", HTML), Refused("HTTP 404")),
        (Reply(500, b"oh"), Refused("HTTP 500", "oh")),
        (
            Reply(301, b"", {"location": "http://elsewhere/"}),
            Refused("HTTP 301", "it answers at another URL"),
        ),
        (Reply(413), TooLarge()),
        (Reply(429), Later("HTTP 429")),
        (Reply(502, b"<html>", HTML), Later("HTTP 502")),
        (Reply(503, b"busy", {"retry-after": "7"}), Later("HTTP 503: busy", 7.0)),
        (Reply(503, b"", {"retry-after": "soon"}), Later("HTTP 503")),
        (Reply(504, b"", {"retry-after": "-1"}), Later("HTTP 504")),
        (None, Later("the connection was closed without an answer")),
    ],
)
def test_answers_over_http(reply: Reply | None, answer: Answer) -> None:
    """Each HTTP status is handled as the specification requires."""
    with answering(script(reply)) as (url, received):
        assert send(destination(url)) == answer
    assert [list(spans_of(request)) for request in received.requests] == [[make_span()]]
    assert received.headers[0]["path"] == "/v1/traces"
    assert received.headers[0]["content-type"] == "application/x-protobuf"


def test_a_time_to_come_back_at() -> None:
    """Retry-After is accepted as a date."""
    with answering(lambda request: Reply(503, b"", {"retry-after": formatdate(time.time() + 60)})) as (
        url,
        _,
    ):
        answer = send(destination(url))
    assert isinstance(answer, Later)
    assert answer.after_s is not None
    assert 50 < answer.after_s <= 60


def test_a_key_that_is_repeated_is_not_shown() -> None:
    """A secret quoted by a receiver is redacted, over HTTP and gRPC."""
    key = "x-api-key=hunter-two"
    with answering(lambda request: Reply(401, b"bad key hunter-two")) as (url, received):
        assert send(destination(url, key)) == Refused("HTTP 401", "bad key …")
    assert received.headers[0]["x-api-key"] == "hunter-two"
    with answering_grpc(Failure(grpc.StatusCode.UNAUTHENTICATED, "bad key hunter-two")) as (url, received):
        assert send(destination(url, key)) == Refused("gRPC UNAUTHENTICATED", "bad key …")
    assert received.headers[0]["x-api-key"] == "hunter-two"


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_compression(compression: str) -> None:
    """Requests are compressed as the variable requests, over HTTP and gRPC."""
    with answering(script()) as (url, received):
        assert send(destination(url, COMPRESSION=compression)) == Taken()
    assert received.headers[0].get("content-encoding", "none") == compression
    with answering_grpc() as (url, received):
        assert send(destination(url, COMPRESSION=compression)) == Taken()
    assert [list(spans_of(request)) for request in received.requests] == [[make_span()]]


def test_what_is_in_netrc_does_not_take_the_place_of_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit authorization header is not replaced by credentials from netrc."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login wrong password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with answering(script()) as (url, received):
        send(destination(url, "authorization=Bearer right"))
    assert received.headers[0]["authorization"] == "Bearer right"


def test_receivers_that_cannot_be_reached() -> None:
    """An unreachable receiver is retried, with a short reason."""
    port = find_port()
    assert send(destination(f"http://127.0.0.1:{port}")) == Later("connection refused")
    assert send(destination(f"grpc://127.0.0.1:{port}")) == Later("gRPC UNAVAILABLE: connection refused")
    assert send(destination("http://nowhere.invalid:1")) == Later("its host has no address")


def test_receivers_that_hang() -> None:
    """A hanging receiver is retried after the timeout."""
    given_up = threading.Event()

    def hang(request: ExportTraceServiceRequest) -> Reply:
        given_up.wait(60)
        return Reply()

    with answering(hang) as (url, _):
        try:
            assert send(destination(url, TIMEOUT="100")) == Later("no answer within 0.1 s")
        finally:
            given_up.set()


def retry_info(seconds: float) -> RetryInfo:
    """Return a gRPC detail that requests a delay."""
    return RetryInfo(retry_delay=Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9)))


def with_details(seconds: float) -> Sequence[tuple[str, bytes]]:
    """Return the trailers of an error whose details request a delay."""
    detail = AnyMessage()
    detail.Pack(retry_info(seconds))
    return [("grpc-status-details-bin", Status(code=8, details=[detail]).SerializeToString())]


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (Failure(grpc.StatusCode.INVALID_ARGUMENT, "no id"), Refused("gRPC INVALID_ARGUMENT", "no id")),
        (Failure(grpc.StatusCode.UNIMPLEMENTED, ""), Refused("gRPC UNIMPLEMENTED")),
        (Failure(grpc.StatusCode.UNAVAILABLE, "busy"), Later("gRPC UNAVAILABLE: busy")),
        (Failure(grpc.StatusCode.UNAVAILABLE, "busy", with_details(7)), Later("gRPC UNAVAILABLE: busy", 7.0)),
        (Failure(grpc.StatusCode.ABORTED, "x"), Later("gRPC ABORTED: x")),
        (Failure(grpc.StatusCode.CANCELLED, "x"), Later("gRPC CANCELLED: x")),
        (Failure(grpc.StatusCode.DATA_LOSS, "x"), Later("gRPC DATA_LOSS: x")),
        (Failure(grpc.StatusCode.OUT_OF_RANGE, "x"), Later("gRPC OUT_OF_RANGE: x")),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"), Refused("gRPC RESOURCE_EXHAUSTED", "quota")),
        (
            Failure(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "quota",
                [("google.rpc.retryinfo-bin", retry_info(1.5).SerializeToString())],
            ),
            Later("gRPC RESOURCE_EXHAUSTED: quota", 1.5),
        ),
        (
            Failure(grpc.StatusCode.OUT_OF_RANGE, "Error, decoded message length too large: found 9 bytes"),
            TooLarge("Error, decoded message length too large: found 9 bytes"),
        ),
    ],
)
def test_answers_over_grpc(failure: Failure, answer: Answer) -> None:
    """Each gRPC status is handled as the specification requires."""
    with answering_grpc(failure) as (url, _):
        assert send(destination(url)) == answer


def test_success_and_partial_success_over_grpc() -> None:
    """Success and partial success over gRPC are recognized, and the channel is reused."""
    with answering_grpc(PARTIAL) as (url, received), opened(destination(url)) as transport:
        assert transport.send(REQUEST) == Taken(3, "too old")
        assert transport.send(REQUEST) == Taken()
    assert received.taken == [REQUEST, REQUEST]


def test_a_message_that_is_larger_than_a_receiver_of_grpc_takes() -> None:
    """A message too large for a gRPC receiver is recognized as such."""
    with answering_grpc(options=[("grpc.max_receive_message_length", 10)]) as (url, _):
        assert isinstance(send(destination(url)), TooLarge)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority that only the tests trust."""
    return trustme.CA()


def test_tls(authority: trustme.CA, tmp_path: Path) -> None:
    """A custom authority and a client certificate are used, over HTTP and gRPC."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("client.example")
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "key.pem").write_bytes(client.private_key_pem.bytes())
    (tmp_path / "cert.pem").write_bytes(client.cert_chain_pems[0].bytes())
    variables = {
        "CERTIFICATE": str(tmp_path / "ca.pem"),
        "CLIENT_KEY": str(tmp_path / "key.pem"),
        "CLIENT_CERTIFICATE": str(tmp_path / "cert.pem"),
    }
    server = authority.issue_cert("localhost")
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with answering(script(), context=context) as (url, _):
        assert send(destination(url, **variables)) == Taken()
        del variables["CLIENT_KEY"], variables["CLIENT_CERTIFICATE"]
        assert isinstance(send(destination(url, **variables)), Later)
        answer = send(destination(url))
        assert isinstance(answer, Later)
        assert answer.error.startswith("its certificate is not trusted: ")
    variables |= {"CLIENT_KEY": str(tmp_path / "key.pem"), "CLIENT_CERTIFICATE": str(tmp_path / "cert.pem")}
    with answering_grpc(credentials=credentials) as (url, _):
        assert send(destination(url, **variables)) == Taken()
        assert send(destination(url)) == Later("gRPC UNAVAILABLE: its certificate is not trusted")


class Script:
    """Transport with scripted answers that keeps the sizes of its requests."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.sizes: list[int] = []

    def send(self, request: ExportTraceServiceRequest) -> Answer:
        """Return the next answer, or success after the last."""
        self.sizes.append(len(list(spans_of(request))))
        return self._answers.pop(0) if self._answers else Taken()

    def close(self) -> None:
        """Do nothing: no connection is open."""


def build(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """Return spans as a request; raise for a span named "bad"."""
    if any(span.name == "bad" for span in spans):
        raise ValueError("what a span")
    return make_request(*spans)


SPANS = [make_span(name=str(number)) for number in range(8)]


def names(parts: Sequence[Span]) -> str:
    """Return the concatenated names of spans."""
    return "".join(span.name for span in parts)


def test_a_request_that_is_too_large_goes_in_halves() -> None:
    """A request that is too large is halved in order, down to a single span, which is refused."""
    way = Script(TooLarge(), TooLarge(), TooLarge(), TooLarge("only 10 bytes"))
    parts = list(deliver(SPANS, build, way, lambda later: False))
    assert way.sizes == [8, 4, 2, 1, 1, 2, 4]
    assert [names(part.spans) for part in parts] == ["0", "1", "23", "4567"]
    assert [part.sent for part in parts] == [0, 1, 2, 4]
    assert parts[0].refused == {"too large": (1, "only 10 bytes")}


def test_large_spans_make_several_requests() -> None:
    """Large spans are split into requests that gRPC receivers accept."""
    large = [make_span(name="x" * (MAX_BYTES // 3)) for _ in range(5)]
    way = Script()
    assert sum(part.sent for part in deliver(large, build, way, lambda later: False)) == 5
    assert way.sizes == [2, 1, 2]


def test_a_span_that_cannot_be_read_does_not_stop_the_others() -> None:
    """A span that cannot be encoded is counted, and the others are sent."""
    spans = [*SPANS[:3], make_span(name="bad"), *SPANS[3:]]
    parts = list(deliver(spans, build, Script(), lambda later: False))
    assert sum(part.sent for part in parts) == 8
    assert [part.refused for part in parts if part.refused] == [
        {"unreadable": (1, "ValueError: what a span")}
    ]
    assert "".join(names(part.spans) for part in parts) == "012bad34567"


def test_later_is_sent_again_and_nothing_else() -> None:
    """Only a retryable answer repeats a request, and giving up leaves the remaining spans."""
    laters: list[Later] = []

    def retry(later: Later) -> bool:
        laters.append(later)
        return len(laters) < 3

    way = Script(Later("a"), Later("b", 7.0), Taken(3, "old"), Refused("HTTP 400", "bad"), Later("c"))
    assert [(part.sent, part.refused) for part in deliver(SPANS, build, way, retry)] == [
        (5, {"partial success": (3, "old")})
    ]
    assert [(part.sent, part.refused) for part in deliver(SPANS, build, way, retry)] == [
        (0, {"HTTP 400": (8, "bad")})
    ]
    assert list(deliver(SPANS, build, way, retry)) == []
    assert laters == [Later("a"), Later("b", 7.0), Later("c")]
    assert way.sizes == [8] * 5


def test_no_receiver_rejects_more_than_it_was_sent() -> None:
    """The number of rejected spans is limited to the number sent."""
    (part,) = deliver(SPANS, build, Script(Taken(1 << 40)), lambda later: False)
    assert (part.sent, part.refused) == (0, {"partial success": (8, "")})


def test_pauses_get_longer() -> None:
    """Pauses double up to a limit, and a receiver's requested delay takes precedence."""
    pauses = Pauses()
    expected_s = FIRST_PAUSE_S
    for _ in range(10):
        assert expected_s * (1 - JITTER) <= pauses.next_s(None) <= expected_s * (1 + JITTER)
        expected_s = min(LONGEST_PAUSE_S, 2 * expected_s)
    assert pauses.next_s(7.0) == 7.0
    assert pauses.next_s(1e9) == MAX_ASKED_S
    assert pauses.next_s(0.0) > 0
    pauses.reset()
    assert pauses.next_s(None) < 2 * FIRST_PAUSE_S
