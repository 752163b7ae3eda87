"""OTLP over HTTP, outgoing, as protobuf.

One idea: OpenTelemetry's exporters accept spans of its SDK and drop those they cannot send in time. Only the
protocol is shared with them, so this module has a session of requests and the specification's table of
statuses.
"""

import gzip
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

import requests
import urllib3
from google.protobuf.json_format import Parse as parse_json
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ztrace_collector.otlp.sending.answers import Answer, Later, Refused, Taken, TooLarge
from ztrace_collector.otlp.sending.destinations import Destination

#: Statuses after which the specification requires a retry.
RETRIED = frozenset({429, 502, 503, 504})
#: Bytes read of an answer, since a proxy may return a long page.
MAX_ANSWER_BYTES = 64 << 10
#: zlib's fastest level: it shrinks telemetry to a tenth, and higher levels cost more than they save.
GZIP_LEVEL = 1
_TYPE = "application/x-protobuf"


class HttpTransport:
    """Session with one destination."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._verify: bool | str = destination.certificate or True
        self._session = requests.Session()
        # An entry for this host in ~/.netrc must not replace the given header.
        self._session.auth = _leave_as_it_is
        self._session.cert = _client_certificate(destination)
        self._session.headers.clear()
        self._session.headers.update({"user-agent": "ztrace", "accept": _TYPE, **dict(destination.headers)})
        self._session.headers["content-type"] = _TYPE
        if destination.compressed:
            self._session.headers["content-encoding"] = "gzip"

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def send(self, request: ExportTraceServiceRequest) -> Answer:
        """Send a request and wait for its answer."""
        body = request.SerializeToString()
        if self._destination.compressed:
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        timeout_s = self._destination.timeout_s
        deadline_s = time.monotonic() + timeout_s
        try:
            with self._session.post(
                self._destination.target,
                data=body,
                timeout=timeout_s,
                verify=self._verify,
                allow_redirects=False,
                stream=True,
            ) as response:
                content = b"".join(_read(response, deadline_s))
                return self._judge(response.status_code, response.headers, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return Later(self._destination.redact(_explain(error, timeout_s)))

    def _judge(self, status: int, headers: Mapping[str, str], content: bytes) -> Answer:
        is_json = "json" in headers.get("content-type", "")
        if 200 <= status < 300:
            rejected, message = _read_partial_success(content, is_json)
            return Taken(rejected, self._destination.redact(message))
        message = self._destination.redact(_read_message(content, headers.get("content-type", "")))
        if status in RETRIED:
            text = f"HTTP {status}" + (f": {message}" if message else "")
            return Later(text, _read_retry_after(headers.get("retry-after")))
        if status == 413:
            return TooLarge(message)
        if 300 <= status < 400 and not message:
            message = "it answers at another URL"
        return Refused(f"HTTP {status}", message)


def _leave_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _client_certificate(destination: Destination) -> str | tuple[str, str] | None:
    if destination.client_certificate and destination.client_key:
        return destination.client_certificate, destination.client_key
    return destination.client_certificate


def _read(response: requests.Response, deadline_s: float) -> Iterator[bytes]:
    """Yield the beginning of an answer, without waiting for the rest of a long one."""
    size = 0
    for chunk in response.iter_content(4096):
        yield chunk
        size += len(chunk)
        if size >= MAX_ANSWER_BYTES:
            return
        if time.monotonic() > deadline_s:
            raise requests.ReadTimeout


def _read_partial_success(content: bytes, is_json: bool) -> tuple[int, str]:
    """Return the number of rejected spans and the message; an unreadable answer rejects none."""
    try:
        if is_json:
            answer = parse_json(content, ExportTraceServiceResponse(), ignore_unknown_fields=True)
        else:
            answer = ExportTraceServiceResponse.FromString(content)
    except (DecodeError, ParseError, UnicodeDecodeError):
        return 0, ""
    return answer.partial_success.rejected_spans, answer.partial_success.error_message


def _read_message(content: bytes, content_type: str) -> str:
    """Return the message of an error answer."""
    try:
        if "protobuf" in content_type:
            return str(Status.FromString(content).message)
        if "json" in content_type:
            return str(parse_json(content, Status(), ignore_unknown_fields=True).message)
    except (DecodeError, ParseError, UnicodeDecodeError):
        pass
    return "" if "html" in content_type else content.decode("utf-8", "replace")


def _read_retry_after(value: str | None) -> float | None:
    """Return the delay in seconds that Retry-After asks for, as a number or as a time."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, at_s - time.time())


def _explain(error: Exception, timeout_s: float) -> str:
    """Return a connection error in a few words; the messages of libraries contain the whole URL."""
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return f"no answer within {timeout_s:g} s"
    reason: BaseException | None = error
    seen = 0
    while reason is not None and seen < 10:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {reason.verify_message}"
        if isinstance(reason, ssl.SSLError):
            return f"TLS failed: {reason.reason or reason.strerror}"
        if isinstance(reason, socket.gaierror):
            return "its host has no address"
        if isinstance(reason, ConnectionRefusedError):
            return "connection refused"
        if isinstance(reason, TimeoutError):
            return f"no connection within {timeout_s:g} s"
        inner = next((each for each in reason.args if isinstance(each, BaseException)), None)
        reason = getattr(reason, "reason", None) or inner or reason.__cause__ or reason.__context__
        reason = reason if isinstance(reason, BaseException) else None
        if reason is not None:
            error = reason if isinstance(reason, Exception) else error
        seen += 1
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection was closed without an answer" if "closed" in str(error) else type(error).__name__
