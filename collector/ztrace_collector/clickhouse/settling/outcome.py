"""Outcome of a step of settling: what is written ahead, and the rows that it becomes.

One idea: rows are made of the text that was written ahead alone, so they are the same in each process that
carries it out, and their tokens name the batch. Sums are of single minutes; they are added to hours and days
when they are carried out.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ztrace_collector.clickhouse.batches import Batch
from ztrace_collector.clickhouse.engine import insert_block
from ztrace_collector.clickhouse.native import encode, make_block
from ztrace_collector.layout import RESOLUTIONS_S

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Columns of each table, with the types in which they are sent; ``arrived`` is the engine's own time.
_FIGURES = (
    ("resolution_s", "UInt32"),
    ("bucket", "Int64"),
    ("version", "String"),
    ("own_version", "String"),
    ("failed", "UInt8"),
    ("path", "UInt64"),
    ("root_calls", "Int64"),
    ("calls", "Int64"),
    ("errors", "Int64"),
    ("total_ns", "Int64"),
    ("self_ns", "Int64"),
    ("critical_ns", "Int64"),
    ("cpu_ns", "Int64"),
    ("timed_ns", "Int64"),
    ("histogram", "Map(UInt16, Int64)"),
)
_PATHS = (
    ("id", "UInt64"),
    ("parent", "UInt64"),
    ("method", "UInt64"),
    ("depth", "Int64"),
    ("root", "UInt64"),
)
_VERSIONS = (("service", "String"), ("version", "String"))
_SETTLED = (
    ("trace_id", "FixedString(16)"),
    ("upto", "Map(String, Int64)"),
    ("span_count", "UInt64"),
    ("figures", "String"),
    ("revision", "UInt64"),
)
_BOUNDS = (
    ("host", "String"),
    ("other_host", "String"),
    ("cell", "Int64"),
    ("low", "Tuple(Int64, Int64)"),
    ("high", "Tuple(Int64, Int64)"),
    ("calls", "Int64"),
    ("seen_ns", "Int64"),
)
_DUPLICATES = (
    ("trace_id", "FixedString(16)"),
    ("span_id", "FixedString(8)"),
    ("instance", "UInt64"),
    ("journal", "String"),
    ("method", "UInt64"),
    ("start_ns", "Int64"),
    ("duration_ns", "Int64"),
    ("self_ns", "Nullable(Int64)"),
    ("status", "UInt8"),
    ("arrived", "DateTime64(3, 'UTC')"),
)
_EXCEPTIONS = (
    ("trace_id", "FixedString(16)"),
    ("journal", "String"),
    ("id", "UInt64"),
    ("span_id", "FixedString(8)"),
    ("origin_trace_id", "FixedString(16)"),
    ("origin_span_id", "FixedString(8)"),
    ("exception_group", "String"),
    ("how", "String"),
    ("derived", "UInt8"),
    ("other_origins", "String"),
    ("counted_group", "String"),
    ("at_ns", "Int64"),
    ("count", "Int64"),
    ("uncaught_count", "Int64"),
    ("revision", "UInt64"),
)
_OCCURRENCES = (
    ("exception_group", "String"),
    ("minute", "Int64"),
    ("journal", "String"),
    ("count", "Int64"),
    ("uncaught_count", "Int64"),
    ("first_ns", "Int64"),
    ("last_ns", "Int64"),
    ("services", "Array(String)"),
)
_PLACES = (("journal", "String"), ("settled", "DateTime64(3, 'UTC')"))
_SETTLING = (("name", "String"), ("value", "Int64"), ("revision", "UInt64"))


@dataclass(slots=True)
class Outcome:
    """Outcome of a step, as JSON values; ids of traces and spans are hexadecimal.

    Attributes:
        place: arrival of the last span up to which all are counted, in milliseconds, by journal.
        late: spans that came after others of their tree were deleted, since the beginning.
        left_out: trees that are too large, since the beginning.
        at_ns: time of the step, Unix.
        paths: new paths, the path above first.
        versions: new services and versions.
        figures: minute, version, failure, version of the path's service, path, sums, and histogram as pairs.
        trees: id, time up to which spans are counted by journal, number of these, and figures as text.
        bounds: of clocks, as `ztrace_collector.settling.clocks.Cells` returns them.
        duplicates: rows of ``duplicates``.
        exceptions: rows of ``corrected_exceptions``, without the revision.
        occurrences: rows of ``corrected_minutes``.
    """

    place: dict[str, int] = field(default_factory=dict)
    late: int = 0
    left_out: int = 0
    at_ns: int = field(default_factory=time.time_ns)
    paths: list[Sequence[int]] = field(default_factory=list)
    versions: list[Sequence[str]] = field(default_factory=list)
    figures: list[Sequence[Any]] = field(default_factory=list)
    trees: list[Sequence[Any]] = field(default_factory=list)
    bounds: list[Sequence[Any]] = field(default_factory=list)
    duplicates: list[Sequence[Any]] = field(default_factory=list)
    exceptions: list[Sequence[Any]] = field(default_factory=list)
    occurrences: list[Sequence[Any]] = field(default_factory=list)

    def to_text(self) -> str:
        """Return the outcome as JSON."""
        # Without a copy, which `dataclasses.asdict` makes.
        return json.dumps(
            {each.name: getattr(self, each.name) for each in fields(self)}, separators=(",", ":")
        )

    @classmethod
    def from_text(cls, text: str) -> "Outcome":
        """Parse the text of `to_text`."""
        return cls(**json.loads(text))


def carry_out(client: "Client", batch: Batch) -> Outcome:
    """Insert the rows of a batch, which changes nothing if they are there; return its outcome."""
    outcome = Outcome.from_text(batch.content)
    # What rows refer to is there before them.
    _insert(client, batch, "paths", _PATHS, outcome.paths)
    _insert(client, batch, "versions", _VERSIONS, outcome.versions)
    duplicates = [(bytes.fromhex(row[0]), bytes.fromhex(row[1]), *row[2:]) for row in outcome.duplicates]
    _insert(client, batch, "duplicates", _DUPLICATES, duplicates)
    _insert(client, batch, "corrected_minutes", _OCCURRENCES, outcome.occurrences)
    exceptions = [
        (bytes.fromhex(row[0]), *row[1:3], *map(bytes.fromhex, row[3:6]), *row[6:], batch.number)
        for row in outcome.exceptions
    ]
    _insert(client, batch, "corrected_exceptions", _EXCEPTIONS, exceptions)
    _insert(client, batch, "path_figures", _FIGURES, [*_list_figures(outcome)])
    bounds = [
        (*pair, cell, (low_ns, low_at_ns), (high_ns, high_at_ns), calls, outcome.at_ns)
        for *pair, cell, low_at_ns, low_ns, high_at_ns, high_ns, calls in outcome.bounds
    ]
    _insert(client, batch, "clock_bounds", _BOUNDS, bounds)
    trees = [(bytes.fromhex(row[0]), *row[1:], batch.number) for row in outcome.trees]
    _insert(client, batch, "settled", _SETTLED, trees)
    values = (("late", outcome.late), ("left_out", outcome.left_out))
    _insert(client, batch, "settling", _SETTLING, [(*each, batch.number) for each in values])
    _insert(client, batch, "journals", _PLACES, [*outcome.place.items()])
    return outcome


def _list_figures(outcome: Outcome) -> Iterator[tuple[Any, ...]]:
    for minute, version, failed, own_version, path, numbers, histogram in outcome.figures:
        for resolution_s in RESOLUTIONS_S:
            bucket = minute * 60 // resolution_s
            yield resolution_s, bucket, version, own_version, failed, path, *numbers, dict(histogram)


def _insert(
    client: "Client",
    batch: Batch,
    table: str,
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Any]],
) -> None:
    if rows:
        encoded = [
            (name, kind, encode(kind, values))
            for (name, kind), values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
        names = [name for name, _ in columns]
        insert_block(client, table, names, make_block(encoded, len(rows)), f"{batch.id}:{table}")
