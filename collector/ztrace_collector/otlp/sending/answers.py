"""Answers of a destination to one request, and the transport that brings them.

One idea: HTTP and gRPC differ in how they say these four things, and nothing above them has to know how.
"""

from typing import NamedTuple, Protocol

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Taken(NamedTuple):
    """It has the spans, but for as many as it rejected."""

    rejected: int = 0
    detail: str = ""


class Refused(NamedTuple):
    """It will never take them."""

    reason: str
    detail: str = ""


class TooLarge(NamedTuple):
    """It takes no request of this size."""

    detail: str = ""


class Later(NamedTuple):
    """It cannot be reached, or asks to be sent them again, after a while if it says so."""

    error: str
    after_s: float | None = None


Answer = Taken | Refused | TooLarge | Later


class Transport(Protocol):
    """A way to a destination, used by one thread."""

    def send(self, request: ExportTraceServiceRequest) -> Answer:
        """Send a request and wait for its answer; it raises nothing that an answer could say."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
