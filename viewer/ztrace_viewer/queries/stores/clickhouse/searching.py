"""Search of spans in ClickHouse.

One idea: the newest traces are found by their hours among the roots and among the traces without one; the
server leaves out the spans that cannot match.
"""

from collections.abc import Iterator, Sequence

from ztrace.records import ERROR
from ztrace_collector.clickhouse.merging import NEVER
from ztrace_collector.layout import HOUR_NS
from ztrace_viewer.queries.stores.answers import Candidate
from ztrace_viewer.queries.stores.clickhouse.reading import write_ids, write_numbers
from ztrace_viewer.queries.stores.clickhouse.spans import Spans
from ztrace_viewer.queries.stores.conditions import SpanFilter, Wanted
from ztrace_viewer.trees.spans import SpanRow

#: Traces that may have begun in an hour, as far as one row tells: by a root, or by their first span.
_BEGAN = f"if(root.1 < {NEVER}, root.1, first.1)"


class Searching(Spans):
    """Answers of a search."""

    def last_hour(self, hour: int) -> int | None:
        """Return the last hour up to one in which traces began."""
        rows = self.reader.query(
            f"SELECT max(intDiv({_BEGAN}, {HOUR_NS})) FROM traces WHERE {_BEGAN} < {(hour + 1) * HOUR_NS}"
            " HAVING count() > 0"
        )
        return int(rows[0][0]) if rows else None

    def page_start(self, hour: int, start_ns: int, end_ns: int, size: int) -> int | None:
        """Return the start of the trace behind a page's last one, None if the page has all of the hour."""
        rows = self.reader.query(
            f"SELECT {_BEGAN} AS began FROM traces WHERE began >= {start_ns} AND began <= {end_ns}"
            f" ORDER BY began DESC LIMIT 1 OFFSET {size}"
        )
        return int(rows[0][0]) if rows else None

    def candidates(self, hour: int, wanted: Wanted) -> Iterator[Candidate]:
        """Yield the traces of an hour that meet the conditions, the newest first."""
        began = f"{_BEGAN} >= {wanted.start_ns} AND {_BEGAN} <= {wanted.end_ns}"
        having = (
            f"start_ns >= {wanted.start_ns} AND start_ns <= {wanted.end_ns}"
            f" AND end_ns - start_ns >= {wanted.min_ns}"
        )
        for each in self.merge(
            f"trace_id IN (SELECT trace_id FROM traces WHERE {began})",
            having=having,
            order=" ORDER BY start_ns DESC, trace_id DESC",
        ):
            services = self.list_services(each.methods)
            if wanted.service is None or wanted.service in services:
                yield Candidate(
                    each.trace_id,
                    each.root_span_id,
                    each.root_method,
                    each.start_ns,
                    each.end_ns,
                    each.spans,
                    services,
                )

    def matching_spans(self, trace_ids: Sequence[bytes], matching: SpanFilter) -> Iterator[SpanRow]:
        """Yield the ended spans of some traces that a filter lets through, by their start."""
        values: dict[str, object] = {}
        more = write_filter(matching, values)
        return self.read_spans(f"trace_id IN {write_ids(trace_ids)}", more, values)


def write_filter(matching: SpanFilter, values: dict[str, object]) -> str:
    """Return a filter as further conditions on the columns of ``spans``; its texts are added to values."""

    def bind(text: str) -> str:
        name = f"text{len(values)}"
        values[name] = text
        return f"{{{name}:String}}"

    def contain(column: str, texts: Sequence[str]) -> str:
        return " AND ".join(f"position({column}, {bind(text)}) > 0" for text in texts)

    conditions = []
    if matching.methods is not None:
        conditions.append(f"method IN {write_numbers(matching.methods)}")
    if matching.min_ns is not None:
        conditions.append(f"duration_ns >= {matching.min_ns}")
    if matching.max_ns is not None:
        conditions.append(f"duration_ns <= {matching.max_ns}")
    if matching.failed is not None:
        conditions.append(f"status {'=' if matching.failed else '<>'} {ERROR}")
    for tag in matching.tags:
        processes = f"SELECT id FROM instances FINAL WHERE {contain('resource', tag.of_process)}"
        conditions.append(
            f"(({contain('attributes', tag.of_span)}) OR ({contain('details', tag.of_span)})"
            f" OR instance IN ({processes}){f' OR status = {ERROR}' if tag.or_failed else ''})"
        )
    for text in matching.texts:
        conditions.append(
            f"(method IN {write_numbers(text.methods)} OR status = {ERROR}"
            f" OR position(lower(attributes), {bind(text.written)}) > 0)"
        )
    return "".join(f" AND {condition}" for condition in conditions)
