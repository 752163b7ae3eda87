"""Small bodies of OTLP requests that become large, each of a kind that a parser could be misled by."""

import gzip
import zlib
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from typing import NamedTuple

#: Below the bounds on decompressed bytes, so that a body reaches the parsers.
_PROTOBUF, _JSON = 11 << 20, 7 << 20


class Bomb(NamedTuple):
    """Body of a request, with the headers that describe it."""

    content: bytes
    media_type: str = "application/x-protobuf"
    coding: str = "gzip"

    def send(self, port: int, timeout_s: float) -> int:
        """Send the body as a request; return the status of the answer, 0 if there is none."""
        headers = {"Content-Type": self.media_type}
        if self.coding:
            headers["Content-Encoding"] = self.coding
        connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.request("POST", "/v1/traces", self.content, headers)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


def _field(number: int, value: bytes) -> bytes:
    size, prefix = len(value), bytearray((number << 3 | 2,))
    while size >= 0x80:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*prefix, size)) + value


def _spans(content: bytes) -> bytes:
    """Return a request with the fields of one scope."""
    return _field(1, _field(2, content))


def _protobuf(content: bytes) -> Bomb:
    return Bomb(gzip.compress(content, 6))


def _json(content: bytes) -> Bomb:
    return Bomb(gzip.compress(content, 6), "application/json")


def _of_span(unit: bytes, byte_count: int = (1 << 20) - 100) -> bytes:
    return _spans(_field(2, unit * (byte_count // len(unit))) * (_PROTOBUF // byte_count))


#: Kinds of bombs, made when they are needed: some are megabytes.
BOMBS: Mapping[str, Callable[[], Bomb]] = {
    "10 million empty spans": lambda: _protobuf(_spans(b"\x12\x00" * 10_000_000)),
    "empty spans below the bound": lambda: _protobuf(_spans(b"\x12\x00" * 120_000)),
    "spans of empty events": lambda: _protobuf(_of_span(b"\x5a\x00")),
    "spans of empty links": lambda: _protobuf(_of_span(b"\x6a\x00")),
    "spans of empty attributes": lambda: _protobuf(_of_span(b"\x4a\x02\x12\x00")),
    "spans of groups": lambda: _protobuf(_of_span(b"\xa3\x06\xa4\x06")),
    "small spans of attributes": lambda: _protobuf(_of_span(b"\x4a\x02\x12\x00", 100)),
    "empty resources": lambda: _protobuf(b"\x0a\x00" * (_PROTOBUF // 2)),
    "unknown fields": lambda: _protobuf(b"\xa0\x06\x01" * (_PROTOBUF // 3)),
    "one long attribute": lambda: _protobuf(_spans(_field(2, _field(9, _field(1, bytes(_PROTOBUF)))))),
    "JSON, deep": lambda: _json(b'{"resourceSpans":' + b"[" * 200_000),
    "JSON, objects": lambda: _json(b'{"resourceSpans":[' + b"{}," * (20 << 20) + b"{}]}"),
    "JSON, spans below the bound": lambda: _json(
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 120_000 + b"{}]}]}]}"
    ),
    "JSON, a number": lambda: _json(b'{"a":' + b"1" * _JSON + b"}"),
    "JSON, a wide text": lambda: _json('{"a":"\N{SNOWMAN}\N{PILE OF POO}'.encode() + b"x" * _JSON + b'"}'),
    "JSON, values of wrong types": lambda: _json(
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":['
        + b'{"value":1},' * 120_000
        + b"{}]}]}]}]}"
    ),
    "JSON, spans of wrong types": lambda: _json(
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"7," * 240_000 + b"{}]}]}]}"
    ),
    "texts that are not UTF-8": lambda: _protobuf(_of_span(_field(5, b"\xff"))),
    "zeros": lambda: _protobuf(bytes(256 << 20)),
    "members": lambda: Bomb(gzip.compress(b"") * 50_000),
    "zlib in zlib": lambda: Bomb(zlib.compress(zlib.compress(bytes(64 << 20))), coding="deflate"),
    "no compression": lambda: Bomb(_spans(b"\x12\x00" * 500_000), coding=""),
}
