"""Names and ids in ClickHouse."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ztrace_viewer.queries.stores.answers import Method
from ztrace_viewer.queries.stores.clickhouse.reading import Reader, write_id

#: Tables with trace ids: a trace of which no span has ended has no row in ``traces``.
_TRACE_TABLES = ("traces", "unfinished_spans FINAL")
#: Condition on rows of ``thinned_traces``: spans of the trace have been deleted, or are being.
GONE = "threshold = 0 AND arrived IN (SELECT day FROM thinned_days)"
#: Sources of fingerprints: groups are merged from those of all journals.
_GROUPS = "FROM exception_groups FINAL"


class Corrections(NamedTuple):
    """Whether there are rows that correct others, by table.

    Most databases have none, and a question that takes them into account costs twice as much.
    """

    duplicates: bool
    adopted_spans: bool
    corrected_exceptions: bool


#: Query of the tables' numbers of rows, which the server knows without reading them.
_CORRECTIONS = " UNION ALL ".join(f"SELECT '{name}', count() FROM {name}" for name in Corrections._fields)


class Names:
    """Answers about names and ids."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._methods: dict[int, Method] | None = None
        self._corrections: Corrections | None = None

    def corrections(self) -> Corrections:
        """Return which corrections there are, for all questions of an answer."""
        if self._corrections is None:
            rows = self.reader.query(_CORRECTIONS)
            self._corrections = Corrections(**{str(table): count > 0 for table, count in rows})
        return self._corrections

    def methods(self) -> dict[int, Method]:
        """Return every method by its id."""
        if self._methods is None:
            rows = self.reader.rows(Method, "FROM methods FINAL")
            self._methods = {method.id: method for method in rows}
            self.reader.methods = self._methods
        return self._methods

    def named(self, ids: Iterable[int]) -> Mapping[int, Method]:
        """Return methods by their ids, among them some that are wanted, unless they are unknown."""
        return self.reader.methods if self.reader.methods.keys() >= {*ids} else self.methods()

    def trace_ids(self, ranges: Sequence[tuple[bytes, bytes]], limit: int) -> list[bytes]:
        """Return trace ids between the two of each range, so many of each table."""
        return self._list(
            f"SELECT DISTINCT trace_id FROM {table} WHERE trace_id >= {write_id(first)}"
            f" AND trace_id <= {write_id(last)} ORDER BY trace_id LIMIT {limit}"
            for first, last in ranges
            for table in _TRACE_TABLES
        )

    def nearest_traces(self, trace_ids: Sequence[bytes]) -> list[bytes]:
        """Return the trace ids that are stored next before and after each of some, in each table."""
        return self._list(
            f"SELECT trace_id FROM {table} WHERE trace_id {comparison} {write_id(trace_id)}"
            f" ORDER BY trace_id {order} LIMIT 1"
            for trace_id in trace_ids
            for table in _TRACE_TABLES
            for comparison, order in (("<", "DESC"), (">", "ASC"))
        )

    def _list(self, parts: Iterable[str], values: Mapping[str, object] | None = None) -> list[Any]:
        """Return the single column of several queries, which are sent as one."""
        text = " UNION ALL ".join(f"({part})" for part in parts)
        return [value for (value,) in self.reader.query(text, values)] if text else []

    def find_thinned(self, first: bytes, last: bytes) -> bytes | None:
        """Return a thinned trace from the first id to the last, None if there is none."""
        rows = self.reader.query(
            f"SELECT trace_id FROM thinned_traces WHERE {GONE} AND trace_id >= {write_id(first)}"
            f" AND trace_id <= {write_id(last)} ORDER BY trace_id LIMIT 1"
        )
        return rows[0][0] if rows else None

    def group_ids(self, first: str, end: str, limit: int) -> list[str]:
        """Return the fingerprints of exception groups from the first to below the end, in order."""
        query = (
            f"SELECT DISTINCT fingerprint {_GROUPS} WHERE fingerprint >= {{first:String}}"
            f" AND fingerprint < {{end:String}} ORDER BY fingerprint LIMIT {limit}"
        )
        return [fingerprint for (fingerprint,) in self.reader.query(query, {"first": first, "end": end})]

    def nearest_groups(self, fingerprints: Sequence[str]) -> list[str]:
        """Return the fingerprints that are stored next before and after each of some."""
        values = {f"group{place}": fingerprint for place, fingerprint in enumerate(fingerprints)}
        return self._list(
            (
                f"SELECT fingerprint {_GROUPS} WHERE fingerprint {comparison} {{{name}:String}}"
                f" ORDER BY fingerprint {order} LIMIT 1"
                for name in values
                for comparison, order in (("<", "DESC"), (">", "ASC"))
            ),
            values,
        )
