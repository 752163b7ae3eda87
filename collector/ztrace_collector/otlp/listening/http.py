"""OTLP over HTTP, incoming: checks of a request before its body is read, and the form of answers.

One idea: every answer has the format of its request, protobuf or JSON, and so have rejections, because
exporters log them.

Web pages may not send. A browser names the page that sends in ``Origin``, and the name it used for this
server in ``Host``: a request with the first, or with a name that is not this machine's, is rejected. No
header lets a page of another site read an answer.
"""

import asyncio
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc import code_pb2 as codes
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.addresses import Address, is_loopback
from ztrace.errors import quote
from ztrace_collector.otlp.listening.bodies import (
    MAX_BODY_BYTES,
    RETRY_AFTER_S,
    Body,
    RefusedRequest,
    too_large,
)
from ztrace_collector.otlp.listening.intake import Intake
from ztrace_collector.otlp.listening.thread import ServerThread
from ztrace_collector.receiving.inbox import Busy
from ztrace_collector.refusals import OTLP_CONNECTION, OTLP_ORIGIN, OTLP_REQUEST

PATH = "/v1/traces"
JSON, PROTOBUF = "application/json", "application/x-protobuf"
#: Permitted content encodings, and whether each means compression.
CODINGS = {"": False, "identity": False, "gzip": True, "deflate": True}
#: Maximum of requests in work, each with a thread; further ones are queued.
MAX_WAITING = 32
#: Maximum of bytes in the bodies of all requests in work or being received: two of the largest.
MAX_RECEIVED_BYTES = 2 * MAX_BODY_BYTES
#: Timeouts of the next part of a body, and of a whole body.
PART_S, BODY_S = 10.0, 60.0

_PORT = re.compile(r":\d{1,5}\Z")
#: HTTP statuses of the requests that `Intake` refuses.
_STATUSES: dict[int, int] = {codes.INVALID_ARGUMENT: 400, codes.INTERNAL: 400, codes.RESOURCE_EXHAUSTED: 413}


class _Turned(Exception):
    """Rejection of a request before its spans are read."""

    def __init__(self, status: int, code: int, reason: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Head(NamedTuple):
    """Properties of the body according to the headers."""

    is_json: bool
    is_compressed: bool
    length: int
    #: The sender waits for permission to send the body.
    is_held_back: bool


class HttpServer:
    """Server with its own threads, from its creation to `close`.

    Attributes:
        address: the address it listens at.
    """

    def __init__(self, listening: socket.socket, intake: Intake) -> None:
        """Start serving.

        Args:
            listening: a listening socket, which the server closes.
            intake: accepts the requests.
        """
        self.address = Address(*listening.getsockname()[:2])
        self._intake = intake
        self._received_bytes = 0
        self._workers = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="ztrace-otlp")
        app = Starlette(
            routes=[Route(PATH, self._export, methods=["POST"])],
            exception_handlers={HTTPException: self._turn_away},
        )
        app.router.redirect_slashes = False
        self._thread = ServerThread(app, listening, intake.note)

    def stop(self) -> None:
        """Stop accepting requests, without waiting."""
        self._intake.stop()
        self._thread.stop()

    def is_done(self) -> bool:
        """Return whether all accepted requests are answered."""
        return self._thread.is_done()

    def close(self) -> None:
        """Stop the server with whatever is left."""
        self._thread.close()
        self._workers.shutdown(cancel_futures=True)

    async def _export(self, request: Request) -> Response:
        """Answer a request; never raises."""
        is_json = _media_type(request) != PROTOBUF
        try:
            head = _check(request)
            is_json = head.is_json
            body, byte_count = await self._read(request, head)
            try:
                answer = await self._take(body)
            finally:
                self._received_bytes -= byte_count
            return _respond(200, answer, is_json)
        except _Turned as turned:
            self._intake.note(turned.reason, turned.message)
            return _tell(turned.status, turned.code, turned.message, is_json, turned.headers)
        except RefusedRequest as refused:
            self._intake.note(refused.reason, refused.message)
            return _tell(_STATUSES[refused.code], refused.code, refused.message, is_json)
        except (Busy, asyncio.CancelledError) as busy:
            # The end of the server cancels requests that take too long.
            after_s = getattr(busy, "retry_after_s", RETRY_AFTER_S)
            headers = {"retry-after": str(max(1, round(after_s)))}
            return _tell(503, codes.UNAVAILABLE, str(busy) or "the collector is ending", is_json, headers)
        except Exception as error:
            # Not 500, which some exporters retry: the next attempt would fail likewise.
            return _tell(400, codes.INTERNAL, self._intake.fail(error), is_json)

    async def _take(self, body: Body) -> ExportTraceServiceResponse:
        work = self._workers.submit(self._intake.take, body, time.monotonic())
        try:
            return await asyncio.wrap_future(work)
        finally:
            # The traceback of an exception of the future contains this frame, and so the body: a cycle that
            # would keep the body until the next garbage collection.
            del work, body

    async def _read(self, request: Request, head: _Head) -> tuple[Body, int]:
        """Receive a body, to its end even if it is rejected, since a client does not read while it sends."""
        trouble: Exception | None = too_large() if head.length > MAX_BODY_BYTES else None
        if trouble is not None and head.is_held_back:
            raise trouble
        parts: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        end_s = loop.time() + BODY_S
        is_whole = False
        try:
            async with asyncio.timeout(PART_S) as limit:
                async for part in request.stream():
                    limit.reschedule(min(end_s, loop.time() + PART_S))
                    if trouble is not None:
                        continue
                    parts.append(part)
                    size += len(part)
                    self._received_bytes += len(part)
                    if size > MAX_BODY_BYTES:
                        trouble = too_large()
                    elif self._received_bytes > MAX_RECEIVED_BYTES:
                        trouble = Busy(RETRY_AFTER_S, "too much is being received; try again")
                    if trouble is not None:
                        parts.clear()
            is_whole = trouble is None
        except TimeoutError:
            late = _Turned(
                408, codes.DEADLINE_EXCEEDED, OTLP_CONNECTION, "the body did not come", connection="close"
            )
            trouble = trouble or late
        except ClientDisconnect:
            trouble = _Turned(
                400, codes.CANCELLED, OTLP_CONNECTION, "the sender went away within its request"
            )
        finally:
            if not is_whole:
                self._received_bytes -= size
        if trouble is not None:
            raise trouble
        return Body(b"".join(parts), head.is_json, head.is_compressed), size

    async def _turn_away(self, request: Request, error: Exception) -> Response:
        """Reject a request other than a POST to the path."""
        assert isinstance(error, HTTPException)
        message = f"{quote(request.method)} {quote(request.url.path)}: spans are taken by POST to {PATH}"
        self._intake.note(OTLP_REQUEST, message)
        code = codes.NOT_FOUND if error.status_code == 404 else codes.UNIMPLEMENTED
        is_json = _media_type(request) != PROTOBUF
        return _tell(error.status_code, code, message, is_json, dict(error.headers or {}))


def _check(request: Request) -> _Head:
    """Return the properties of the body, if the request is acceptable.

    Raises:
        _Turned: the request is rejected.
    """
    headers = request.headers
    host = _PORT.sub("", headers.get("host", "")).lower()
    if "origin" in headers or (host and not is_loopback(host)):
        is_page = "origin" in headers
        whose = f"of the page {quote(headers['origin'])}" if is_page else f"to the host {quote(host)}"
        message = (
            f"a request {whose}: only programs of this machine may send; a proxy sends 'Host: localhost'"
        )
        raise _Turned(403, codes.PERMISSION_DENIED, OTLP_ORIGIN, message)
    media_type = _media_type(request)
    if media_type not in (JSON, PROTOBUF):
        message = f"Content-Type {quote(media_type or 'missing')}: it has to be {PROTOBUF} or {JSON}"
        raise _Turned(415, codes.INVALID_ARGUMENT, OTLP_REQUEST, message, accept=f"{PROTOBUF}, {JSON}")
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in CODINGS:
        message = f"Content-Encoding {quote(coding)}: it has to be gzip or deflate"
        raise _Turned(415, codes.INVALID_ARGUMENT, OTLP_REQUEST, message, accept_encoding="gzip, deflate")
    length = headers.get("content-length", "0")
    return _Head(
        is_json=media_type == JSON,
        is_compressed=CODINGS[coding],
        length=int(length),
        is_held_back=headers.get("expect", "").lower() == "100-continue",
    )


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _tell(
    status: int, code: int, message: str, is_json: bool, headers: dict[str, str] | None = None
) -> Response:
    return _respond(status, Status(code=code, message=message), is_json, headers)


def _respond(status: int, message: Message, is_json: bool, headers: dict[str, str] | None = None) -> Response:
    content = MessageToJson(message, indent=None) if is_json else message.SerializeToString()
    return Response(content, status, headers, media_type=JSON if is_json else PROTOBUF)
