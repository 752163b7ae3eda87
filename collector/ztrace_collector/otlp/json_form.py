"""OTLP as JSON: hex ids, integer enums, lowerCamelCase."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def parse_request(text: bytes | str) -> ExportTraceServiceRequest:
    """Return the request, which is a line of a file of OTLP JSON as well.

    Raises:
        OtlpError: it is not OTLP JSON.
    """
    raise NotImplementedError


def format_request(request: ExportTraceServiceRequest) -> str:
    """Return a request as JSON on one line, without a line end."""
    raise NotImplementedError
