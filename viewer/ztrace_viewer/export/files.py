"""Files of other programs, read as OTLP: OTLP as JSON or protobuf, and Jaeger's JSON.

One idea: the format is detected from the first bytes, not from the name. A file is read by request or by
trace, so it needs no more memory than the largest of these.
"""

import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TypeAlias, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.errors import OtlpError, SettingsError
from ztrace_collector.otlp.mapping import incoming, json_form
from ztrace_viewer.export.jaeger_reading import read_trace
from ztrace_viewer.interrupts import allowed

#: Bytes read at a time, and examined to detect the format.
_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Bytes that occur in protobuf and in no text.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
#: Beginning of the files of Jaeger's query API and page, whose traces are read one by one.
_JAEGER = re.compile(rb'\s*\{\s*"data"\s*:\s*\[')
_REQUEST = ("resourceSpans", "resource_spans")
#: Bytes of a length in front of each message, as the OpenTelemetry Collector's file exporter writes protobuf.
_LENGTH_BYTES = 4

_Stream: TypeAlias = io.BufferedReader | gzip.GzipFile


class Source:
    """A file to import.

    Attributes:
        name: name in errors.
        spans: number of spans read so far.
    """

    def __init__(self, path: Path | None) -> None:
        """Open a file, or standard input for None; `close` closes it.

        Raises:
            SettingsError: the file cannot be read.
        """
        self.name = "standard input" if path is None else str(path)
        self.spans = 0
        try:
            # The buffer of standard input holds what its writer wrote at once: enough to detect the format.
            if path is None:
                self._raw = cast("io.BufferedReader", sys.stdin.buffer)
            else:
                # Opening a named pipe waits for its writer.
                with allowed() if path.is_fifo() else nullcontext():
                    file = io.FileIO(path)
                self._raw = cast("io.BufferedReader", io.BufferedReader(file, _CHUNK))
            self._size = os.fstat(self._raw.fileno()).st_size if path is not None else 0
        except OSError as error:
            raise SettingsError(f"cannot read {self.name}: {error.strerror}") from error
        self._is_own = path is not None

    def close(self) -> None:
        """Close the file, but not standard input."""
        if self._is_own:
            self._raw.close()

    @property
    def share(self) -> float | None:
        """Part of the file that has been read, 0 to 1; None if it is unknown."""
        return self._raw.tell() / self._size if self._size else None

    def read(self) -> Iterator[ExportTraceServiceRequest]:
        """Yield the content as requests.

        Raises:
            SettingsError: the file has another format or is malformed; the message says where.
        """
        try:
            for request in self._read():
                self.spans += sum(
                    len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
                )
                yield request
        except (OSError, EOFError, zlib.error) as error:
            raise SettingsError(f"cannot read {self.name}: {error}") from error

    def _read(self) -> Iterator[ExportTraceServiceRequest]:
        stream: _Stream = self._raw
        if stream.peek(_CHUNK)[:2] == _GZIP:
            stream = gzip.GzipFile(fileobj=stream)
        head = stream.peek(_CHUNK)
        if head.startswith(_BYTE_ORDER_MARK):
            stream.read(len(_BYTE_ORDER_MARK))
            head = stream.peek(_CHUNK)
        if head.lstrip()[:1] not in (b"{", b"[") or (head[:1] == b"\n" and _BINARY.search(head)):
            yield from self._read_protobuf(stream)
        elif begin := _JAEGER.match(head):
            stream.read(begin.end())
            yield from self._read_jaeger(stream, head[: begin.end()].count(b"\n") + 1)
        else:
            yield from self._read_lines(stream)

    def _read_lines(self, stream: _Stream) -> Iterator[ExportTraceServiceRequest]:
        """Read one JSON value per line, or the whole file as one if the first line is not complete."""
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                content = json.loads(line.rstrip())
            except (ValueError, RecursionError) as error:
                if self.spans == 0:
                    yield from self._read_document(number, line + stream.read())
                    return
                raise self._refuse(number, _explain(error)) from None
            yield from self._read_content(number, content, line)

    def _read_document(self, line: int, text: bytes) -> Iterator[ExportTraceServiceRequest]:
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._refuse(line + error.lineno - 1, _explain(error)) from None
        except (ValueError, RecursionError) as error:
            raise self._refuse(line, _explain(error)) from None
        yield from self._read_content(line, content, text)

    def _read_jaeger(self, stream: _Stream, line: int) -> Iterator[ExportTraceServiceRequest]:
        """Read the traces of Jaeger's list one by one."""
        text = io.TextIOWrapper(stream, "utf-8", newline="")
        try:
            yield from self._read_elements(text, line)
        finally:
            text.detach()

    def _read_elements(self, text: io.TextIOWrapper, line: int) -> Iterator[ExportTraceServiceRequest]:
        decoder = json.JSONDecoder()
        buffer, is_all = "", False
        while True:
            buffer = buffer.lstrip(", \t")
            while buffer[:1] in ("\r", "\n"):
                line += buffer[0] == "\n"
                buffer = buffer[1:].lstrip(", \t")
            if buffer[:1] == "]":
                return
            try:
                content, end = decoder.raw_decode(buffer)
            except json.JSONDecodeError as error:
                if is_all or not _may_go_on(error):
                    raise self._refuse(line + error.lineno - 1, _explain(error)) from None
                # Twice as much each time, so parsing again takes no longer than parsing once.
                more = self._read_text(text, max(_CHUNK, len(buffer)), line)
                buffer, is_all = buffer + more, not more
                continue
            except RecursionError as error:
                raise self._refuse(line, _explain(error)) from None
            yield self._read_trace(line, content)
            line += buffer.count("\n", 0, end)
            buffer = buffer[end:]

    def _read_text(self, text: io.TextIOWrapper, size: int, line: int) -> str:
        try:
            return text.read(size)
        except UnicodeDecodeError as error:
            raise self._refuse(line, _explain(error)) from None

    def _read_content(self, line: int, content: object, text: bytes) -> Iterator[ExportTraceServiceRequest]:
        """Read a complete JSON value of any of the formats."""
        if isinstance(content, list):
            for element in content:
                yield from self._read_content(line, element, json.dumps(element).encode())
        elif not isinstance(content, dict):
            raise self._refuse(line, "is neither OTLP nor Jaeger's JSON")
        elif any(name in content for name in _REQUEST):
            try:
                yield json_form.parse_request(text)
            except OtlpError as error:
                raise self._refuse(line, str(error)) from None
        elif isinstance(content.get("data"), list):
            for element in content["data"]:
                yield self._read_trace(line, element)
        elif "spans" in content:
            yield self._read_trace(line, content)
        elif isinstance(content.get("result"), dict):
            # The third version of Jaeger's query API.
            yield from self._read_content(line, content["result"], json.dumps(content["result"]).encode())
        else:
            names = ", ".join(sorted(map(str, content))[:5])
            raise self._refuse(line, f"has no spans of OTLP or of Jaeger's; it has {names or 'nothing'}")

    def _read_trace(self, line: int, content: object) -> ExportTraceServiceRequest:
        try:
            return read_trace(content)
        except ValueError as error:
            raise self._refuse(line, f"is no trace of Jaeger's: {error}") from None

    def _read_protobuf(self, stream: _Stream) -> Iterator[ExportTraceServiceRequest]:
        if stream.peek(1)[:1] != b"\x00":
            body = stream.read()
            if body.strip():
                yield self._parse(body)
            return
        while length := stream.read(_LENGTH_BYTES):
            size = int.from_bytes(length, "big")
            body = stream.read(size)
            if len(length) < _LENGTH_BYTES or len(body) < size:
                raise SettingsError(f"{self.name} ends within a message")
            yield self._parse(body)

    def _parse(self, body: bytes) -> ExportTraceServiceRequest:
        try:
            return incoming.parse_request(body)
        except OtlpError:
            raise SettingsError(
                f"{self.name} is neither OTLP, as JSON or protobuf, nor Jaeger's JSON",
                hint="export it as one of these",
            ) from None

    def _refuse(self, line: int, what: str) -> SettingsError:
        return SettingsError(f"{self.name}, line {line}: {what}")


def _may_go_on(error: json.JSONDecodeError) -> bool:
    """Return whether an error may be due to the end of the text read so far."""
    # The text may end within a word or an escape.
    return error.pos >= len(error.doc) - 16 or error.msg.startswith("Unterminated string")


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return f"is not JSON: {error}"
