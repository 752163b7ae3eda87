"""Deletion of old or excess data, one piece to a transaction.

One idea: traces are deleted first, each with all its rows; the other tables are then swept in the order of
their keys, some rows at a time. A piece is small enough not to delay anything, and the next collector
continues where a killed one stopped.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from ztrace_collector.layout import HOUR_NS, LATE, MINUTE_NS, RESOLUTIONS_S, SECOND_NS
from ztrace_collector.storing.deleting import delete_spans, delete_whole_traces
from ztrace_collector.storing.sampled_code import delete_code
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.waiting import are_sent
from ztrace_collector.tables.retired import retire_figures, retire_publishers
from ztrace_collector.tables.sealed import insert_spans, take_sealed

#: Maximum of traces in one piece, and of rows examined in other tables.
MAX_TRACES, MAX_ROWS = 2_000, 2_000
#: Expired traces whose ids are kept, to know late spans of them.
KEPT = 50_000
#: Name in ``totals`` of the spans that retention has deleted.
EXPIRED = "spans_expired"
#: Traces looked at in one piece for those of one service.
MAX_SCANNED = 50_000
#: Exception groups whose minutes are examined in one piece.
MAX_GROUPS = 200
#: Time by which a service's clock may be behind without losing its figures before its traces.
SKEW_NS = 24 * HOUR_NS

#: Tables whose rows belong to no trace, or to one that was never stored, with the column of their time.
_DATED = (
    ("losses", "last_ns"),
    ("refused_spans", "at_ns"),
    ("unfinished_spans", "seen_ns"),
    ("clock_bounds", "seen_ns"),
    ("span_stacks", "at_ns"),
    ("profile_requests", "at_ns"),
)

_OLD_FIGURES = "WHERE resolution_s = ? AND bucket < ? ORDER BY bucket, method LIMIT ?"
_DELETE_FIGURES = (
    "DELETE FROM method_figures WHERE (resolution_s, bucket, method) IN"
    f" (SELECT resolution_s, bucket, method FROM method_figures {_OLD_FIGURES})"
)


class _Old(NamedTuple):
    id: int
    trace_id: bytes
    span_count: int


def delete_traces_before(store: Store, age_ns: int, max_spans: int) -> int:
    """Delete some of the traces that arrived before the hour of a point in time, the oldest first.

    Args:
        store: where they are.
        age_ns: the point in time, by `Store.age_ns`.
        max_spans: spans to delete at most, but for one trace.

    Returns:
        The number of their spans, at least 1 for each trace; 0 if there are no such traces.
    """
    hour = age_ns // HOUR_NS
    ((older, first),) = store.read(
        f"SELECT count(*) FILTER (WHERE hour < {hour}), min(first_trace) FILTER (WHERE hour >= {hour})"
        " FROM arrivals"
    )
    if not older:
        return 0
    which = "" if first is None else f"WHERE id < {first} "
    deleted = _delete_traces(store, f"{which}ORDER BY id", max_spans)
    # Traces may be left that wait for ClickHouse.
    if (
        not deleted
        and first is not None
        and not store.read("SELECT 1 FROM traces WHERE id < ? LIMIT 1", first)
    ):
        with store.transaction() as db:
            db.execute("DELETE FROM arrivals WHERE hour < ?", (hour,))
    return deleted


def delete_first_traces(store: Store, max_spans: int) -> int:
    """Delete some of the traces that arrived first.

    Returns:
        The number of their spans, as in `delete_traces_before`.
    """
    return _delete_traces(store, "ORDER BY id", max_spans)


def delete_traces_of(store: Store, service: str, after: int, max_spans: int) -> tuple[int, int | None]:
    """Delete some of the traces whose root is a service's, those stored first.

    Args:
        store: where they are.
        service: whose they are.
        after: id of the traces that were looked at before.
        max_spans: spans to delete at most, but for one trace.

    Returns:
        The number of their spans, at least 1 for each trace, and the id to go on after; None at the end.
    """
    ((first, last),) = store.read(
        f"SELECT min(id), max(id) FROM (SELECT id FROM traces WHERE id > ? ORDER BY id LIMIT {MAX_SCANNED})",
        after,
    )
    if first is None:
        return 0, None
    which = (
        f"WHERE id BETWEEN {first} AND {last}"
        " AND root_method IN (SELECT id FROM methods WHERE service = ?) ORDER BY id"
    )
    deleted = _delete_traces(store, which, max_spans, service)
    return deleted, after if deleted else last


def _delete_traces(store: Store, which: str, max_spans: int, *values: object) -> int:
    traces: list[_Old] = []
    total = 0
    query = f"SELECT id, trace_id, span_count FROM traces {which} LIMIT {MAX_TRACES}"
    for row in store.read(query, *values):
        trace = _Old(*row)
        if traces and total + trace.span_count > max_spans:
            break
        traces.append(trace)
        total += max(1, trace.span_count)
    if not traces or not are_sent(store, [trace.trace_id for trace in traces]):
        return 0
    if traces[0].span_count > max_spans:
        return _delete_part(store, traces[0], max_spans)
    trace_ids = [trace.trace_id for trace in traces]
    with store.transaction() as db:
        numbers = ",".join(str(trace.id) for trace in traces)
        db.execute(
            "INSERT OR IGNORE INTO expired_traces (trace_id) SELECT trace_id FROM traces JOIN settled"
            f" ON settled.trace = traces.id WHERE traces.id IN ({numbers})"
        )
        db.execute(f"DELETE FROM expired_traces WHERE id <= (SELECT max(id) FROM expired_traces) - {KEPT}")
        # Of a collector at full load, trees may expire before they are counted by path.
        db.execute(
            "UPDATE settling SET value = value + (SELECT coalesce(sum(span_count), 0) FROM traces"
            f" WHERE id IN ({numbers}) AND id NOT IN (SELECT trace FROM settled)) WHERE name = ?",
            (LATE,),
        )
        delete_whole_traces(db, [trace.id for trace in traces], trace_ids, EXPIRED)
    store.forget_traces(trace_ids)
    return total


def _delete_part(store: Store, trace: _Old, max_spans: int) -> int:
    """Delete some spans of a trace that has too many for one piece.

    The trace's row stays until its last span is deleted, so that a killed collector's work can be continued.
    """
    with store.transaction() as db:
        for trace_id, rows in take_sealed(db, [trace.trace_id]):
            insert_spans(db, trace_id, rows)
        deleted = delete_spans(
            db,
            f"id IN (SELECT id FROM spans WHERE trace_id = ? LIMIT {max_spans})",
            [trace.trace_id],
            EXPIRED,
        )
        # Fewer than expected means that the row's count is too high; the next piece is the last.
        left = max(0, trace.span_count - deleted) if deleted == max_spans else 0
        db.execute("UPDATE traces SET span_count = ?, root_span_id = NULL WHERE id = ?", (left, trace.id))
    store.forget_traces([trace.trace_id])
    return max(1, deleted)


def first_start_ns(store: Store) -> int | None:
    """Return the start of the traces that arrived first, None if there are none.

    The result is the earliest start of several traces, to ignore those from a machine whose clock is ahead.
    """
    ((start_ns,),) = store.read(
        f"SELECT min(start_ns) FROM (SELECT start_ns FROM traces ORDER BY id LIMIT {MAX_TRACES})"
    )
    return None if start_ns is None else int(start_ns)


def used_bytes(store: Store) -> int:
    """Return the size of the file without its free pages."""
    ((pages,),), ((free,),), ((size,),) = (
        store.read(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def last_seen_ns(store: Store) -> int | None:
    """Return the time of the last message from any publisher, by the collector's clock."""
    ((seen_ns,),) = store.read("SELECT max(last_seen_ns) FROM publishers")
    return None if seen_ns is None else int(seen_ns)


def sweep(store: Store, before_ns: int) -> Iterator[None]:
    """Delete from all other tables what is older than a point in time, one piece per iteration.

    Figures and minutes have the times of the services' clocks. Those of traces that are still there are kept,
    for figures as far as a clock is a day behind at most.

    Figures are deleted by whole UTC days, those of hours and minutes with those of their day, because readers
    subtract hours from days and minutes from hours.
    """
    first_ns = first_start_ns(store)
    behind_ns = 0 if first_ns is None else min(SKEW_NS, max(0, before_ns - first_ns))
    yield from _delete_figures(store, before_ns - behind_ns)
    yield from _delete_minutes(store, before_ns)
    for table, column in _DATED:
        yield from _delete_rows(store, table, column, before_ns)
    yield from delete_code(store, before_ns - behind_ns)
    yield from _delete_thinned(store, before_ns)
    yield from _delete_instances(store, before_ns)


def _delete_figures(store: Store, before_ns: int) -> Iterator[None]:
    day_s = RESOLUTIONS_S[-1]
    before_s = before_ns // (day_s * SECOND_NS) * day_s
    # Days first: a query starts at the first day that has figures.
    for resolution_s in reversed(RESOLUTIONS_S):
        deleted = MAX_ROWS
        values = (resolution_s, before_s // resolution_s, MAX_ROWS)
        while deleted == MAX_ROWS:
            with store.transaction() as db:
                if resolution_s == day_s:
                    retire_figures(db, _OLD_FIGURES, values)
                deleted = db.execute(_DELETE_FIGURES, values).rowcount
            if deleted:
                store.forget("method_figures")
            yield


def _delete_minutes(store: Store, before_ns: int) -> Iterator[None]:
    """Delete minutes of exception groups, and groups without minutes."""
    last = 0
    while True:
        with store.transaction() as db:
            groups = db.execute(
                "SELECT id FROM exception_groups WHERE id > ? ORDER BY id LIMIT ?", (last, MAX_GROUPS)
            ).fetchall()
            room = MAX_ROWS
            for (group,) in groups:
                # Samples are deleted with their traces, whatever their service's clock says.
                (kept_ns,) = db.execute(
                    "SELECT min(at_ns) FROM exception_samples WHERE exception_group = ?", (group,)
                ).fetchone()
                until_ns = before_ns if kept_ns is None else min(before_ns, kept_ns)
                minutes = db.execute(
                    "SELECT minute, count, uncaught_count FROM exception_minutes WHERE exception_group = ?"
                    " AND minute < ? ORDER BY minute LIMIT ?",
                    (group, until_ns // MINUTE_NS, room),
                ).fetchall()
                if minutes:
                    db.execute(
                        "DELETE FROM exception_minutes WHERE exception_group = ? AND minute <= ?",
                        (group, minutes[-1][0]),
                    )
                    db.execute(
                        "UPDATE exception_groups SET count = count - ?, uncaught_count = uncaught_count - ?"
                        " WHERE id = ?",
                        (
                            sum(count for _, count, _ in minutes),
                            sum(uncaught for *_, uncaught in minutes),
                            group,
                        ),
                    )
                room -= len(minutes)
                if room == 0:
                    break  # The group may have more: the next piece starts with it.
                gone = db.execute(
                    "DELETE FROM exception_groups WHERE id = ? AND last_ns < ?"
                    " AND NOT EXISTS (SELECT 1 FROM exception_minutes WHERE exception_group = ?)",
                    (group, before_ns, group),
                ).rowcount
                if gone:
                    db.execute("DELETE FROM exception_samples WHERE exception_group = ?", (group,))
                last = group
        if not groups:
            store.forget("exception_groups")
            return
        yield


def _delete_rows(store: Store, table: str, column: str, before_ns: int) -> Iterator[None]:
    last: int | None = 0
    while last is not None:
        with store.transaction() as db:
            first, last = last, _end_of_piece(db, table, last)
            deleted = db.execute(
                f"DELETE FROM {table} WHERE id > ? AND id <= ? AND {column} < ?", (first, last, before_ns)
            ).rowcount
        if deleted:
            store.forget(table)
        yield


def _delete_instances(store: Store, before_ns: int) -> Iterator[None]:
    """Delete publishers that have been silent for long and have no rows left in other tables."""
    last: int | None = 0
    while last is not None:
        with store.transaction() as db:
            first, last = last, _end_of_piece(db, "instances", last)
            gone = db.execute(
                "SELECT id FROM instances JOIN publishers ON instance = id WHERE id > ? AND id <= ?"
                " AND last_seen_ns < ? AND spans_stored <= spans_expired"
                " AND NOT EXISTS (SELECT 1 FROM losses WHERE losses.instance = instances.id)",
                (first, last, before_ns),
            ).fetchall()
            kept = {instance for (instance,) in db.execute("SELECT DISTINCT instance FROM unfinished_spans")}
            gone = [(instance,) for (instance,) in gone if instance not in kept]
            retire_publishers(db, [instance for (instance,) in gone])
            for table in ("sequence_ranges", "publishers"):
                db.executemany(f"DELETE FROM {table} WHERE instance = ?", gone)
            db.executemany("DELETE FROM instances WHERE id = ?", gone)
        if gone:
            store.forget("publishers")
        yield


def _delete_thinned(store: Store, before_ns: int) -> Iterator[None]:
    """Forget traces that were thinned, as those of their time have expired."""
    last: bytes | None = b""
    while last is not None:
        with store.transaction() as db:
            first = last
            (last,) = db.execute(
                "SELECT max(trace_id) FROM"
                " (SELECT trace_id FROM thinned_traces WHERE trace_id > ? ORDER BY trace_id LIMIT ?)",
                (first, MAX_ROWS),
            ).fetchone()
            db.execute(
                "DELETE FROM thinned_traces WHERE trace_id > ? AND trace_id <= ? AND at_ns < ?",
                (first, last, before_ns),
            )
        yield


def _end_of_piece(db: sqlite3.Connection, table: str, last: int) -> int | None:
    """Return the highest id of the next piece, None if there are no more rows."""
    (end,) = db.execute(
        f"SELECT max(id) FROM (SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT ?)", (last, MAX_ROWS)
    ).fetchone()
    return None if end is None else int(end)
