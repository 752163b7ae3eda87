"""Files of other programs, read as OTLP: OTLP as JSON or protobuf, Jaeger's JSON, and Zipkin's.

One idea: the format is detected from the content, not from the name, value by value. A file is read by
request or by trace, so it needs no more memory than the largest of these.
"""

import gzip
import io
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TypeAlias, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ztrace.errors import OtlpError, SettingsError
from ztrace_collector.otlp.mapping import incoming
from ztrace_collector.refusals import Note
from ztrace_viewer.export.dialects import NoSpans, read_content
from ztrace_viewer.export.jaeger_reading import read_trace
from ztrace_viewer.export.json_stream import BROKEN_LINES, Broken, JsonStream
from ztrace_viewer.interrupts import allowed

#: Bytes read at a time, and examined to detect the format.
_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
#: Byte order marks and their encodings; PowerShell writes UTF-16.
_ENCODINGS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
#: Bytes before the first value of JSON: a byte order mark, blanks, separators of records, and comments.
_FIRST = re.compile(rb"(?:\xef\xbb\xbf|[\s\x1e]|(?:#|//)[^\n]*\n)*")
#: Bytes that occur in protobuf and in no text.
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
#: Beginning of the files of Jaeger's query API and page, whose traces are read one by one.
_JAEGER = re.compile(r'\{\s*"data"\s*:\s*\[')
#: Bytes of a length in front of each message, as the OpenTelemetry Collector's file exporter writes protobuf.
_LENGTH_BYTES = 4

_Stream: TypeAlias = io.BufferedReader | gzip.GzipFile


class Source:
    """A file to import.

    Attributes:
        name: name in errors.
        spans: number of spans read so far.
        skipped: number of lines or values without spans, by kind.
        trouble: place and description of the first of these, empty if there is none.
    """

    def __init__(self, path: Path | None, note: Note) -> None:
        """Open a file, or standard input for None; `close` closes it.

        Args:
            path: the file.
            note: counts spans that cannot be read, and values that are corrected.

        Raises:
            SettingsError: the file cannot be read.
        """
        self.name = "standard input" if path is None else str(path)
        self.spans = 0
        self.skipped: Counter[str] = Counter()
        self._note = note
        self.trouble = ""
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
        encoding = next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), "utf-8")
        if encoding == "utf-8":
            found = _FIRST.match(head)
            first = head[found.end() : found.end() + 1] if found else b""
            if first not in (b"{", b"[") or (head[:1] == b"\n" and _BINARY.search(head)):
                yield from self._read_protobuf(stream)
                return
        json_stream = JsonStream(stream, encoding)
        try:
            yield from self._read_json(json_stream)
        except Broken as error:
            raise SettingsError(f"{self.name}, line {error.line}: {error.what}") from None
        finally:
            json_stream.detach()

    def _read_json(self, stream: JsonStream) -> Iterator[ExportTraceServiceRequest]:
        has_lines = False
        while not stream.is_at_end():
            line = stream.line
            if stream.skip_comment():
                self.skipped["comments"] += 1
            elif stream.starts_with(_JAEGER):
                # Traces are read one by one.
                while stream.next_element():
                    yield read_trace(stream.value(), self._note)
                stream.end_object()
            else:
                try:
                    content = stream.value()
                except Broken as error:
                    if not has_lines or error.line > line + BROKEN_LINES:
                        raise
                    self._skip("unreadable", line, error.what)
                    stream.skip_line()
                    continue
                has_lines = stream.line == line
                try:
                    yield from read_content(content, self._note)
                except NoSpans as error:
                    self._skip(error.kind, line, str(error))

    def _skip(self, kind: str, line: int, what: str) -> None:
        self.skipped[kind] += 1
        self.trouble = self.trouble or f"{self.name}, line {line}: {what}"

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
            return incoming.parse_request(body, self._note)
        except OtlpError:
            raise SettingsError(
                f"{self.name} is neither OTLP, as JSON or protobuf, nor Jaeger's or Zipkin's JSON",
                hint="export it as one of these",
            ) from None
