"""One request after the other to one destination, by OTLP's rules.

One idea: an answer is one of four. It has them; it has refused them, for good; they are too large, and go
again in halves; or later. Only with the last the same spans are sent a second time, and nothing is dropped
without a count and a reason.
"""

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace_collector.otlp.sending.answers import Later, Refused, Taken, TooLarge, Transport
from ztrace_collector.otlp.sending.destinations import GRPC, Destination
from ztrace_collector.storing.defects import log_defect

#: Bytes of a request before compression: gRPC's receivers take 4 MiB unless told otherwise.
MAX_BYTES = 3_500_000
#: Characters kept of what a receiver says.
MAX_DETAIL = 200
#: The first pause after a failure, and the longest; each is twice the one before, more or less a fifth.
FIRST_PAUSE_S, LONGEST_PAUSE_S, JITTER = 0.5, 30.0, 0.2
#: The longest pause that a receiver may ask for: one that asks for a year has a wrong clock.
MAX_ASKED_S = 3600.0
#: Reasons of our own; the others are the status a receiver answered with, such as "HTTP 400".
PARTIAL, TOO_LARGE, UNREADABLE = "partial success", "too large", "unreadable"

Span = TypeVar("Span")

_log = logging.getLogger(__name__)


def open_transport(destination: Destination) -> Transport:
    """Return a way to a destination; nothing is connected before the first request.

    Raises:
        Exception: a certificate cannot be used.
    """
    # Imported when used: each of these costs a tenth of a second.
    if destination.protocol == GRPC:
        from ztrace_collector.otlp.sending.grpc import GrpcTransport

        return GrpcTransport(destination)
    from ztrace_collector.otlp.sending.http import HttpTransport

    return HttpTransport(destination)


@dataclass(frozen=True, slots=True)
class Part(Generic[Span]):
    """What has become of some spans that follow each other.

    Attributes:
        spans: all of them.
        sent: how many the destination has.
        refused: how many it has not, by reason, and what it said.
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
    """Send spans in their order, and yield what has become of them, part by part.

    Args:
        spans: any number; they go in one request unless that is too large.
        build: makes a request of some of them.
        transport: the way.
        retry: waits until they are to be sent again; False to give up, and then the rest is not yielded.
    """
    waiting = [spans]
    while waiting:
        part = waiting.pop()
        try:
            request = build(part)
        except Exception as error:
            # A row that cannot be read must not stop those behind it.
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


class Pauses:
    """How long to wait before the next try."""

    def __init__(self) -> None:
        self._pause_s = FIRST_PAUSE_S

    def reset(self) -> None:
        """Begin anew: it has answered."""
        self._pause_s = FIRST_PAUSE_S

    def next_s(self, asked_s: float | None) -> float:
        """Return the next pause: longer each time, and never shorter than the receiver asked for."""
        pause_s = self._pause_s * random.uniform(1 - JITTER, 1 + JITTER)
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
        return pause_s if asked_s is None else max(min(asked_s, MAX_ASKED_S), FIRST_PAUSE_S / 10)


def _judge(part: Sequence[Span], answer: Taken | Refused | TooLarge) -> Part[Span]:
    if isinstance(answer, Taken):
        rejected = min(max(0, answer.rejected), len(part))
        refused = {PARTIAL: (rejected, answer.detail[:MAX_DETAIL])} if rejected else {}
        return Part(part, len(part) - rejected, refused)
    reason = TOO_LARGE if isinstance(answer, TooLarge) else answer.reason
    return Part(part, 0, {reason: (len(part), answer.detail[:MAX_DETAIL])})


def _halve(part: Sequence[Span], waiting: list[Sequence[Span]]) -> None:
    """Put both halves of a part in front, the first one first."""
    middle = len(part) // 2
    waiting += [part[middle:], part[:middle]]
