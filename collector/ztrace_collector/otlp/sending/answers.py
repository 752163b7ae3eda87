"""Answers of a destination to one request, and the transport that returns them.

One idea: HTTP and gRPC express these four answers differently, and only their transports know how.
"""

from typing import NamedTuple, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Taken(NamedTuple):
    """The spans are accepted, except for those rejected."""

    rejected: int = 0
    detail: str = ""


class Refused(NamedTuple):
    """The spans are rejected for good."""

    reason: str
    detail: str = ""


class TooLarge(NamedTuple):
    """The request is too large."""

    detail: str = ""


class Later(NamedTuple):
    """The destination is unreachable, or asks for a retry, possibly after a delay."""

    error: str
    after_s: float | None = None


Answer = Taken | Refused | TooLarge | Later


class Transport(Protocol):
    """Connection to a destination, used by one thread."""

    def send(self, request: ExportTraceServiceRequest) -> Answer:
        """Send a request and wait for its answer; failures are returned as answers and not raised."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
