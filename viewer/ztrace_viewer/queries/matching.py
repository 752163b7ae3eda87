"""Spans that can match a search, by what their rows contain.

One idea: the row decides as far as it can without being decoded. Whether a span has a tag is decided on the
span as it is displayed, by the caller; here only rows that cannot have the tag are left out.
"""

import json
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ztrace.records import ERROR
from ztrace_viewer.queries.rows import name_columns, read

#: From this length on a number may be stored with an exponent.
_MAX_DIGITS = 16
_ASCII = re.compile(r"[ -~]+")


class SpanKey(NamedTuple):
    """A span's row id, with its trace."""

    trace_id: bytes
    id: int


class SpanFilter:
    """Conditions on the rows of ``spans``, all of which have to hold."""

    def __init__(
        self, *, methods: Collection[int] | None = None, min_ns: int | None = None, max_ns: int | None = None
    ) -> None:
        """Filter by method and duration.

        Args:
            methods: ids of the methods; None for all.
            min_ns: shortest duration.
            max_ns: longest duration.
        """
        self._conditions: list[str] = []
        self._values: list[object] = []
        if methods is not None:
            self._add(f"method IN ({_marks(methods)})", *methods)
        if min_ns is not None:
            self._add("duration_ns >= ?", min_ns)
        if max_ns is not None:
            self._add("duration_ns <= ?", max_ns)

    def add_status(self, *, failed: bool) -> None:
        """Require the status error, or any other."""
        self._add(f"status {'=' if failed else '<>'} ?", ERROR)

    def add_tag(self, key: str, resource_key: str, value: str, *, or_failed: bool) -> None:
        """Require that the JSON of a span or of its process contains a key and a value.

        Args:
            key: in the span's attributes or details.
            resource_key: in the attributes of the process.
            value: as text.
            or_failed: accept each span with status error: its exception has such tags.
        """
        texts: list[object] = []
        conditions = []
        for column, written in (("attributes", key), ("details", key), ("resource", resource_key)):
            parts = [_quote(written), *_find_written(value)]
            texts += parts
            conditions.append(" AND ".join([f"instr({column}, ?) > 0"] * len(parts)))
        conditions[2] = f"instance IN (SELECT id FROM instances WHERE {conditions[2]})"
        condition = " OR ".join(f"({each})" for each in conditions)
        if or_failed:
            condition += f" OR status = {ERROR}"
        self._add(f"({condition})", *texts)

    def add_text(self, text: str, methods: Collection[int]) -> None:
        """Require a method, a text in the attributes, or an error, whose exception may have the text.

        Args:
            text: letters match in either case; what is not ASCII is left to the caller.
            methods: ids of the methods whose names contain the text.
        """
        # SQLite folds the case of ASCII alone, so the longest part of the text in ASCII decides.
        written = _quote(max(_ASCII.findall(text.lower()), key=len, default=""))[1:-1]
        methods_or_errors = f"method IN ({','.join(map(str, methods))}) OR status = {ERROR}"
        self._add(f"({methods_or_errors} OR instr(lower(attributes), ?) > 0)", written)

    def select(self, trace_ids: Sequence[bytes]) -> tuple[str, list[object]]:
        """Return the condition on the matching spans of some traces, and its values."""
        return self._complete(trace_ids), [*trace_ids, *self._values]

    def find_traces(self, db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> set[bytes]:
        """Return those of some traces that have a matching span."""
        query = f"SELECT DISTINCT trace_id FROM spans WHERE {self._complete(trace_ids)}"
        return {trace_id for (trace_id,) in db.execute(query, [*trace_ids, *self._values])}

    def find_spans(self, db: sqlite3.Connection, trace_ids: Sequence[bytes]) -> Iterator[SpanKey]:
        """Yield the matching spans of some traces."""
        query = f"SELECT {name_columns(SpanKey)} FROM spans WHERE {self._complete(trace_ids)}"
        return read(db, SpanKey, query, [*trace_ids, *self._values])

    def _add(self, condition: str, *values: object) -> None:
        self._conditions.append(condition)
        self._values += values

    def _complete(self, trace_ids: Sequence[bytes]) -> str:
        return " AND ".join([f"trace_id IN ({_marks(trace_ids)})", *self._conditions])


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


def _quote(text: str) -> str:
    """Return a text as the collector writes it."""
    return json.dumps(text, ensure_ascii=False)


def _find_written(value: str) -> list[str]:
    """Return the JSON text of a value in a list, empty if the value can be written in several ways."""
    is_one_way = len(value) < _MAX_DIGITS or not value.lstrip("-").isdigit()
    return [_quote(value)[1:-1]] if value and value[0] not in "[{" and is_one_way else []
