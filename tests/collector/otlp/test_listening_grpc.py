"""OTLP over gRPC on real sockets: accepted and refused requests."""

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tests.collector.otlp.listeners import DEADLINE_S, Running, count_spans, refusals, running
from tests.collector.otlp.requests import make_request, make_span, put_in_order, send_all
from tests.ztrace.waiting import wait_for
from ztrace_collector.otlp.listening import grpc as listening_grpc

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Running]:
    """Yield a collector that listens for OTLP."""
    with running(tmp_path / "traces.db", grpc=True) as started:
        yield started


@pytest.fixture
def channel(collector: Running) -> Iterator[grpc.Channel]:
    """Yield a channel to the collector, without a limit on sent messages."""
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(str(collector.grpc), options=options) as opened:
        yield opened


def stub(channel: grpc.Channel) -> TraceServiceStub:
    """Return the client stub of opentelemetry-proto."""
    return TraceServiceStub(channel)  # type: ignore[no-untyped-call]


def error_of(call: Callable[[], Message]) -> grpc.RpcError:
    """Return the error of a failing call."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def test_a_request_is_taken(collector: Running, channel: grpc.Channel) -> None:
    """A request is accepted under any compression, and stored once if sent repeatedly."""
    sent = make_request(make_span())
    export = stub(channel).Export
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = export(sent, timeout=DEADLINE_S, compression=compression)
        assert not answer.HasField("partial_success")
    assert put_in_order(send_all(collector.path)) == put_in_order(sent)


def test_what_is_refused_of_a_request_is_told(collector: Running, channel: grpc.Channel) -> None:
    """Refused spans are reported as a partial success, and the others are stored."""
    sent = make_request(make_span(), make_span(span_id=bytes(8)))
    answer: ExportTraceServiceResponse = stub(channel).Export(sent, timeout=DEADLINE_S)
    assert answer.partial_success.rejected_spans == 1
    assert "span_id 1" in answer.partial_success.error_message
    assert refusals(collector.path) == {"span_id": 1}
    assert count_spans(collector.path) == 1


def test_bad_data_is_an_invalid_argument(collector: Running, channel: grpc.Channel) -> None:
    """Invalid data is answered with INVALID_ARGUMENT and counted."""
    error = error_of(lambda: channel.unary_unary(METHOD)(b"\xff\xff", timeout=DEADLINE_S))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.details()
    wait_for(lambda: refusals(collector.path) == {"otlp_body": 1})


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_is_too_large_is_refused(
    collector: Running, channel: grpc.Channel, compression: grpc.Compression
) -> None:
    """A message too large after decompression is answered with RESOURCE_EXHAUSTED."""
    large = bytes(listening_grpc.MAX_MESSAGE_BYTES + 1)
    error = error_of(lambda: channel.unary_unary(METHOD)(large, timeout=DEADLINE_S, compression=compression))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary(METHOD)(b"", timeout=DEADLINE_S) == b""


def test_other_methods_are_unknown(channel: grpc.Channel) -> None:
    """Other services, such as metrics, are unimplemented."""
    other = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    error = error_of(lambda: channel.unary_unary(other)(b"", timeout=DEADLINE_S))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def test_who_has_to_wait_is_told_how_long(collector: Running, channel: grpc.Channel) -> None:
    """UNAVAILABLE has a retry delay, without which exporters may drop their spans."""
    sent = make_request(make_span())
    export = stub(channel).Export
    with closing(sqlite3.connect(collector.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = error_of(lambda: export(sent, timeout=DEADLINE_S))
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        metadata: dict[str, Any] = dict(error.trailing_metadata())  # pyright: ignore
        (detail,) = Status.FromString(metadata["grpc-status-details-bin"]).details
        retry = RetryInfo()
        assert detail.Unpack(retry)
        assert 1 <= retry.retry_delay.seconds <= 5
        assert RetryInfo.FromString(metadata["google.rpc.retryinfo-bin"]) == retry
        other.execute("COMMIT")

    def is_taken() -> bool:
        try:
            export(sent, timeout=DEADLINE_S)
        except grpc.RpcError:
            return False
        return True

    wait_for(is_taken)
    assert count_spans(collector.path) == 1


def test_rubbish_is_nothing_to_tell(
    collector: Running, channel: grpc.Channel, capfd: pytest.CaptureFixture[str]
) -> None:
    """A connection that is no HTTP/2 is closed, and nothing is logged."""
    assert collector.grpc is not None
    for sent in (b"\x00\x01\x02" * 100, b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(collector.grpc, DEADLINE_S) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert channel.unary_unary(METHOD)(b"", timeout=DEADLINE_S) == b""
    assert capfd.readouterr().err == ""
