"""The formats of files: which there are, and what writes each.

One idea: a writer is given the trees in the order in which they began, in pieces, and makes text of each, so
that a file may be larger than memory.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.export.chrome import ChromeWriter
from ztrace_viewer.export.jaeger import TraceParts
from ztrace_viewer.export.speedscope import SpeedscopeWriter
from ztrace_viewer.queries.pieces import Piece

#: Spans of a request, which is a line of a file: what OpenTelemetry's own exporters send at a time.
REQUEST_SPANS = 512


class TreeWriter(Protocol):
    """Makes a file of whole trees."""

    def begin(self) -> str:
        """Return the file's beginning."""
        ...

    def add(self, spans: Sequence[StoredSpan]) -> Iterator[str]:
        """Yield a tree's part of the file."""
        ...

    def end(self) -> str:
        """Return the file's end."""
        ...


def make_text(name: str, db: sqlite3.Connection, pieces: Iterable[Piece], start_ns: int) -> Iterator[str]:
    """Yield a file's text.

    Args:
        name: one of `FORMATS`.
        db: what the pieces are from.
        pieces: of trees, in the order in which these began.
        start_ns: when the first began.
    """
    if name == "otlp":
        return _make_otlp(db, pieces)
    if name == "jaeger":
        return _make_jaeger(db, pieces)
    writer: TreeWriter = SpeedscopeWriter() if name == "speedscope" else ChromeWriter(db, start_ns)
    return _make_trees(writer, pieces)


def gather(pieces: Iterable[Piece]) -> Iterator[list[StoredSpan]]:
    """Yield spans as many at a time as a request has, whatever trees they belong to."""
    waiting: list[StoredSpan] = []
    for piece in pieces:
        waiting += piece.spans
        while len(waiting) >= REQUEST_SPANS:
            yield waiting[:REQUEST_SPANS]
            del waiting[:REQUEST_SPANS]
    if waiting:
        yield waiting


def _make_otlp(db: sqlite3.Connection, pieces: Iterable[Piece]) -> Iterator[str]:
    builder = Builder(db)
    for spans in gather(pieces):
        yield format_request(builder.request(spans)) + "\n"


def _make_jaeger(db: sqlite3.Connection, pieces: Iterable[Piece]) -> Iterator[str]:
    builder = Builder(db)
    yield '{"data": ['
    between, comma, parts = "\n", "", None
    for piece in pieces:
        if parts is None:
            parts = TraceParts(exact=True)
            yield f'{between}{{"traceID": "{piece.trace_id.hex()}", "spans": ['
            between, comma = ",\n", ""
        for span in parts.make_spans(builder.request(piece.spans)):
            yield f"{comma}\n{json.dumps(span)}"
            comma = ","
        if piece.is_last:
            yield f'], "processes": {json.dumps(parts.processes)}, "warnings": null}}'
            parts = None
    yield '\n], "total": 0, "limit": 0, "offset": 0, "errors": null}\n'


def _make_trees(writer: TreeWriter, pieces: Iterable[Piece]) -> Iterator[str]:
    yield writer.begin()
    tree: list[StoredSpan] = []
    for piece in pieces:
        tree += piece.spans
        if piece.is_last:
            yield from writer.add(tree)
            tree = []
    yield writer.end()
