"""OTLP over gRPC, outgoing.

One idea: a channel connects and reconnects by itself, so this module only classifies answers: which codes are
retried, and after which delay, as the specification says.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from ztrace_collector.otlp.sending.answers import Answer, Later, Refused, Taken, TooLarge
from ztrace_collector.otlp.sending.destinations import Destination

#: Codes after which the specification requires a retry.
RETRIED = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
#: Delays between the channel's connection attempts, kept short because `Pauses` schedules the retries.
_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000))
#: Messages of implementations for oversized requests, which have no code of their own.
_TOO_LARGE = re.compile(r"larger than (the )?max|exceeds maximum size|length too large", re.IGNORECASE)
_DETAILS, _RETRY_INFO = "grpc-status-details-bin", "google.rpc.retryinfo-bin"


class GrpcTransport:
    """Channel to one destination."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        compression = grpc.Compression.Gzip if destination.compressed else grpc.Compression.NoCompression
        if destination.secure:
            self._channel = grpc.secure_channel(
                destination.target, _credentials(destination), options=_OPTIONS, compression=compression
            )
        else:
            self._channel = grpc.insecure_channel(
                destination.target, options=_OPTIONS, compression=compression
            )
        self._stub = TraceServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def send(self, request: ExportTraceServiceRequest) -> Answer:
        """Send a request and wait for its answer."""
        timeout_s = self._destination.timeout_s
        try:
            answer = self._stub.Export(request, timeout=timeout_s, metadata=self._destination.headers)
        except grpc.RpcError as error:
            return self._judge(error, timeout_s)
        said = answer.partial_success
        return Taken(said.rejected_spans, self._destination.redact(said.error_message))

    def _judge(self, error: grpc.RpcError, timeout_s: float) -> Answer:
        code = error.code()
        details = self._destination.redact(error.details() or "")
        if _TOO_LARGE.search(details) and code in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.OUT_OF_RANGE,
        ):
            return TooLarge(details)
        after_s = _read_retry_info(error)
        # "Resource exhausted" is retried only if the receiver gives a delay.
        if code in RETRIED or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after_s is not None):
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Later(f"no answer within {timeout_s:g} s", after_s)
            return Later(f"gRPC {code.name}: {_shorten(details)}", after_s)
        return Refused(f"gRPC {code.name}", details)


def _credentials(destination: Destination) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read_file(destination.certificate),
        private_key=_read_file(destination.client_key),
        certificate_chain=_read_file(destination.client_certificate),
    )


def _read_file(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _read_retry_info(error: grpc.RpcError) -> float | None:
    """Return the delay in seconds that a receiver asks for, None if it does not."""
    info = RetryInfo()
    metadata = cast("Iterable[tuple[str, bytes]]", error.trailing_metadata() or ())
    for key, value in metadata:
        try:
            if key == _RETRY_INFO:
                info.ParseFromString(value)
                return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
            if key == _DETAILS:
                for detail in Status.FromString(value).details:
                    if detail.Unpack(info):
                        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:
            pass
    return None


def _shorten(details: str) -> str:
    """Return the essential part of the details of a connection error."""
    if "Connection refused" in details:
        return "connection refused"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "its certificate is not trusted"
    return details
