"""Delivery of spans to one destination, one request after the other, by OTLP's rules.

One idea: an answer is one of four. The spans are accepted; they are rejected for good; the request is too
large, and is sent again in halves; or the request is retried later. Only the last sends the same spans twice,
and no span is dropped without a count and a reason.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.otlp.sending.answers import Later, Refused, Taken, TooLarge, Transport
from ztrace_collector.otlp.sending.destinations import GRPC, Destination
from ztrace_collector.storing.defects import log_defect

#: Maximum of bytes in a request before compression: receivers over gRPC accept 4 MiB by default.
MAX_BYTES = 3_500_000
#: Characters kept of a receiver's message.
MAX_DETAIL = 200
#: ztrace's own reasons; others are the status of a receiver's answer, such as "HTTP 400".
PARTIAL, TOO_LARGE, UNREADABLE = "partial success", "too large", "unreadable"

Span = TypeVar("Span")

_log = logging.getLogger(__name__)


def open_transport(destination: Destination) -> Transport:
    """Return a transport to a destination, which connects with the first request; the caller closes it.

    Raises:
        Exception: a certificate cannot be used.
    """
    # Imported when used: each import takes a tenth of a second.
    if destination.protocol == GRPC:
        from ztrace_collector.otlp.sending.grpc import GrpcTransport

        return GrpcTransport(destination)
    from ztrace_collector.otlp.sending.http import HttpTransport

    return HttpTransport(destination)


@dataclass(frozen=True, slots=True)
class Part(Generic[Span]):
    """Outcome of consecutive spans.

    Attributes:
        spans: the spans.
        sent: number of spans accepted by the destination.
        refused: number of spans rejected, and the destination's message, by reason.
    """

    spans: Sequence[Span]
    sent: int
    refused: Mapping[str, tuple[int, str]] = field(default_factory=dict)


def deliver(
    spans: Sequence[Span],
    build: Callable[[Sequence[Span]], ExportTraceServiceRequest],
    transport: Transport,
    retry: Callable[[Later], bool],
) -> Iterator[Part[Span]]:
    """Send spans in their order, and yield the outcome part by part.

    Args:
        spans: any number of spans; they go in one request unless that is too large.
        build: makes a request of some of the spans.
        transport: the connection.
        retry: waits before a retry, and returns False to give up; then the rest is not yielded.
    """
    waiting = [spans]
    while waiting:
        part = waiting.pop()
        try:
            request = build(part)
        except Exception as error:
            # An unreadable row must not block the rows after it.
            if len(part) == 1:
                log_defect(_log, "encoding a span", error)
                yield Part(part, 0, {UNREADABLE: (1, f"{type(error).__name__}: {error}"[:MAX_DETAIL])})
            else:
                _halve(part, waiting)
            continue
        if len(part) > 1 and request.ByteSize() > MAX_BYTES:
            _halve(part, waiting)
            continue
        answer = transport.send(request)
        while isinstance(answer, Later):
            if not retry(answer):
                return
            answer = transport.send(request)
        if isinstance(answer, TooLarge) and len(part) > 1:
            _halve(part, waiting)
        else:
            yield _judge(part, answer)


def _judge(part: Sequence[Span], answer: Taken | Refused | TooLarge) -> Part[Span]:
    if isinstance(answer, Taken):
        rejected = min(max(0, answer.rejected), len(part))
        refused = {PARTIAL: (rejected, answer.detail[:MAX_DETAIL])} if rejected else {}
        return Part(part, len(part) - rejected, refused)
    reason = TOO_LARGE if isinstance(answer, TooLarge) else answer.reason
    return Part(part, 0, {reason: (len(part), answer.detail[:MAX_DETAIL])})


def _halve(part: Sequence[Span], waiting: list[Sequence[Span]]) -> None:
    """Push both halves of a part, the first one on top."""
    middle = len(part) // 2
    waiting += [part[middle:], part[:middle]]
