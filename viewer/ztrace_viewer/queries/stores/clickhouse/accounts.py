"""Accounts of publishers in ClickHouse, and what is lost and refused.

One idea: each journal has its own account of a process, which counts what reached its collector; they stay
apart here, as they are in the journals.
"""

from ztrace.records import ABANDONED
from ztrace_collector.clickhouse.thinning import THINNED
from ztrace_collector.layout import LOSS_COLUMNS, SAMPLE_COLUMNS, SETTLED, SILENT_AFTER_NS
from ztrace_viewer.queries.stores.answers import (
    DestinationRow,
    LossRow,
    OpenRow,
    PublisherRow,
    PublisherSums,
    ReasonRow,
    RefusalRow,
    ServiceRow,
    Sizes,
    SourceRow,
)
from ztrace_viewer.queries.stores.clickhouse.figures import Figures

_LOST = " + ".join(LOSS_COLUMNS.values())
_WAITING = f"greatest(0, spans_created - spans_stored - spans_elsewhere - ({_LOST}))"
_INSTANCES = "(SELECT id AS key, instance_id, service, host, pid, processes FROM instances FINAL) AS i"
_PUBLISHERS = f"FROM publishers AS p FINAL INNER JOIN {_INSTANCES} ON i.key = p.instance"
_LOSSES = f"FROM losses AS l FINAL INNER JOIN {_INSTANCES} ON i.key = l.instance"
#: Number of duplicates, but for those that thinning has deleted.
_DUPLICATES = (
    "SELECT count() FROM duplicates WHERE (trace_id, span_id, instance, journal) IN"
    " (SELECT trace_id, span_id, instance, journal FROM spans"
    " WHERE trace_id IN (SELECT trace_id FROM duplicates))"
)


class Accounts(Figures):
    """Answers about what is stored, lost and refused."""

    def sizes(self) -> Sizes:
        """Return what is stored, and the bytes that it takes."""
        # What a collector has deleted from its file is still here, and counts.
        ((spans, traces, size, thinned, thinned_traces),) = self.reader.query(
            f"SELECT (SELECT count() FROM spans) - ({_DUPLICATES}),"
            " (SELECT count() FROM (SELECT trace_id FROM traces GROUP BY trace_id"
            " SETTINGS optimize_aggregation_in_order = 1)),"
            " (SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()),"
            " sum(span_count), sum(trace_count)"
            f" FROM thinned_days FINAL WHERE state = '{THINNED}'"
        )
        totals = {
            "spans": spans,
            "traces": traces,
            "spans_thinned": thinned,
            "traces_thinned": thinned_traces,
        }
        return Sizes(totals, size, 0, self.unsettled())

    def settling(self, name: str) -> int:
        """Return a value of the table ``settling``, 0 without one."""
        if name == SETTLED:
            return self._count_blocks("<=")
        query = "SELECT sum(value) FROM settling FINAL WHERE name = {name:String}"
        return int(self.reader.query(query, {"name": name})[0][0])

    def unsettled(self) -> int:
        """Return the number of spans that have arrived since the last one up to which all are counted."""
        return self._count_blocks(">")

    def _count_blocks(self, comparison: str) -> int:
        """Return the number of spans that arrived before or after the time up to which all are counted."""
        query = (
            "SELECT sum(b.span_count) FROM blocks AS b INNER JOIN"
            " (SELECT journal, max(settled) AS settled FROM journals GROUP BY journal) AS j"
            f" ON j.journal = b.journal WHERE b.arrived {comparison} j.settled"
        )
        return int(self.reader.query(query)[0][0])

    def losses(self, begin_ns: int, end_ns: int) -> list[LossRow]:
        """Return the losses that touch a stretch of time."""
        return self.reader.rows(LossRow, f"{_LOSSES} WHERE last_ns >= {begin_ns} AND first_ns <= {end_ns}")

    def loss_page(self, limit: int, skip: int) -> tuple[int, list[LossRow]]:
        """Return the number of losses, and a page of them, the latest first."""
        ((count,),) = self.reader.query("SELECT count() FROM losses FINAL")
        page = f"{_LOSSES} ORDER BY last_ns DESC, id DESC LIMIT {limit} OFFSET {skip}"
        return int(count), self.reader.rows(LossRow, page)

    def sources(self) -> list[SourceRow]:
        """Return the state of every process."""
        is_foreign = "next_sequence = 0 AND spans_stored > 0"
        return self.reader.rows(SourceRow, _PUBLISHERS, waiting=_WAITING, is_foreign=is_foreign)

    def publishers(self, limit: int, skip: int) -> list[PublisherRow]:
        """Return a page of the publishers, the latest seen first."""
        page = f"{_PUBLISHERS} ORDER BY p.last_seen_ns DESC, p.id DESC LIMIT {limit} OFFSET {skip}"
        return self.reader.rows(PublisherRow, page, spans_waiting=_WAITING)

    def services(self, now_ns: int, limit: int) -> list[ServiceRow]:
        """Return the sums of each service, those with the most publishers first."""
        heard = f"abs(p.last_seen_ns - {now_ns}) <= {SILENT_AFTER_NS}"
        return self.reader.rows(
            ServiceRow,
            f"{_PUBLISHERS} GROUP BY i.service ORDER BY count() DESC, i.service LIMIT {limit}",
            service="toString(i.service)",
            publishers="count()",
            live=f"countIf(state = 'live' AND {heard})",
            silent=f"countIf(state = 'live' AND NOT {heard})",
            ended="countIf(state = 'ended')",
            crashed="countIf(state = 'crashed')",
            spans_created="sum(spans_created)",
            spans_stored="sum(spans_stored)",
            spans_lost=f"sum({_LOST})",
            last_seen_ns="max(p.last_seen_ns)",
        )

    def publisher_sums(self) -> PublisherSums:
        """Return the sums over all publishers."""
        (sums,) = self.reader.rows(
            PublisherSums,
            "FROM publishers AS p FINAL",
            publishers="count()",
            spans_created="sum(p.spans_created)",
            spans_lost=f"sum({_LOST})",
            spans_elsewhere="sum(p.spans_elsewhere)",
            spans_waiting=f"sum({_WAITING})",
            **{column: f"sum(p.{column})" for column in SAMPLE_COLUMNS},
        )
        return sums

    def reasons(self) -> list[ReasonRow]:
        """Return the corrections that publishers made, the most frequent first."""
        pairs = "SELECT arrayJoin(JSONExtractKeysAndValues(mended, 'Int64')) AS pair FROM publishers FINAL"
        return self.reader.rows(
            ReasonRow,
            f"FROM ({pairs} WHERE mended != '{{}}') GROUP BY reason ORDER BY number DESC, reason",
            reason="pair.1 AS reason",
            number="sum(pair.2) AS number",
        )

    def refusals(self) -> list[RefusalRow]:
        """Return what the collectors refused and corrected, the latest first."""
        return self.reader.rows(
            RefusalRow,
            "FROM refusals AS r FINAL GROUP BY r.reason ORDER BY max(r.last_ns) DESC, r.reason",
            reason="toString(r.reason)",
            number="sum(r.count)",
            last_ns="max(r.last_ns)",
            detail="argMax(r.detail, r.last_ns)",
        )

    def open_states(self) -> list[OpenRow]:
        """Return the last report of every span without an end."""
        return self.reader.rows(
            OpenRow,
            "FROM unfinished_spans AS u FINAL INNER JOIN"
            " (SELECT instance, journal, state, last_seen_ns FROM publishers FINAL) AS p"
            " ON p.instance = u.instance AND p.journal = u.journal",
            abandoned=f"position(attributes, '\"{ABANDONED}\":true')",
        )

    def destinations(self) -> list[DestinationRow]:
        """Return none: the destinations of a collector are in its own file."""
        return []

    def destination_refusals(self, key: int) -> list[RefusalRow]:
        """Return none, as of no destination."""
        return []
