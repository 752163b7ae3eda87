"""Thinning of a ClickHouse database: of the traces of a day, those that matter and a fair share are kept.

One idea: partitions are days of arrival, and nothing is sent into one that is over. Its traces are decided
first, and the decisions are rows. Then the spans that stay are copied into a table of the same structure,
whose partition replaces the day's: atomically, without a mutation, and past the views, so figures stay those
of all. If a holder is killed, the next one keeps the decisions that were completed, and repeats the copying.

The rule is that of `ztrace_collector.storing.thinning`.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from ztrace_collector.clickhouse.merging import COLUMNS
from ztrace_collector.layout import LATE
from ztrace_collector.storing.thinning import RARE, SLOW_SHARE
from ztrace_collector.tables.thresholds import RANDOM_BYTES, threshold_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Time after the end of a day in which traces that began before midnight end.
GRACE_S = 3600
#: Silence after which a collector is not waited for: what it may still send is added to its day.
AWAY_S = 24 * 3600
#: Interval of looking for a day that is over.
LOOK_S = 60.0
#: States of a day in ``thinned_days``: its traces are decided; the others are deleted.
DECIDED, THINNED = "decided", "thinned"
#: Traces whose rows are left out in one statement, which has to end within a second or two.
MAX_TRACES = 100_000
#: Rows of traces that are decided in one statement, which takes some seconds; a minute is not cut.
MAX_DECIDED = 500_000
#: Tables that lose rows, with sizes that a merge does not change. The last one has the spans: what lists name
#: is there, or is told as thinned.
TABLES = {"roots": "count()", "traces": "sum(span_count)", "spans": "count()"}
#: Start of the names of copies.
PREFIX = "thinning_"
#: Last traces of a day that are looked at for the time until which it is thinned.
_LOOKED_AT = 1_000

#: Rows of blocks that arrived in each minute of a day.
_MINUTES = (
    "SELECT toUnixTimestamp(toStartOfMinute(first_arrival)) AS minute_s, count() FROM traces"
    " WHERE arrived = '{day}' GROUP BY minute_s ORDER BY minute_s"
)
#: Traces of which spans arrived in a piece of a day. The index of the column misjudges any other type.
_BEGIN, _END = ("toDateTime64({" + each + "}, 3, 'UTC')" for each in ("begin_s", "end_s"))
_AMONG = (
    "WHERE trace_id IN (SELECT trace_id FROM traces WHERE arrived = '{day}'"
    f" AND first_arrival >= {_BEGIN} AND first_arrival < {_END})"
)
#: Traces that are kept for other reasons than the share; copies of the day's exceptions came on it or later.
#: A tree that was too large to be counted by path, or was counted with open spans, has `figures`.
_MATTERS = (
    "trace_id IN (SELECT trace_id FROM exceptions FINAL WHERE arrived >= toDateTime('{day}', 'UTC'))"
    " OR trace_id IN (SELECT trace_id FROM unfinished_spans FINAL)"
    " OR trace_id IN (SELECT trace_id FROM pins FINAL WHERE pinned = 1)"
    f" OR trace_id IN (SELECT trace_id FROM settled FINAL {_AMONG} AND figures NOT IN ('', '{LATE}'))"
)
# A trace that had spans on an earlier day was decided with that one: it is kept, or what is left of it.
_DECIDE = f"""
INSERT INTO thinned_traces (trace_id, arrived, threshold, span_count)
SELECT trace_id, '{{day}}', if(is_chosen AND NOT is_rest, {{threshold}}, 0), own_spans
FROM (
    SELECT trace_id, own_spans, first_day < '{{day}}' AS is_older, errors > 0 OR {_MATTERS} AS matters,
        trace_id IN (SELECT trace_id FROM thinned_traces {_AMONG} AND threshold = 0) AS is_rest,
        reinterpretAsUInt64(reverse(substring(trace_id, {17 - RANDOM_BYTES}))) >= {{threshold}} AS is_chosen,
        row_number() OVER (PARTITION BY root_method ORDER BY began, trace_id) AS place,
        row_number() OVER (PARTITION BY root_method ORDER BY duration_ns DESC, began, trace_id) AS slow_place,
        count() OVER (PARTITION BY root_method) AS number
    FROM (
        SELECT {COLUMNS}, min(t.arrived) AS first_day, min(t.first_arrival) AS began,
            sumIf(t.span_count, t.arrived = '{{day}}') AS own_spans
        FROM traces AS t {_AMONG} GROUP BY trace_id
        HAVING minIf(t.first_arrival, t.arrived = '{{day}}') >= {_BEGIN}
    )
)
WHERE NOT matters
    AND (is_rest OR (NOT is_older AND place > {RARE} AND slow_place > ceil({SLOW_SHARE} * number)))
"""
_JOURNALS = (
    "SELECT journal, max(delivered) AS last, max(settled) AS counted, max(seen) AS heard FROM journals"
    " GROUP BY journal"
)
#: Time before which nothing arrives any more.
_DELIVERED = (
    f"SELECT least(min(last), now64(3, 'UTC')) FROM ({_JOURNALS})"
    f" WHERE heard > now() - toIntervalSecond({AWAY_S})"
)
#: First day with spans that are not counted by path yet, NULL if there is none.
_UNCOUNTED = (
    f"SELECT min(toDate(b.arrived)) FROM blocks AS b INNER JOIN ({_JOURNALS}) AS j USING journal"
    f" WHERE b.arrived > (SELECT min(counted) FROM ({_JOURNALS}))"
    " AND b.arrived > j.counted AND b.arrived <= j.last HAVING count() > 0"
)
_UNTIL = (
    "SELECT max(start_ns) FROM (SELECT least(root.1, first.1) AS start_ns FROM traces WHERE arrived = '{day}'"
    f" ORDER BY first_arrival DESC LIMIT {_LOOKED_AT})"
)


class Thinner:
    """Task of `ztrace_collector.clickhouse.tasks`: thinning, in steps of one statement or a few."""

    def __init__(
        self, client: "Client", share: float, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing looked at.

        Args:
            client: from `ztrace_collector.clickhouse.engine.open_engine`.
            share: share of the traces that do not matter by themselves to keep, between 0 and 1.
            clock_s: a clock that never jumps.
        """
        self._client = client
        self._threshold = threshold_of(share)
        self._clock_s = clock_s
        self._next_s = 0.0
        self._work = self._thin()

    def step(self) -> bool:
        """Do a piece of the work, and return whether there is more.

        Raises:
            Exception: of the library; the object is not used again.
        """
        now_s = self._clock_s()
        if now_s < self._next_s:
            return False
        for _ in self._work:
            return True
        self._work, self._next_s = self._thin(), now_s + LOOK_S
        return False

    def _thin(self) -> Iterator[None]:
        """Thin the first day that is over and is not thinned, one piece per iteration."""
        day = self._find_day()
        if day is None:
            return
        ((state,),) = self._read(f"SELECT argMax(state, at) FROM thinned_days WHERE day = '{day}'")
        if state != DECIDED:
            yield from self._decide(day)
        for table in TABLES:
            yield from self._replace(table, day)
        self._note(day, THINNED)
        yield

    def _find_day(self) -> date | None:
        """Return the first day that is over and is not thinned, None if there is none."""
        rows = self._read(
            f"WITH ({_DELIVERED}) AS delivered SELECT DISTINCT toDateOrZero(partition) AS each"
            " FROM system.parts WHERE active AND table = 'traces' AND database = currentDatabase()"
            f" AND toDateTime64(each + 1, 3, 'UTC') + toIntervalSecond({GRACE_S}) <= delivered"
            f" AND ifNull(each < ({_UNCOUNTED}), 1)"
            f" AND each NOT IN (SELECT day FROM thinned_days FINAL WHERE state = '{THINNED}')"
            " ORDER BY each LIMIT 1"
        )
        return rows[0][0] if rows else None

    def _decide(self, day: date) -> Iterator[None]:
        """Write the decisions of a day, by hours of arrival, or less where more traces arrived."""
        self._run(f"ALTER TABLE thinned_traces DROP PARTITION '{day}'")
        for begin_s, end_s in _cut(self._read(_MINUTES.format(day=day))):
            self._run(_DECIDE.format(day=day, begin_s=begin_s, end_s=end_s, threshold=self._threshold))
            yield
        self._note(day, DECIDED)

    def _replace(self, table: str, day: date) -> Iterator[None]:
        """Replace the day's partition of a table by one without the rows of thinned traces."""
        while True:
            self._drop_copies()
            before, copy = self._measure(table, table, day), f"{PREFIX}{table}_{secrets.token_hex(4)}"
            self._run(f"CREATE TABLE {copy} AS {table}")
            yield from self._copy(table, copy, day)
            kept = self._measure(table, copy, day)
            # A collector that was away may have sent its last block meanwhile, which the copy lacks.
            if self._measure(table, table, day) == before:
                break
        if kept == 0:
            self._run(f"ALTER TABLE {table} DROP PARTITION '{day}'")
        elif kept < before:
            self._run(f"ALTER TABLE {table} REPLACE PARTITION '{day}' FROM {copy}")
        self._drop_copies()
        yield

    def _copy(self, table: str, copy: str, day: date) -> Iterator[None]:
        """Copy the rows of a day that stay, some traces after others."""
        gone = f"SELECT trace_id FROM thinned_traces WHERE arrived = '{day}' AND threshold = 0"
        after: str | None = None
        is_last = False
        while not is_last:
            beyond = "" if after is None else f" AND trace_id > unhex('{after}')"
            slice_ = f"{gone}{beyond} ORDER BY trace_id LIMIT 1 OFFSET {MAX_TRACES - 1}"
            ends = self._read(f"SELECT hex(trace_id) FROM ({slice_})")
            is_last = not ends
            within = beyond if is_last else f"{beyond} AND trace_id <= unhex('{ends[0][0]}')"
            # Without tokens a part of the copy with the rows of an earlier one would be ignored.
            self._run(
                f"INSERT INTO {copy} SELECT * FROM {table} WHERE toDate(arrived) = '{day}'{within}"
                f" AND trace_id NOT IN ({gone}{within}) SETTINGS insert_deduplicate = 0"
            )
            after = None if is_last else ends[0][0]
            yield

    def _note(self, day: date, state: str) -> None:
        """Write the state of a day, with its sums."""
        self._run(
            "INSERT INTO thinned_days (day, state, span_count, trace_count, until_ns, at)"
            f" SELECT '{day}', '{state}', sum(spans), count(), ({_UNTIL.format(day=day)}), now64(9)"
            " FROM (SELECT any(span_count) AS spans FROM thinned_traces"
            f" WHERE arrived = '{day}' AND threshold = 0 GROUP BY trace_id)"
        )

    def _drop_copies(self) -> None:
        """Drop the last copy, or that of a holder that was killed."""
        for (name,) in self._read(
            "SELECT name FROM system.tables WHERE database = currentDatabase()"
            f" AND startsWith(name, '{PREFIX}')"
        ):
            self._run(f"DROP TABLE {name} SYNC")

    def _measure(self, table: str, name: str, day: date) -> int:
        """Return the size of a day of a table, or of its copy, by name."""
        ((size,),) = self._read(f"SELECT {TABLES[table]} FROM {name} WHERE toDate(arrived) = '{day}'")
        return int(size)

    def _read(self, query: str) -> Sequence[Sequence[Any]]:
        rows: Sequence[Sequence[Any]] = self._client.query(query).result_rows
        return rows

    def _run(self, statement: str) -> None:
        self._client.command(statement)


def _cut(minutes: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Return begin and end, in seconds, of the hours of some minutes, cut where they have too many rows.

    Args:
        minutes: the minutes' times, in seconds, and their numbers of rows.
    """
    pieces: list[tuple[int, int]] = []
    rows = 0
    for minute_s, count in minutes:
        rows += count
        if pieces and minute_s // 3600 == pieces[-1][0] // 3600 and rows <= MAX_DECIDED:
            pieces[-1] = pieces[-1][0], minute_s + 60
        else:
            pieces.append((minute_s, minute_s + 60))
            rows = count
    return pieces
