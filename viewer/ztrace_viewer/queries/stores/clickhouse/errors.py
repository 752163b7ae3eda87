"""Exception groups in ClickHouse.

One idea: each journal has its own row of a group, and its own counts by minute. A group is merged from the
rows: the latest occurrence describes it, and counts are added up. What people ask for here comes after what a
journal says, unless the journal was told later. `ztrace_viewer.queries.stores.clickhouse.crossing` adds what
a journal does not know of its own groups.
"""

from collections.abc import Iterable, Sequence

from ztrace_collector.layout import OPEN, REGRESSED, RESOLVED
from ztrace_collector.tables.samples import Sample, choose_samples
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import GroupRow, SampleRow, Stretch
from ztrace_viewer.queries.stores.clickhouse.corrected import MINUTES, write_groups
from ztrace_viewer.queries.stores.clickhouse.crossing import Journals, join_journals, look_at_journals
from ztrace_viewer.queries.stores.clickhouse.reading import Reader
from ztrace_viewer.queries.stores.clickhouse.searching import Searching
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter

_ORDERS = {NEWEST: "last_ns DESC, fingerprint DESC", FREQUENT: "counted DESC, last_ns DESC, fingerprint DESC"}
#: Columns that the row with the latest occurrence has.
_LATEST = (
    "type", "message", "template", "service", "name", "kind", "trace_id", "origin_span_id", "frames",
    "resolved_ns",
)  # fmt: skip
#: Order of the latest occurrences of journals; of those at the same time, the highest ids are the latest.
_LAST = "(g.last_ns, g.trace_id, g.origin_span_id)"
#: A row of each group, from a source of rows of journals. All columns of the latest row are one aggregate,
#: since the server takes half a millisecond to plan each.
_MERGED = f"""
SELECT m.fingerprint AS fingerprint,
    {", ".join(f"m.latest.{place} AS {name}" for place, name in enumerate(_LATEST[:-1], 1))},
    m.services AS services, m.first_ns AS first_ns, m.last_ns AS last_ns,
    r.at_ns > m.resolved_last_ns AS is_asked,
    multiIf(is_asked AND NOT r.is_resolved, NULL, is_asked, r.at_ns, m.latest.{len(_LATEST)}) AS resolved_ns,
    multiIf(is_asked AND NOT r.is_resolved, '{OPEN}', is_asked AND m.last_ns > r.at_ns, '{REGRESSED}',
        is_asked, '{RESOLVED}', has(m.states, '{OPEN}'), '{OPEN}',
        has(m.states, '{REGRESSED}'), '{REGRESSED}', '{RESOLVED}') AS state
FROM (
    SELECT g.fingerprint AS fingerprint,
        argMax(({", ".join(f"g.{name}" for name in _LATEST)}), {_LAST}) AS latest,
        arraySort(groupUniqArrayArray(JSONExtract(g.services, 'Array(String)'))) AS services,
        min(g.first_ns) AS first_ns, max(g.last_ns) AS last_ns,
        ifNull(max(g.resolved_ns), 0) AS resolved_last_ns, groupUniqArray(g.state) AS states
    FROM {{source}} GROUP BY g.fingerprint
) AS m LEFT ANY JOIN (SELECT * FROM resolutions FINAL) AS r ON r.fingerprint = m.fingerprint"""

#: Condition on samples, that they are of a group.
_STILL = (
    " AND (trace_id, span_id, journal) NOT IN"
    " (SELECT trace_id, span_id, journal FROM corrected_exceptions FINAL WHERE count < 0)"
)


class Errors(Searching):
    """Answers about exception groups."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._journals: Journals | None = None

    def journals(self) -> Journals:
        """Return what has to be joined, for all questions of an answer."""
        if self._journals is None:
            self._journals = look_at_journals(self.reader)
        return self._journals

    def groups(self, selection: Selection, wanted: Filter, order: str, limit: int | None) -> list[GroupRow]:
        """Return the selected groups; with a time, counts are those of the minutes that it touches."""
        conditions, values = _match(selection, wanted)
        minutes = "1"
        if selection.in_time:
            first, last = selection.minutes
            minutes = f"minute BETWEEN {first} AND {last}"
            conditions.append("counted > 0")
        return self._read(
            minutes,
            f"WHERE {' AND '.join(conditions) or '1'} ORDER BY {_ORDERS[order]}"
            f"{'' if limit is None else f' LIMIT {limit}'}",
            values,
        )

    def group(self, fingerprint: str) -> GroupRow | None:
        """Return one group over all time."""
        rows = self._read("1", "WHERE fingerprint = {fingerprint:String}", {"fingerprint": fingerprint})
        return rows[0] if rows else None

    def merge_groups(self) -> str:
        """Return the query of all groups, with a row for each."""
        return self._merge(self.journals())

    def _merge(self, journals: Journals) -> str:
        is_plain = not journals.are_corrected
        source = "exception_groups AS g FINAL" if is_plain else f"({write_groups(self.reader)}) AS g"
        return _MERGED.format(source=source)

    def _read(self, minutes: str, behind: str, values: dict[str, object]) -> list[GroupRow]:
        journals = self.journals()
        counts = (
            "SELECT exception_group, sum(count) AS counted, sum(uncaught_count) AS uncaught_counted"
            f" FROM {_count(journals)} WHERE {minutes} GROUP BY exception_group"
        )
        rows = self.reader.rows(
            GroupRow,
            f"FROM ({self._merge(journals)}) AS g"
            f" LEFT JOIN ({counts}) AS c ON c.exception_group = g.fingerprint {behind}",
            values,
            key="0",
            services="toJSONString(services)",
        )
        return join_journals(self.reader, rows) if journals.are_several else rows

    def count_resolved(self, selection: Selection, wanted: Filter) -> int:
        """Return the number of resolved groups of the same selection."""
        conditions, values = _match(selection, Filter(wanted.type_name, wanted.text, resolved=True))
        conditions.append(f"state = '{RESOLVED}'")
        query = f"SELECT count() FROM ({self.merge_groups()}) WHERE {' AND '.join(conditions)}"
        return int(self.reader.query(query, values)[0][0])

    def occurrences(self, stretches: Sequence[Stretch], parts: int) -> list[list[int]]:
        """Return the numbers of groups' occurrences in each of so many parts of a stretch of minutes."""
        if not stretches:
            return []
        names, values = _bind(stretch.group for stretch in stretches)
        begins, ends = [each.first for each in stretches], [each.end for each in stretches]
        rows = self.reader.query(
            f"SELECT toString(exception_group), intDiv({parts} * (minute - begin), end - begin) AS part,"
            f" sum(count), indexOf([{', '.join(names)}], exception_group) AS place,"
            f" {begins}[place] AS begin, {ends}[place] AS end FROM {_count(self.journals())}"
            f" WHERE exception_group IN ({', '.join(names)}) AND minute >= begin AND minute < end"
            " GROUP BY exception_group, part, place",
            values,
        )
        counts = {stretch.group.fingerprint: [0] * parts for stretch in stretches}
        for fingerprint, part, count, *_ in rows:
            counts[fingerprint][part] = int(count)
        return [counts[stretch.group.fingerprint] for stretch in stretches]

    def samples(self, groups: Sequence[GroupRow]) -> dict[str, list[SampleRow]]:
        """Return the samples of groups by their fingerprints, in order of time."""
        found: dict[str, list[SampleRow]] = {}
        if groups:
            names, values = _bind(groups)
            rows = self.reader.query(
                "SELECT DISTINCT toString(exception_group), trace_id, span_id, at_ns"
                " FROM exception_samples FINAL"
                f" WHERE exception_group IN ({', '.join(names)})"
                f"{_STILL if self.journals().are_corrected else ''} ORDER BY at_ns, trace_id, span_id",
                values,
            )
            for fingerprint, *sample in rows:
                found.setdefault(fingerprint, []).append(SampleRow._make(sample))
        return {fingerprint: _choose(each) for fingerprint, each in found.items()}


def _count(journals: Journals) -> str:
    """Return the source of counts by minute."""
    return MINUTES if journals.are_corrected else "exception_minutes FINAL"


def _choose(samples: list[SampleRow]) -> list[SampleRow]:
    """Return the samples of several journals, as many as one keeps."""
    chosen = choose_samples(Sample(at_ns, *ids) for *ids, at_ns in samples)
    return [SampleRow(trace_id, span_id, at_ns) for at_ns, trace_id, span_id in chosen]


def _bind(groups: Iterable[GroupRow]) -> tuple[list[str], dict[str, object]]:
    """Return parameters with the fingerprints of groups, as SQL, and their values."""
    values: dict[str, object] = {f"group{place}": group.fingerprint for place, group in enumerate(groups)}
    return [f"{{{name}:String}}" for name in values], values


def _match(selection: Selection, wanted: Filter) -> tuple[list[str], dict[str, object]]:
    conditions: list[str] = []
    values: dict[str, object] = {}
    for column, name in (("service", selection.service), ("name", selection.method)):
        if name is not None:
            conditions.append(f"{column} = {{{column}:String}}")
            values[column] = name
    if selection.since_ns is not None:
        conditions.append(f"last_ns >= {selection.since_ns}")
    if selection.until_ns is not None:
        conditions.append(f"first_ns < {selection.until_ns}")
    if not wanted.resolved:
        conditions.append(f"state != '{RESOLVED}'")
    if wanted.type_name is not None:
        conditions.append("(type = {type:String} OR endsWith(type, concat('.', {type:String})))")
        values["type"] = wanted.type_name
    if wanted.text is not None:
        conditions.append(
            "position(lower(concat(type, '\\n', message, '\\n', template)), lower({text:String})) > 0"
        )
        values["text"] = wanted.text
    return conditions, values
