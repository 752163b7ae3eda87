"""OTLP to spans as the store takes them."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.foreign import ForeignBatch


def parse_request(body: bytes) -> ExportTraceServiceRequest:
    """Return the request that a protobuf body holds; `json_form.parse_request` reads JSON.

    Raises:
        OtlpError: it holds none.
    """
    raise NotImplementedError


def read_request(request: ExportTraceServiceRequest) -> list[ForeignBatch]:
    """Return what a request brings, a batch for each resource; whatever it holds, this does not raise.

    Spans that are refused are part of the batch's account: `Outcome.refused` has them by reason, with those
    that the store itself refuses.
    """
    raise NotImplementedError
