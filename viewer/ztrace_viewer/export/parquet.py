"""Spans as rows of a Parquet file, for DuckDB, pandas, ClickHouse and other engines of tables.

One idea: a row is a span with everything about it, names for keys and hex for ids as in the view
``span_list``, so that a query needs no join. Rows become a group of the file, and leave memory, once there
are enough of them; groups are in the order in which the trees began, and an engine that looks for a time
skips the others.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, NamedTuple, get_args, get_type_hints

from ztrace.records import MEASURES, UNFINISHED
from ztrace_collector.otlp.mapping.reading import StoredProcess, StoredSpan
from ztrace_collector.tables.thresholds import weigh
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.trees.spans import STATUS_NAMES

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch, Schema

#: Most rows of a group, some 2 MB of the file: engines read a group at a time, and skip whole ones.
GROUP_ROWS = 65_536
#: Most bytes of a group in memory, which large attributes reach before its rows do.
GROUP_BYTES = 32 << 20
#: Processes kept at a time; spans of a tree come from few.
_PROCESSES = 1_000
#: Columns of Unix time in nanoseconds.
_TIMES = ("started",)
#: Columns with few values of a group each; a dictionary of the others would only be discarded.
_REPEATED = (
    "trace_id", "service", "name", "kind", "status", "instance_id", "host", "pid", "version", "resource",
    "attributes", "threshold", "weight", "exception_type", "exception_how", "exception_group",
    "exception_frames", "exception_causes",
)  # fmt: skip


class Row(NamedTuple):
    """Row of a file; the annotations are the types of its columns, which are listed in the reference.

    Attributes:
        started: Unix time in nanoseconds.
        attributes: JSON object, None if there are none, and likewise links, details and resource.
        weight: number of traces that its trace stands for.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    name: str
    kind: str
    started: int
    duration_ns: int | None
    self_ns: int | None
    cpu_ns: int | None
    lane: int | None
    status: str
    instance_id: str | None
    host: str | None
    pid: int | None
    version: str | None
    resource: str | None
    attributes: str | None
    links: str | None
    details: str | None
    threshold: int | None
    weight: float
    exception_type: str | None
    exception_message: str | None
    exception_how: str | None
    exception_origin_trace_id: str | None
    exception_origin_span_id: str | None
    exception_group: str | None
    exception_frames: str | None
    exception_causes: str | None
    exception_notes: str | None
    exception_members: str | None


class _Parts(io.RawIOBase):
    """Parts of a file that are written and not yet taken."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Return true, since only writing is supported."""
        return True

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        """Keep a copy of the bytes until they are taken."""
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def make_parquet(store: Store, chunks: Iterable[Sequence[StoredSpan]]) -> Iterator[bytes]:
    """Yield the parts of a file, each with a group of rows at most.

    Args:
        store: database with the processes of the spans.
        chunks: spans in the order of the rows.
    """
    from pyarrow import PythonFile, RecordBatch, Table
    from pyarrow.parquet import ParquetWriter

    schema = _make_schema()
    parts = _Parts()
    with ParquetWriter(
        PythonFile(parts, mode="w"),
        schema,
        compression="zstd",
        use_dictionary=list(_REPEATED),
        column_encoding={"started": "DELTA_BINARY_PACKED"},
    ) as writer:
        rows = _make_rows(store, chunks)
        batches = (RecordBatch.from_arrays(_make_columns(schema, chunk), schema=schema) for chunk in rows)
        for group in _group(batches):
            writer.write_table(Table.from_batches(group), row_group_size=sum(map(len, group)))
            yield parts.take()
    yield parts.take()


def _group(batches: "Iterable[RecordBatch]") -> "Iterator[list[RecordBatch]]":
    """Yield batches in groups of bounded size."""
    group: list[RecordBatch] = []
    row_count = byte_count = 0
    for batch in batches:
        group.append(batch)
        row_count += batch.num_rows
        byte_count += batch.nbytes
        if row_count >= GROUP_ROWS or byte_count >= GROUP_BYTES:
            yield group
            group, row_count, byte_count = [], 0, 0
    if group:
        yield group


def _make_columns(schema: "Schema", rows: Sequence[Row]) -> "list[Array]":
    from pyarrow import array

    return [array(values, field.type) for field, values in zip(schema, zip(*rows, strict=True), strict=True)]


def _make_schema() -> "Schema":
    """Return the columns of a file, from the fields of `Row`."""
    import pyarrow

    of_types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    fields = []
    for name, annotation in get_type_hints(Row).items():
        (plain,) = set(get_args(annotation) or (annotation,)) - {NoneType}
        column = pyarrow.timestamp("ns", tz="UTC") if name in _TIMES else of_types[plain]
        fields.append(pyarrow.field(name, column, nullable=NoneType in get_args(annotation)))
    return pyarrow.schema(fields)


def _make_rows(store: Store, chunks: Iterable[Sequence[StoredSpan]]) -> Iterator[list[Row]]:
    read = lru_cache(_PROCESSES)(store.process)
    for spans in chunks:
        yield [_make_row(span, read(span.instance)) for span in spans]


def _make_row(span: StoredSpan, process: StoredProcess | None) -> Row:
    measures = dict(zip(MEASURES, span.measures, strict=True))
    raised = span.exception
    return Row(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=None if span.parent_id is None else span.parent_id.hex(),
        service=span.service,
        name=span.name,
        kind=span.kind,
        started=span.start_ns,
        duration_ns=None if span.status == UNFINISHED else span.duration_ns,
        self_ns=measures["self_ns"],
        cpu_ns=measures["cpu_ns"],
        lane=measures["lane"],
        status=STATUS_NAMES.get(span.status, "ok"),
        instance_id=process and process.instance_id,
        host=process and process.host,
        pid=process and process.pid,
        version=process and process.version,
        resource=process and process.resource,
        attributes=span.attributes,
        links=span.links,
        details=span.details,
        threshold=span.threshold,
        weight=weigh(span.threshold),
        exception_type=raised and raised.type,
        exception_message=raised and raised.message,
        exception_how=raised and raised.how,
        exception_origin_trace_id=raised and raised.origin_trace_id.hex(),
        exception_origin_span_id=raised and raised.origin_span_id.hex(),
        exception_group=raised and raised.group,
        exception_frames=raised and raised.frames,
        exception_causes=raised and raised.causes,
        exception_notes=raised and raised.notes,
        exception_members=raised and raised.members,
    )
