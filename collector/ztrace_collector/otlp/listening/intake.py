"""From the bytes of a request to what is stored: the part that HTTP and gRPC share.

One idea: the answer is given after the commit. `take` blocks its thread, which is one of few, until the
collector's loop has stored what the request brings; whoever hears "taken" can forget its spans.
"""

import logging
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import NamedTuple

from google.rpc.code_pb2 import INTERNAL, INVALID_ARGUMENT, RESOURCE_EXHAUSTED
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ztrace.errors import OtlpError
from ztrace_collector.checking.parcels import Outcome
from ztrace_collector.otlp.mapping import incoming, json_form
from ztrace_collector.receiving.inbox import Busy, Closed, Inbox
from ztrace_collector.refusals import INTERNAL_ERROR, OTLP_BODY, OTLP_OVERSIZED
from ztrace_collector.storing.defects import describe_error, log_defect

#: Bytes of a request, after decompression: what the specification asks a receiver to take at least.
MAX_BODY_BYTES = 64 << 20
#: Spans that are mapped and stored at a time. A large request must neither hold up the publishers beside it
#: for long, nor be in memory as a whole in the form in which it is stored, which is ten times its size.
PIECE_SPANS = 4096
#: What a request waits at most for its commit. Exporters give up after 10 s; they are to hear of it before.
ANSWER_S = 8.0
#: Bytes that are decompressed at a time: zlib would double what it has for one large piece, again and again.
INFLATED_BYTES = 1 << 20
#: When to come again, if nobody knows better: a second is what a disk or a busy writer may take.
RETRY_AFTER_S = 1.0
#: Message for the sender of a request that makes ztrace fail.
FAILED = "an internal error of the collector, whose log has the traceback"
#: Compressed bytes begin like gzip's or like zlib's, which is what HTTP calls deflate.
_EITHER = zlib.MAX_WBITS | 32

_log = logging.getLogger(__name__)


class RefusedRequest(OtlpError):
    """The request cannot be taken, now or later.

    Attributes:
        code: google.rpc.Code.
        reason: the word it is counted under.
        message: what is wrong, for the sender's log.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


class Body(NamedTuple):
    """A request as it came in.

    Attributes:
        is_json: it is JSON, otherwise protobuf.
        is_compressed: by gzip or deflate.
    """

    content: bytes
    is_json: bool = False
    is_compressed: bool = False


class Intake:
    """Where requests are taken, in any thread."""

    def __init__(self, inbox: Inbox) -> None:
        """Take requests, whose spans go to the inbox."""
        self.note = inbox.note
        self._inbox = inbox
        # Mapping is Python's work: two threads at it would be no faster, and take the interpreter from the
        # collector's loop twice as often.
        self._mapping = threading.Lock()

    def take(self, body: Body, since_s: float) -> ExportTraceServiceResponse:
        """Store what a request brings, and return what it is answered.

        Args:
            body: the request.
            since_s: when it came, by the monotonic clock: who has waited too long for a thread has gone.

        Raises:
            RefusedRequest: it is not what it should be.
            Busy: it cannot be stored at the moment.
        """
        if time.monotonic() - since_s > ANSWER_S:
            raise Busy(RETRY_AFTER_S)
        outcomes: list[Outcome] = []
        try:
            with self._mapping:
                pieces = divide(self._parse(body))
            for piece in pieces:
                outcomes += self._store(piece)
        except (TimeoutError, CancelledError, MemoryError):
            raise Busy(RETRY_AFTER_S) from None
        except Closed:
            raise Busy(RETRY_AFTER_S, "the collector is ending") from None
        stored = sum(outcome.stored for outcome in outcomes)
        _log.debug("OTLP request of %d bytes: %d new spans", len(body.content), stored)
        return _answer(outcomes)

    def fail(self, error: Exception) -> str:
        """Report a defect of ztrace in a request; return the message for its sender."""
        log_defect(_log, "answering an OTLP request", error)
        self.note(INTERNAL_ERROR, describe_error(error))
        return FAILED

    def _parse(self, body: Body) -> ExportTraceServiceRequest:
        try:
            return _parse(body)
        except (OtlpError, MemoryError):
            raise
        except Exception as error:
            data = {"request": body.content, "is_json": body.is_json, "is_compressed": body.is_compressed}
            self._inbox.defects.report(_log, "parsing an OTLP request", error, data)
            raise RefusedRequest(INTERNAL, INTERNAL_ERROR, FAILED) from error

    def _store(self, piece: ExportTraceServiceRequest) -> list[Outcome]:
        """Store a piece of a request; spans that make ztrace fail are refused, and are not to come again."""
        try:
            with self._mapping:
                stored = self._inbox.put(incoming.read_request(piece))
        except (Busy, Closed, MemoryError):
            raise
        except Exception as error:
            count = count_spans(piece)
            self._inbox.defects.report(
                _log, "mapping an OTLP request", error, {"request": piece.SerializeToString()}
            )
            self.note(INTERNAL_ERROR, describe_error(error), count)
            return [Outcome(0, 0, {INTERNAL_ERROR: count})]
        return stored.result(ANSWER_S)


def divide(request: ExportTraceServiceRequest) -> Iterator[ExportTraceServiceRequest]:
    """Yield a request in pieces of `PIECE_SPANS`, itself if it is small; the pieces are taken from it."""
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


def too_large() -> RefusedRequest:
    """Return what a request is told that is larger than may be."""
    return RefusedRequest(
        RESOURCE_EXHAUSTED,
        OTLP_OVERSIZED,
        f"a request may have {MAX_BODY_BYTES >> 20} MiB, decompressed; send fewer spans at a time",
    )


def _parse(body: Body) -> ExportTraceServiceRequest:
    content = inflate(body.content) if body.is_compressed else body.content
    if len(content) > MAX_BODY_BYTES:
        raise too_large()
    try:
        return json_form.parse_request(content) if body.is_json else incoming.parse_request(content)
    except OtlpError as error:
        raise RefusedRequest(INVALID_ARGUMENT, OTLP_BODY, str(error)) from None


def inflate(content: bytes) -> bytes:
    """Decompress gzip or deflate, all members of it, and never more than a body may have.

    Raises:
        RefusedRequest: it is neither, or larger.
    """
    parts: list[bytes] = []
    room = MAX_BODY_BYTES
    try:
        while content:
            stream = zlib.decompressobj(_EITHER)
            while not stream.eof:
                part = stream.decompress(content, INFLATED_BYTES)
                content = stream.unconsumed_tail
                room -= len(part)
                if room < 0:
                    raise too_large()
                if not part and not content and not stream.eof:
                    raise zlib.error("it ends too early")
                parts.append(part)
            content = stream.unused_data
    except zlib.error as error:
        message = f"the body cannot be decompressed: {error}"
        raise RefusedRequest(INVALID_ARGUMENT, OTLP_BODY, message) from None
    return b"".join(parts)


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
