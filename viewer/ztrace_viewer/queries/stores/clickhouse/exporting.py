"""Trees of ClickHouse that are exported, by their merged rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from ztrace.records import UNFINISHED
from ztrace_collector.clickhouse.merging import MERGED
from ztrace_collector.otlp.mapping.reading import StoredException, StoredProcess, StoredSpan
from ztrace_viewer.queries.stores.answers import ChosenTree, ExportSize
from ztrace_viewer.queries.stores.clickhouse.reading import (
    Reader,
    or_none,
    write_id,
    write_ids,
    write_numbers,
)
from ztrace_viewer.queries.stores.clickhouse.samples import Samples
from ztrace_viewer.queries.stores.clickhouse.searching import write_filter
from ztrace_viewer.queries.stores.conditions import SpanFilter, TreeFilter

_SPAN = (
    "SELECT s.trace_id, s.span_id, {parent}, s.method, s.instance, s.start_ns, s.duration_ns, s.status,"
    " s.attributes, s.links, s.details, s.self_ns, s.cpu_ns, s.lane"
)
_OPEN = (
    "SELECT trace_id, span_id, parent_id, method, instance, start_ns, greatest(0, seen_ns - start_ns),"
    f" {UNFINISHED}, attributes, links, details, NULL, NULL, NULL FROM unfinished_spans FINAL"
)
_OPENED = (
    "SELECT trace_id, min(u.start_ns) AS open_ns, max(u.seen_ns) AS seen_ns,"
    " groupUniqArray(u.method) AS open_methods FROM unfinished_spans AS u FINAL"
)
#: Traces whose spans are searched by one question.
_TRACES = 50
_GROUP = "nullIf(toString(exception_group), '')"


class Exporting(Samples):
    """Answers about trees that are exported."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        #: Hashes of processes, each at the place that is its key in exported spans, which may be shown.
        self._exported: list[int] = [0]
        self._keys: dict[int, int] = {}
        self._processes: dict[int, StoredProcess | None] = {}

    def export_size(self, wanted: TreeFilter) -> ExportSize:
        """Return the size of an export, and the start of its first tree."""
        query = f"SELECT count(), sum(span_count), min(start_ns) FROM ({self._choose(wanted)})"
        return ExportSize._make(map(int, self.reader.query(query)[0]))

    def chosen_trees(self, wanted: TreeFilter) -> Iterator[ChosenTree]:
        """Yield the trees of an export in the order in which they began."""
        query = f"SELECT trace_id, span_count FROM ({self._choose(wanted)}) ORDER BY start_ns, trace_id"
        return map(ChosenTree._make, self.reader.stream(query))

    def _choose(self, wanted: TreeFilter) -> str:
        """Return the query of the chosen trees, ``trace_id, span_count, start_ns``."""
        own = f" WHERE trace_id IN {write_ids(wanted.trace_ids)}" if wanted.trace_ids else ""
        selection = wanted.selection
        among = [each.id for each in self.methods().values() if each.service == selection.service]
        services = f"[{', '.join(f'toUInt64({each})' for each in among)}]::Array(UInt64)"
        began, methods, joined = "start_ns", "all_methods", ""
        if wanted.unfinished:
            # An open root began before all ended spans, and its service may have no other span.
            joined = f" LEFT JOIN ({_OPENED}{own} GROUP BY trace_id) AS o USING trace_id"
            began = "if(empty(open_methods), start_ns, least(start_ns, open_ns))"
            methods = "arrayConcat(all_methods, open_methods)"
        conditions, opened = ["1"], ["1"]
        for moment_ns, comparison in ((selection.since_ns, ">="), (selection.until_ns, "<")):
            if moment_ns is not None:
                conditions.append(f"{began} {comparison} {moment_ns}")
                opened.append(f"open_ns {comparison} {moment_ns}")
        if selection.service is not None:
            conditions.append(f"hasAny({methods}, {services})")
            opened.append(f"hasAny(open_methods, {services})")
        if wanted.errors:
            conditions.append("errors > 0")
        if wanted.slower_ns is not None:
            conditions.append(f"duration_ns > {wanted.slower_ns}")
            opened.append(f"seen_ns - open_ns > {wanted.slower_ns}")
        query = (
            f"SELECT trace_id, spans AS span_count, {began} AS began_ns"
            f" FROM ({MERGED}{own} GROUP BY trace_id) AS t{joined} WHERE {' AND '.join(conditions)}"
        )
        if wanted.unfinished and not wanted.errors:
            query += (
                " UNION ALL SELECT trace_id, toInt64(0) AS span_count, open_ns AS began_ns"
                f" FROM ({_OPENED}{own} GROUP BY trace_id) WHERE {' AND '.join(opened)}"
                " AND trace_id NOT IN (SELECT trace_id FROM traces WHERE trace_id IN"
                " (SELECT trace_id FROM unfinished_spans FINAL))"
            )
        query = f"SELECT trace_id, span_count, began_ns AS start_ns FROM ({query})"
        if wanted.limit is not None:
            query += f" ORDER BY start_ns DESC, trace_id LIMIT {wanted.limit}"
        return query

    def whole_trees(self, trace_ids: Sequence[bytes], *, unfinished: bool) -> list[StoredSpan]:
        """Return the spans of some trees, those of each by their start."""
        own = f"trace_id IN {write_ids(trace_ids)}"
        spans = self.read_stored(
            own, f"{self._select_spans()} {self.write_spans(own)} ORDER BY s.start_ns, s.span_id"
        )
        return spans + self._read_unfinished(own) if unfinished else spans

    def tree_pieces(self, trace_id: bytes, size: int, *, unfinished: bool) -> Iterator[list[StoredSpan]]:
        """Yield the spans of a large tree in pieces; the last one has those without an end."""
        own, more = f"trace_id = {write_id(trace_id)}", ""
        while True:
            # Duplicates of a span have its start, and stay in its piece.
            page = f" ORDER BY s.start_ns, s.span_id LIMIT {size} WITH TIES"
            spans = self.read_stored(own, f"{self._select_spans()} {self.write_spans(own, more)}{page}")
            if not spans:
                break
            yield spans
            last = spans[-1]
            more = f" AND (start_ns, span_id) > ({last.start_ns}, {write_id(last.span_id)})"
        yield self._read_unfinished(own) if unfinished else []

    def first_spans(
        self, trace_ids: Sequence[bytes], size: int, *, unfinished: bool = False
    ) -> dict[bytes, list[StoredSpan]]:
        """Return the first spans of some trees, so many of each."""
        own, page = f"trace_id IN {write_ids(trace_ids)}", f" LIMIT {size} BY trace_id"
        found: dict[bytes, list[StoredSpan]] = {}
        for span in self._read_page(own, page, 0, unfinished) if trace_ids else []:
            spans = found.setdefault(span.trace_id, [])
            spans.append(span._replace(id=len(spans) + 1))
        return found

    def tree_after(
        self, trace_id: bytes, after: int, size: int, *, unfinished: bool = False
    ) -> list[StoredSpan]:
        """Return spans of a tree behind one, so many at most; their ids are their places."""
        page = f" LIMIT {size} OFFSET {after}"
        return self._read_page(f"trace_id = {write_id(trace_id)}", page, after, unfinished)

    def _read_page(self, own: str, page: str, after: int, unfinished: bool) -> list[StoredSpan]:
        if unfinished:
            return self._read_unfinished(own, page, after)
        order = " ORDER BY s.start_ns, s.span_id, s.instance"
        return self.read_stored(
            own, f"{self._select_spans()} {self.write_spans(own)}{order}{page}", after=after
        )

    def matching_stored(
        self, trace_ids: Sequence[bytes], matching: SpanFilter, hidden: Collection[bytes]
    ) -> Iterator[StoredSpan]:
        """Yield the ended spans of some traces that a filter lets through, those of few traces at a time."""
        for at in range(0, len(trace_ids), _TRACES):
            values: dict[str, object] = {}
            more = write_filter(matching, values)
            among = [each for each in trace_ids[at : at + _TRACES] if each not in hidden]
            own = f"trace_id IN {write_ids(among)}"
            yield from self.read_stored(own, f"{self._select_spans()} {self.write_spans(own, more)}", values)

    def _select_spans(self) -> str:
        return _SPAN.format(parent=self.parent)

    def _read_unfinished(self, own: str, page: str = "", after: int = 0) -> list[StoredSpan]:
        # The journal takes a row back once its span is stored, which may arrive later than the span.
        ended = f"SELECT trace_id, span_id, instance FROM spans WHERE {own}"
        open_only = f"(trace_id, span_id, instance) NOT IN ({ended})"
        query = f"{_OPEN} WHERE {own} AND {open_only} ORDER BY journal, id{page}"
        return self.read_stored(own, query, after=after)

    def read_stored(
        self, own: str, query: str, values: Mapping[str, object] | None = None, *, after: int = 0
    ) -> list[StoredSpan]:
        """Return the spans of a query, each with the first exception stored for it.

        Args:
            own: condition on the trace ids.
            query: the query.
            values: its parameters.
            after: place of the span before the first; ids of spans are their places.
        """
        rows = self.reader.query(query, values)
        methods = self.named({row[3] for row in rows})
        raised = self._read_raised(own) if rows else {}
        thresholds = self.thresholds(own) if rows else {}
        spans = []
        for place, row in enumerate(rows, after + 1):
            trace_id, span_id, parent_id, method, instance, *fields, self_ns, cpu_ns, lane = row
            start_ns, duration_ns, status, attributes, links, details = fields
            if method in methods:
                named = methods[method]
                key = self._keys.setdefault(instance, len(self._exported))
                if key == len(self._exported):
                    self._exported.append(instance)
                spans.append(
                    StoredSpan(
                        id=place,
                        trace_id=trace_id,
                        span_id=span_id,
                        parent_id=or_none(parent_id),
                        service=named.service,
                        name=named.name,
                        kind=named.kind,
                        instance=key,
                        start_ns=start_ns,
                        duration_ns=duration_ns,
                        status=status,
                        attributes=attributes or None,
                        links=links or None,
                        details=details or None,
                        measures=(self_ns, cpu_ns, lane),
                        exception=None if status == UNFINISHED else raised.get((trace_id, span_id)),
                        threshold=None if status == UNFINISHED else thresholds.get(trace_id),
                    )
                )
        return spans

    def _read_raised(self, own: str) -> dict[tuple[bytes, bytes], StoredException]:
        columns = ", ".join(_GROUP if name == "group" else name for name in StoredException._fields)
        rows = self.reader.query(
            f"SELECT trace_id, span_id, {columns} FROM {self.write_exceptions(own)}"
            f" WHERE {own} AND type != '' ORDER BY journal, id"
        )
        found: dict[tuple[bytes, bytes], StoredException] = {}
        for trace_id, span_id, *fields in rows:
            found.setdefault((trace_id, span_id), StoredException._make(fields))
        # As in `Spans`, the origin may be in another journal.
        return {
            ids: each
            if each.group is not None
            or (origin := found.get((each.origin_trace_id, each.origin_span_id))) is None
            else each._replace(group=origin.group)
            for ids, each in found.items()
        }

    def process(self, key: int) -> StoredProcess | None:
        """Return a process by the key that its exported spans have, None if it is unknown."""
        if key not in self._processes:
            missing = [each for each in self._keys.values() if each not in self._processes]
            columns = ", ".join(StoredProcess._fields)
            among = write_numbers([self._exported[each] for each in missing])
            rows = self.reader.query(f"SELECT id, {columns} FROM instances FINAL WHERE id IN {among}")
            self._processes |= dict.fromkeys(missing)
            for id_, *fields, resource in rows:
                self._processes[self._keys[id_]] = StoredProcess._make((*fields, resource or None))
        return self._processes[key]
