"""Way of a request from its body to stored spans, shared by HTTP and gRPC.

One idea: a request is answered after the commit. `take` blocks its thread, one of few, until the collector's
loop has stored the spans; a sender that is told "accepted" can forget them. A large request is parsed, mapped
and stored in pieces, so that at any time only one piece of one request is in memory as objects.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

from google.rpc.code_pb2 import INTERNAL, INVALID_ARGUMENT
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ztrace.errors import OtlpError
from ztrace_collector.checking.parcels import Outcome
from ztrace_collector.otlp.listening.bodies import (
    MAX_BODY_BYTES,
    MAX_INFLATED_BYTES,
    RETRY_AFTER_S,
    Body,
    Deadline,
    Ending,
    Held,
    RefusedRequest,
    Room,
    check_json,
    inflate,
    too_large,
)
from ztrace_collector.otlp.mapping import incoming, json_form
from ztrace_collector.otlp.mapping.pieces import MAX_SPAN_BYTES, PIECE_BYTES, LargeRequest, divide_bytes
from ztrace_collector.receiving.inbox import Busy, Closed, Inbox
from ztrace_collector.refusals import INTERNAL_ERROR, OTLP_BODY, OTLP_OVERSIZED, SPAN_REASONS, Note
from ztrace_collector.storing.defects import describe_error, log_defect

#: Spans mapped and stored at a time. A large request must neither delay publishers for long, nor be in memory
#: as a whole in its stored form, which takes ten times its size.
PIECE_SPANS = 4096
#: Message for the sender of a request that causes an internal error.
FAILED = "an internal error of the collector, whose log has the traceback"

_log = logging.getLogger(__name__)


class Intake:
    """Acceptance of requests; thread-safe."""

    def __init__(self, inbox: Inbox) -> None:
        """Accept requests, and put their spans into the inbox."""
        self.note = inbox.note
        self._inbox = inbox
        # Mapping runs in Python, so two threads would be no faster, and would compete twice as much with the
        # collector's loop for the interpreter.
        self._mapping = threading.Lock()
        self._inflated = Room(MAX_INFLATED_BYTES)
        self._ending = Ending()

    def stop(self) -> None:
        """Give requests in flight a moment to end, without waiting."""
        self._ending.begin()

    def take(self, body: Body, since_s: float) -> ExportTraceServiceResponse:
        """Store the spans of a request, and return its answer.

        Args:
            body: the request.
            since_s: the time of its arrival, by the monotonic clock, at which its deadline starts.

        Raises:
            RefusedRequest: the request is invalid; pieces of a large one may have been stored.
            Busy: the request cannot be stored at the moment, or not all of it.
        """
        outcomes: list[Outcome] = []
        deadline = Deadline(since_s, self._ending)
        try:
            with self._inflated.held() as held:
                pieces = self._parse(body, deadline, held, outcomes)
                while True:
                    with deadline.holding(self._mapping):
                        piece = next(pieces, None)
                    if piece is None:
                        break
                    outcomes += self._store(piece, deadline)
        except (TimeoutError, CancelledError, MemoryError):
            raise Busy(RETRY_AFTER_S) from None
        except Closed:
            raise Busy(RETRY_AFTER_S, "the collector is ending") from None
        stored = sum(outcome.stored for outcome in outcomes)
        _log.debug("OTLP request of %d bytes: %d new spans", len(body.content), stored)
        return _answer(outcomes)

    def fail(self, error: Exception) -> str:
        """Report an internal error in a request; return the message for its sender."""
        log_defect(_log, "answering an OTLP request", error)
        self.note(INTERNAL_ERROR, describe_error(error))
        return FAILED

    def _parse(
        self, body: Body, deadline: Deadline, held: Held, outcomes: list[Outcome]
    ) -> Iterator[ExportTraceServiceRequest]:
        """Yield a request in pieces; spans that are oversized or no objects are added to the outcomes."""

        def leave_out() -> None:
            outcomes.append(Outcome(0, 0, {OTLP_OVERSIZED: 1}))
            self.note(OTLP_OVERSIZED, f"a span of more than {MAX_SPAN_BYTES >> 20} MiB")

        def note(reason: str, detail: str, count: int = 1) -> None:
            deadline.remaining_s()  # Correcting a request takes longer than parsing it.
            self.note(reason, detail, count)
            if reason in SPAN_REASONS:
                refused[reason] += count

        refused: Counter[str] = Counter()
        try:
            yield from _parse(body, deadline, held, leave_out, note)
            outcomes.append(Outcome(0, 0, dict(refused)))
        except (OtlpError, Busy, MemoryError):
            raise
        except Exception as error:
            data = {"request": body.content, "is_json": body.is_json, "is_compressed": body.is_compressed}
            self._inbox.defects.report(_log, "parsing an OTLP request", error, data)
            raise RefusedRequest(INTERNAL, INTERNAL_ERROR, FAILED) from error

    def _store(self, piece: ExportTraceServiceRequest, deadline: Deadline) -> list[Outcome]:
        """Store a piece of a request; spans that cause an internal error are refused for good."""
        try:
            with deadline.holding(self._mapping):
                stored = self._inbox.put(incoming.read_request(piece))
        except (RefusedRequest, Busy, Closed, MemoryError):
            raise
        except Exception as error:
            count = count_spans(piece)
            self._inbox.defects.report(
                _log, "mapping an OTLP request", error, {"request": piece.SerializeToString()}
            )
            self.note(INTERNAL_ERROR, describe_error(error), count)
            return [Outcome(0, 0, {INTERNAL_ERROR: count})]
        return stored.result(deadline.remaining_s())


def divide(request: ExportTraceServiceRequest) -> Iterator[ExportTraceServiceRequest]:
    """Yield a request in pieces of `PIECE_SPANS`, moved out of it, or itself if it is small."""
    if count_spans(request) <= PIECE_SPANS:
        yield request
        return
    piece, room = ExportTraceServiceRequest(), PIECE_SPANS
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            at = 0
            while at < len(scope.spans):
                part = piece.resource_spans.add(schema_url=resource.schema_url)
                part.resource.CopyFrom(resource.resource)
                within = part.scope_spans.add(schema_url=scope.schema_url)
                within.scope.CopyFrom(scope.scope)
                within.spans.extend(scope.spans[at : at + room])
                at += len(within.spans)
                room -= len(within.spans)
                if not room:
                    yield piece
                    piece, room = ExportTraceServiceRequest(), PIECE_SPANS
            scope.ClearField("spans")
    if room < PIECE_SPANS:
        yield piece


def count_spans(request: ExportTraceServiceRequest) -> int:
    """Return the number of spans in a request."""
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _parse(
    body: Body, deadline: Deadline, held: Held, leave_out: Callable[[], None], note: Note
) -> Iterator[ExportTraceServiceRequest]:
    content = inflate(body, deadline, held) if body.is_compressed else body.content
    if len(content) > MAX_BODY_BYTES:
        raise too_large()
    try:
        for request in _parse_pieces(content, leave_out, note, is_json=body.is_json):
            yield from divide(request)
    except LargeRequest as error:
        raise too_large(str(error)) from None
    except RefusedRequest:
        raise
    except OtlpError as error:
        raise RefusedRequest(INVALID_ARGUMENT, OTLP_BODY, str(error)) from None


def _parse_pieces(
    content: bytes | bytearray, leave_out: Callable[[], None], note: Note, *, is_json: bool
) -> Iterator[ExportTraceServiceRequest]:
    if not is_json:
        for part in divide_bytes(content, leave_out):
            yield incoming.parse_request(part, note)
    elif len(content) <= PIECE_BYTES:
        yield json_form.parse_request(content, note)
    else:
        check_json(content)
        yield from json_form.parse_pieces(content, PIECE_SPANS, note)


def _answer(outcomes: list[Outcome]) -> ExportTraceServiceResponse:
    refused: dict[str, int] = {}
    for outcome in outcomes:
        for reason, count in outcome.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    response = ExportTraceServiceResponse()
    if refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
        message = f"refused, by reason: {reasons}; the others are stored"
        response.partial_success.CopyFrom(
            ExportTracePartialSuccess(rejected_spans=sum(refused.values()), error_message=message)
        )
    return response
