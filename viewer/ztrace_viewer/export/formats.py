"""Formats of exported files, and their writers.

One idea: a writer receives the trees in the order in which they began, in pieces, and returns text for each,
so a file can be larger than memory. Binary formats return bytes.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.export.chrome import ChromeWriter
from ztrace_viewer.export.jaeger import TraceParts
from ztrace_viewer.export.otlp_profiles import make_profiles
from ztrace_viewer.export.parquet import make_parquet
from ztrace_viewer.export.speedscope import SpeedscopeWriter
from ztrace_viewer.queries.pieces import Piece
from ztrace_viewer.queries.stores.store import Store

#: Spans of a request, which is a line of a file; OpenTelemetry's exporters send as many.
REQUEST_SPANS = 512


class TreeWriter(Protocol):
    """Writer of a file of whole trees."""

    def begin(self) -> str:
        """Return the beginning of the file."""
        ...

    def add(self, spans: Sequence[StoredSpan]) -> Iterator[str]:
        """Yield the part of the file for a tree."""
        ...

    def end(self) -> str:
        """Return the end of the file."""
        ...


def make_parts(name: str, store: Store, pieces: Iterable[Piece], start_ns: int) -> Iterator[str | bytes]:
    """Yield the parts of a file, text or bytes.

    Args:
        name: format, one of `ztrace_viewer.commands.exporting.FORMATS`.
        store: database of the pieces.
        pieces: pieces of trees, in the order in which the trees began.
        start_ns: start of the first tree.
    """
    if name == "otlp":
        return _make_otlp(store, pieces)
    if name == "otlp-profiles":
        return make_profiles(store, gather(pieces))
    if name == "parquet":
        return make_parquet(store, gather(pieces))
    if name == "jaeger":
        return _make_jaeger(store, pieces)
    writer: TreeWriter = SpeedscopeWriter() if name == "speedscope" else ChromeWriter(store, start_ns)
    return _make_trees(writer, pieces)


def gather(pieces: Iterable[Piece]) -> Iterator[list[StoredSpan]]:
    """Yield the spans of pieces in lists of the size of a request, across trees."""
    waiting: list[StoredSpan] = []
    for piece in pieces:
        waiting += piece.spans
        while len(waiting) >= REQUEST_SPANS:
            yield waiting[:REQUEST_SPANS]
            del waiting[:REQUEST_SPANS]
    if waiting:
        yield waiting


def _make_otlp(store: Store, pieces: Iterable[Piece]) -> Iterator[str]:
    builder = Builder(store.process)
    for spans in gather(pieces):
        yield format_request(builder.request(spans)) + "\n"


def _make_jaeger(store: Store, pieces: Iterable[Piece]) -> Iterator[str]:
    builder = Builder(store.process)
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
