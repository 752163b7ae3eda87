"""Sampled code in ClickHouse.

One idea: each journal numbers its stacks by itself. Stacks with the same frames from the outermost on are one
here. They are read all at once, when the first is asked for: a journal has few, as many spans share each.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ztrace_viewer.queries.stores.answers import FrameRow, Run, StackTime
from ztrace_viewer.queries.stores.clickhouse.paths import Paths
from ztrace_viewer.queries.stores.clickhouse.reading import Reader, write_id, write_ids, write_numbers
from ztrace_viewer.queries.stores.conditions import Ranges
from ztrace_viewer.queries.stores.packed import read_runs, read_sums

#: Seconds of the buckets of the two tables.
_MINUTE_S, _HOUR_S = 60, 3600
_ALL = """
SELECT s.journal, s.id, s.parent, toString(f.file), toString(f.function), f.line
FROM stacks AS s FINAL INNER JOIN (SELECT journal, id, file, function, line FROM frames FINAL) AS f
    ON f.journal = s.journal AND f.id = s.frame
ORDER BY s.id, s.journal
"""


class Stacks(Paths):
    """Answers about sampled code."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        #: Frames by the number of a stack, and these numbers by journal and the journal's own number.
        self._frames: dict[int, FrameRow] = {}
        self._stack_numbers: dict[tuple[str, int], int] = {}

    def method_stacks(
        self, ranges: Ranges, methods: Collection[int]
    ) -> Iterator[tuple[int, int, list[StackTime]]]:
        """Return the code of methods in ranges of buckets: sign of the range, method, and times by stack."""
        for sign, method, journal, packed in self._read_ranges("method, journal, hex(sums)", ranges, methods):
            times = read_sums(bytes.fromhex(packed))
            yield sign, method, [each._replace(stack=self._number(journal, each.stack)) for each in times]

    def run_times(self, ranges: Ranges, methods: Collection[int]) -> Iterator[tuple[Any, ...]]:
        """Return sign, method, nanoseconds in which its code ran, and all that were sampled."""
        return self._read_ranges("method, run_ns, run_ns + wait_ns + busy_ns", ranges, methods)

    def _read_ranges(
        self, columns: str, ranges: Ranges, methods: Collection[int]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of some methods in ranges of buckets, each behind the sign of its range."""
        for sign, resolution_s, first, end in ranges if methods else ():
            is_minutes = resolution_s == _MINUTE_S
            table, bucket = ("stack_minutes", "minute") if is_minutes else ("stack_hours", "hour")
            unit_s = _MINUTE_S if is_minutes else _HOUR_S
            first, end = (each * resolution_s // unit_s for each in (first, end))
            for row in self.reader.query(
                f"SELECT {columns} FROM {table} FINAL WHERE {bucket} >= {first} AND {bucket} < {end}"
                f" AND method IN {write_numbers(methods)} ORDER BY {bucket}, method, journal"
            ):
                yield (sign, *row)

    def _number(self, journal: str, stack: int) -> int:
        """Return the number of a journal's stack, 0 for one that is unknown."""
        if not self._stack_numbers:
            self._read_stacks()
        return self._stack_numbers.get((journal, stack), 0)

    def _read_stacks(self) -> None:
        known: dict[FrameRow, int] = {}
        # A journal's stack has a higher number than that of its caller.
        for journal, own, above, *frame in self.reader.query(_ALL):
            row = FrameRow(self._stack_numbers.get((journal, above), 0), *frame)
            number = known.setdefault(row, len(known) + 1)
            self._stack_numbers[journal, own] = number
            self._frames[number] = row

    def frame(self, stack: int) -> FrameRow | None:
        """Return the innermost frame of a stack, None if it is unknown."""
        return self._frames.get(stack)

    def span_runs(self, trace_id: bytes, span_id: bytes, service: str) -> list[Run]:
        """Return the runs of a span that was sampled by itself, in the order of storing."""
        own = (
            f"SELECT * FROM span_stacks FINAL WHERE trace_id = {write_id(trace_id)}"
            f" AND span_id = {write_id(span_id)} AND instance IN"
            " (SELECT id FROM instances FINAL WHERE service = {service:String})"
        )
        # What a moving publisher has sent to two collectors is read once.
        rows = self.reader.query(
            f"SELECT journal, hex(runs) FROM ({own}) WHERE (instance, at_ns, journal) IN"
            f" (SELECT instance, at_ns, min(journal) FROM ({own}) GROUP BY instance, at_ns)"
            " ORDER BY journal, id",
            {"service": service},
        )
        runs = [
            run._replace(stack=self._number(journal, run.stack))
            for journal, packed in rows
            for run in read_runs(bytes.fromhex(packed))
        ]
        # The method of a span that ran meanwhile has the journal's own number.
        methods = self._find_methods({run.behind[:2] for run in runs if run.behind is not None})
        return [run._replace(behind=_rename(run.behind, methods)) for run in runs]

    def _find_methods(self, spans: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return the methods of spans by their ids, hex, as far as they are stored."""
        if not spans:
            return {}
        trace_ids, span_ids = (write_ids(map(bytes.fromhex, {*each})) for each in zip(*spans, strict=True))
        own = f"trace_id IN {trace_ids} AND span_id IN {span_ids}"
        rows = self.reader.query(
            f"SELECT trace_id, span_id, method FROM unfinished_spans FINAL WHERE {own}"
            f" UNION ALL SELECT trace_id, span_id, method FROM spans WHERE {own}"
        )
        return {(trace_id.hex(), span_id.hex()): method for trace_id, span_id, method in rows}

    def has_span_stacks(self) -> bool:
        """Return whether any span has code of its own."""
        return bool(self.reader.query("SELECT 1 FROM span_stacks FINAL LIMIT 1"))


def _rename(
    behind: tuple[str, str, int] | None, methods: Mapping[tuple[str, str], int]
) -> tuple[str, str, int] | None:
    """Return the ids of a span with its method, 0 if that is unknown."""
    return None if behind is None else (*behind[:2], methods.get(behind[:2], 0))
