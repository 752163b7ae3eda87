"""Spans of one trace in ClickHouse, and their exceptions.

One idea: a trace's spans lie together, in the order of their start, so those of one trace are read without
joins; methods and processes are added here.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar

from ztrace.records import ABANDONED, UNFINISHED
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import ExceptionRow, ExceptionText, Link, RaisedRow
from ztrace_viewer.queries.stores.clickhouse.corrected import correct
from ztrace_viewer.queries.stores.clickhouse.duplicates import but_duplicates
from ztrace_viewer.queries.stores.clickhouse.reading import (
    Reader,
    or_none,
    write_id,
    write_ids,
    write_numbers,
)
from ztrace_viewer.queries.stores.clickhouse.trees import Trees
from ztrace_viewer.trees.columns import Call, Process
from ztrace_viewer.trees.columns import Spans as Columns
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import state_of_span

#: Columns of a span, but for the texts of one in full.
_OWN = (
    "s.trace_id, s.span_id, {parent}, s.method, s.instance, s.start_ns, s.duration_ns, s.self_ns, s.cpu_ns,"
    " s.lane, s.status"
)
#: Attributes of the process; of ztrace's own processes, the version is known.
_RESOURCE = (
    "if(resource = '' AND version != '', toJSONString(map('service.version', version)), resource) AS resource"
)
_E = TypeVar("_E", ExceptionRow, RaisedRow)


class Instance(NamedTuple):
    """A process."""

    id: int
    instance_id: str
    service: str
    host: str
    pid: int
    resource: str


class _Publisher(NamedTuple):
    """State of a process."""

    instance: int
    state: str
    last_seen_ns: int


class Spans(Trees):
    """Answers about the spans of traces."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._instances: dict[int, Instance] = {}

    def spans(self, trace_id: bytes) -> Iterator[SpanRow]:
        """Yield a trace's ended spans by their start."""
        return self.read_spans(f"trace_id = {write_id(trace_id)}")

    def columns(self, trace_id: bytes) -> Columns:
        """Return the same in columns, without what only one span in full shows."""
        own = self.write_spans(f"trace_id = {write_id(trace_id)}")
        columns = _OWN.format(parent=self.parent)
        rows = self.reader.query(f"SELECT {columns} {own} ORDER BY s.start_ns, s.span_id")
        known = self.named({row[3] for row in rows})
        instances = self.read_instances({row[4] for row in rows})
        rows = [row for row in rows if row[3] in known and row[4] in instances]
        fields = [*zip(*rows, strict=True)] or [()] * 11
        _, span_ids, parents, methods, keys, starts_ns, durations_ns, selfs_ns, _, lanes, statuses = fields
        calls = {key: Call(known[key].service, known[key].name, known[key].kind) for key in set(methods)}
        processes = {key: Process(instances[key].instance_id, instances[key].host) for key in set(keys)}
        return Columns(
            span_ids,
            [or_none(parent) for parent in parents],
            [calls[method] for method in methods],
            [processes[key] for key in keys],
            starts_ns,
            durations_ns,
            selfs_ns,
            lanes,
            statuses,
            {},
        )

    def read_spans(
        self, condition: str, more: str = "", values: Mapping[str, object] | None = None
    ) -> Iterator[SpanRow]:
        """Yield the ended spans of `write_spans`, by their start."""
        columns = _OWN.format(parent=self.parent)
        rows = self.reader.query(
            f"SELECT {columns}, s.attributes, s.links, s.details {self.write_spans(condition, more)}"
            " ORDER BY s.start_ns, s.span_id",
            values,
        )
        methods = self.named({row[3] for row in rows})
        instances = self.read_instances({row[4] for row in rows})
        for trace_id, span_id, parent_id, method, instance, start_ns, duration_ns, *rest in rows:
            self_ns, cpu_ns, lane, status, attributes, links, details = rest
            named, process = methods.get(method), instances.get(instance)
            if named is None or process is None:
                continue
            yield SpanRow(
                trace_id,
                span_id,
                or_none(parent_id),
                named.service,
                named.name,
                named.kind,
                start_ns,
                duration_ns,
                self_ns,
                cpu_ns,
                lane,
                status,
                attributes or None,
                links or None,
                details or None,
                process.instance_id,
                process.host,
                process.pid,
                process.resource or None,
                None,
            )

    def read_instances(self, keys: Collection[int]) -> dict[int, Instance]:
        """Return processes by their keys."""
        if missing := {*keys} - self._instances.keys():
            query = f"FROM instances FINAL WHERE id IN {write_numbers(missing)}"
            self._instances |= {
                each.id: each for each in self.reader.rows(Instance, query, resource=_RESOURCE)
            }
        return self._instances

    def links(self, trace_id: bytes) -> list[Link]:
        """Return the links of a trace's ended spans, in the order of their start."""
        rows = self.reader.query(
            f"SELECT s.span_id, {self.parent} {self.write_spans(f'trace_id = {write_id(trace_id)}')}"
            " ORDER BY s.start_ns, s.span_id"
        )
        return [Link(key, span_id, or_none(parent)) for key, (span_id, parent) in enumerate(rows)]

    def linked_spans(self, trace_id: bytes, links: Collection[Link]) -> dict[bytes, SpanRow]:
        """Return the ended spans of some links of a trace, by their ids; the first of those with an id."""
        found: dict[bytes, SpanRow] = {}
        if links:
            among = f" AND span_id IN {write_ids(link.span_id for link in links)}"
            for row in self.read_spans(f"trace_id = {write_id(trace_id)}", among):
                found.setdefault(row.span_id, row)
        return found

    def open_spans(self, trace_ids: Collection[bytes], now_ns: int) -> list[SpanRow]:
        """Return the spans of traces that have not ended, in the order of their first report."""
        own = f"trace_id IN {write_ids(trace_ids)}"
        opened = list(self._read_open(now_ns, own)) if trace_ids else []
        if not opened:
            return []
        # The journal takes a row back once its span is stored, which may arrive later than the span.
        open_ids = write_ids({span.span_id for span in opened})
        rows = self.reader.query(
            f"SELECT DISTINCT trace_id, span_id, instance FROM spans WHERE {own} AND span_id IN {open_ids}"
        )
        instances = self.read_instances({instance for *_, instance in rows})
        ended = {(*ids, instances[key].service) for *ids, key in rows if key in instances}
        return [span for span in opened if (span.trace_id, span.span_id, span.service) not in ended]

    def open_roots(self, now_ns: int) -> Iterator[SpanRow]:
        """Return the open roots, and all open spans of traces of which no span has ended."""
        ended = "SELECT trace_id FROM traces WHERE trace_id IN (SELECT trace_id FROM unfinished_spans FINAL)"
        return self._read_open(now_ns, f"parent_id = toFixedString('', 8) OR trace_id NOT IN ({ended})")

    def open_calls(self, selection: Selection, now_ns: int) -> Iterator[SpanRow]:
        """Return the open spans that began in the selection's time and have its names."""
        conditions = [f"start_ns >= {selection.since_ns or 0}"]
        if selection.until_ns is not None:
            conditions.append(f"start_ns < {selection.until_ns}")
        for span in self._read_open(now_ns, " AND ".join(conditions)):
            if selection.service in (None, span.service) and selection.method in (None, span.name):
                yield span

    def _read_open(self, now_ns: int, condition: str) -> Iterator[SpanRow]:
        """Yield the spans without an end that meet a condition on the columns of ``unfinished_spans``."""
        rows = self.reader.query(
            "SELECT trace_id, span_id, parent_id, method, instance, start_ns, seen_ns, attributes, links"
            f" FROM unfinished_spans FINAL WHERE {condition} ORDER BY journal, id"
        )
        keys = {row[4] for row in rows}
        methods, instances = self.named({row[3] for row in rows}), self.read_instances(keys)
        publishers = self._read_publishers(keys)
        for trace_id, span_id, parent_id, method, instance, start_ns, seen_ns, attributes, links in rows:
            named, process, publisher = methods.get(method), instances.get(instance), publishers.get(instance)
            if named is None or process is None or publisher is None:
                continue
            span = SpanRow(
                trace_id,
                span_id,
                or_none(parent_id),
                named.service,
                named.name,
                named.kind,
                start_ns,
                None,
                None,
                None,
                None,
                UNFINISHED,
                attributes or None,
                links or None,
                None,
                process.instance_id,
                process.host,
                process.pid,
                process.resource or None,
                None,
            )
            abandoned = span.read_attributes().get(ABANDONED) is True
            state = state_of_span(publisher.state, publisher.last_seen_ns, seen_ns, abandoned, now_ns)
            yield span._replace(unfinished=state)

    def _read_publishers(self, keys: Collection[int]) -> dict[int, _Publisher]:
        if not keys:
            return {}
        # A process that moved has an account at each collector; the latest says how it is.
        rows = self.reader.rows(
            _Publisher,
            f"FROM publishers FINAL WHERE instance IN {write_numbers(keys)} GROUP BY instance",
            state="argMax(state, last_seen_ns)",
            last_seen_ns="max(last_seen_ns)",
        )
        return {row.instance: row for row in rows}

    def exceptions(self, trace_id: bytes) -> list[ExceptionRow]:
        """Return a trace's exceptions in the order of storing."""
        return self._read_exceptions(ExceptionRow, trace_id, "")

    def raised(self, trace_id: bytes) -> list[RaisedRow]:
        """Return the same by their text alone, without spans that merely failed."""
        return self._read_exceptions(RaisedRow, trace_id, " AND type != ''")

    def _read_exceptions(self, row: type[_E], trace_id: bytes, condition: str) -> list[_E]:
        own = f"trace_id = {write_id(trace_id)}"
        counting = but_duplicates(own) if self.corrections().duplicates else ""
        source = f"FROM {self.write_exceptions(own)} WHERE {own}{condition}{counting} ORDER BY journal, id"
        rows = self.reader.rows(row, source, fingerprint="nullIf(toString(exception_group), '')")
        # A journal knows the group of an exception only if it has the origin, which another one may have.
        groups = {each.span_id: each.fingerprint for each in rows if each.fingerprint is not None}
        return [
            each._replace(fingerprint=groups.get(each.origin_span_id))
            if each.fingerprint is None and each.origin_trace_id == trace_id
            else each
            for each in rows
        ]

    def write_exceptions(self, condition: str) -> str:
        """Return the source of exceptions under a condition on the trace id alone."""
        return correct(condition) if self.corrections().corrected_exceptions else "exceptions FINAL"

    def exception_texts(self, trace_ids: Collection[bytes]) -> list[ExceptionText]:
        """Return type and message of the exceptions of traces."""
        where = f"trace_id IN {write_ids(trace_ids)}"
        return self.reader.rows(ExceptionText, f"FROM exceptions FINAL WHERE {where}") if trace_ids else []
