"""OTLP over gRPC, incoming.

One idea: grpcio does everything but two things. Invalid bodies are rejected here, since grpcio would report
them as a failure of the server; and a request for a retry is sent with a delay, without which exporters drop
their spans.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from ztrace.addresses import Address
from ztrace.errors import EndpointError
from ztrace_collector.otlp.listening.addresses import open_socket
from ztrace_collector.otlp.listening.bodies import Body, RefusedRequest
from ztrace_collector.otlp.listening.intake import Intake
from ztrace_collector.receiving.inbox import Busy

# Keeps gRPC from printing each violation of HTTP/2 on standard error; it reads the variable when it is
# loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

#: Bytes of a message, decompressed; gRPC holds it three times, and its own default is a quarter of it.
MAX_MESSAGE_BYTES = 16 << 20
#: Maximum of requests in work; further ones wait with their senders.
MAX_WAITING = 16
#: Maximum of concurrent requests on one connection; an exporter has one.
MAX_STREAMS = 16
#: Maximum of open connections, and timeouts of an idle connection and of a handshake.
MAX_CONNECTIONS, IDLE_MS, HANDSHAKE_MS = 256, 300_000, 10_000
#: Time at the end for requests in work.
GRACE_S = 2.0
#: Metadata with the full status, and with the retry delay that Python's exporter reads.
_DETAILS, _RETRY = "grpc-status-details-bin", "google.rpc.retryinfo-bin"

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # Otherwise a second collector would silently get a share of the requests.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.max_connection_idle_ms", IDLE_MS),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
)


class GrpcServer:
    """Server with its own threads, from its creation to `close`.

    Attributes:
        address: the address it listens at.
    """

    def __init__(self, address: Address, intake: Intake) -> None:
        """Start listening.

        Raises:
            EndpointError: the address is in use, or not permitted.
        """
        self._intake = intake
        self._workers = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="ztrace-otlp-grpc")
        self._server = grpc.server(self._workers, options=_OPTIONS)
        service = trace_service_pb2.DESCRIPTOR.services_by_name["TraceService"].full_name
        # Without a deserializer, requests are passed as bytes.
        handlers = {"Export": grpc.unary_unary_rpc_method_handler(self._export)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        # The system's error says why an address is not available; gRPC's does not.
        open_socket(address).close()
        try:
            port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise EndpointError(f"cannot listen on {address}: {error}") from error
        self.address = address._replace(port=port)
        self._server.start()
        self._ended: threading.Event | None = None

    def stop(self) -> None:
        """Stop accepting requests, without waiting."""
        self._intake.stop()
        if self._ended is None:
            self._ended = self._server.stop(GRACE_S)

    def is_done(self) -> bool:
        """Return whether all accepted requests are answered."""
        return self._ended is not None and self._ended.is_set()

    def close(self) -> None:
        """Stop the server with whatever is left."""
        self.stop()
        assert self._ended is not None
        self._ended.wait()
        self._workers.shutdown(cancel_futures=True)

    def _export(self, content: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer: bytes = self._intake.take(Body(content), time.monotonic()).SerializeToString()
            return answer
        except RefusedRequest as refused:
            self._intake.note(refused.reason, refused.message)
            _abort(context, refused.code, refused.message)
        except Busy as busy:
            _abort(context, grpc.StatusCode.UNAVAILABLE.value[0], busy.message, busy.retry_after_s)
        except Exception as error:
            _abort(context, grpc.StatusCode.INTERNAL.value[0], self._intake.fail(error))


def _abort(
    context: grpc.ServicerContext, code: int, message: str, retry_after_s: float | None = None
) -> NoReturn:
    """End a call with a status, by an exception that gRPC raises."""
    status = Status(code=code, message=message)
    metadata: list[tuple[str, bytes]] = []
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(1e9 * retry_after_s))
        retry = RetryInfo(retry_delay=delay)
        detail = AnyMessage()
        detail.Pack(retry)
        status.details.append(detail)
        metadata.append((_RETRY, retry.SerializeToString()))
    context.set_trailing_metadata(((_DETAILS, status.SerializeToString()), *metadata))
    context.abort(next(each for each in grpc.StatusCode if each.value[0] == code), message)
    raise AssertionError("abort returns")
