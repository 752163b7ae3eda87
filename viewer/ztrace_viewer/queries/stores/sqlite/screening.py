"""Sealed traces that a search can leave out without decoding their spans.

One idea: the bytes of a sealed trace, once decompressed, have the texts of all its spans side by side, so one
search in them takes the place of one for each span. Numbers are looked at as columns. What is let through is
decided by the query.
"""

import sqlite3
from collections.abc import Sequence

from ztrace.records import ERROR
from ztrace_collector.sealing.form import Peeked, SealDamaged, decompress, peek
from ztrace_viewer.queries.stores.conditions import SpanFilter, Tag


def leave_out(db: sqlite3.Connection, trace_ids: Sequence[bytes], matching: SpanFilter) -> list[bytes]:
    """Return those of some traces that are not sealed, or may have a span that a filter lets through."""
    if matching == SpanFilter():
        return list(trace_ids)
    screen = _Screen(db, matching)
    marks = ",".join("?" * len(trace_ids))
    rows = db.execute(
        "SELECT trace_id, dictionary, spans FROM traces JOIN sealed_traces ON trace = traces.id"
        f" WHERE trace_id IN ({marks})",
        trace_ids,
    )
    out = {trace_id for trace_id, dictionary, spans in rows if not screen.admits(dictionary, spans)}
    return [trace_id for trace_id in trace_ids if trace_id not in out]


class _Screen:
    """Filter of sealed traces."""

    def __init__(self, db: sqlite3.Connection, matching: SpanFilter) -> None:
        self._db = db
        self._matching = matching
        self._methods = None if matching.methods is None else frozenset(matching.methods)
        self._tags = [
            ([text.encode() for text in tag.of_span], tag.or_failed, _find_processes(db, tag))
            for tag in matching.tags
        ]
        self._texts = [(text.written.encode(), frozenset(text.methods)) for text in matching.texts]
        self._dictionaries: dict[int, bytes] = {}

    def admits(self, dictionary: int, data: bytes) -> bool:
        """Return whether a sealed trace may have a span that the filter lets through."""
        try:
            packed, _ = decompress(data, self._find_dictionary(dictionary))
            has_texts = self._has_texts(packed)
            # Most traces without the texts have neither errors nor other reasons to be let through.
            columns = peek(packed)
        except SealDamaged:
            return True  # The query tells.
        return self._admits_columns(columns, has_texts)

    def _has_texts(self, packed: bytes) -> list[bool]:
        """Return of each tag, and of each text, whether it is in some span's texts."""
        lowered = packed.lower() if self._texts else b""
        return [
            *[all(text in packed for text in of_span) for of_span, _, _ in self._tags],
            *[written in lowered for written, _ in self._texts],
        ]

    def _admits_columns(self, columns: Peeked, has_texts: Sequence[bool]) -> bool:
        matching, has_failed = self._matching, ERROR in columns.statuses
        others = [
            *[
                (or_failed and has_failed) or not processes.isdisjoint(columns.instances)
                for _, or_failed, processes in self._tags
            ],
            *[has_failed or not methods.isdisjoint(columns.methods) for _, methods in self._texts],
        ]
        if not all(one or other for one, other in zip(has_texts, others, strict=True)):
            return False
        if self._methods is not None and self._methods.isdisjoint(columns.methods):
            return False
        if matching.failed is not None and matching.failed not in {
            status == ERROR for status in columns.statuses
        }:
            return False
        durations = [each for each in columns.durations_ns if each is not None]
        least, most = matching.min_ns, matching.max_ns
        return any((least is None or each >= least) and (most is None or each <= most) for each in durations)

    def _find_dictionary(self, key: int) -> bytes:
        if key not in self._dictionaries:
            query = "SELECT content FROM sealing_dictionaries WHERE id = ?"
            (self._dictionaries[key],) = self._db.execute(query, (key,)).fetchone() or (b"",)
        return self._dictionaries[key]


def _find_processes(db: sqlite3.Connection, tag: Tag) -> frozenset[int]:
    """Return the keys of the processes that have a tag."""
    condition = " AND ".join(["instr(resource, ?) > 0"] * len(tag.of_process))
    rows = db.execute(f"SELECT id FROM instances WHERE {condition}", tag.of_process)
    return frozenset(key for (key,) in rows)
