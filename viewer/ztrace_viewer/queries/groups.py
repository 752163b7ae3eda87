"""Exception groups: number and time of their occurrences, and samples.

One idea: the collector keeps a row for each group and for each minute in which it occurred, so the exceptions
themselves, of which there may be any number, are not read.
"""

import time
from collections.abc import Sequence

from ztrace.errors import NotFoundError
from ztrace_collector.layout import MINUTE_NS
from ztrace_viewer.documents.errors import ErrorsDocument, GroupSummary, Sample
from ztrace_viewer.json_text import read_json
from ztrace_viewer.queries.exceptions import read_frames
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.answers import GroupRow, SampleRow, Stretch
from ztrace_viewer.queries.stores.conditions import NEWEST, UNRESOLVED, Filter
from ztrace_viewer.queries.stores.store import Errors

#: Parts of the time, in each of which occurrences are counted; of a day, each is an hour.
WHEN_PARTS = 24


def list_groups(
    store: Errors,
    selection: Selection = EVERYTHING,
    limit: int | None = None,
    wanted: Filter = UNRESOLVED,
    order: str = NEWEST,
    now_ns: int | None = None,
) -> ErrorsDocument:
    """Return the selected exception groups.

    If a time is selected, a group's count is that of all minutes the time touches.

    Args:
        store: the store.
        selection: service and method of the origin.
        limit: most groups to return.
        wanted: further conditions.
        order: NEWEST or FREQUENT first.
        now_ns: end of a time without an end; None for now.
    """
    rows = store.groups(selection, wanted, order, limit)
    now_ns = time.time_ns() if now_ns is None else now_ns
    return {"groups": _summarise(store, rows, selection, now_ns)}


def read_group(store: Errors, group: str) -> GroupSummary:
    """Return one group, over all time.

    Raises:
        NotFoundError: there is no such group.
    """
    row = store.group(group)
    if row is None:
        raise NotFoundError(f"no error {group}", hint="see 'ztrace errors'")
    return _summarise(store, [row], EVERYTHING, time.time_ns())[0]


def _summarise(
    store: Errors, rows: Sequence[GroupRow], selection: Selection, now_ns: int
) -> list[GroupSummary]:
    stretches = [_stretch(selection, row, now_ns) for row in rows]
    counts, samples = store.occurrences(stretches, WHEN_PARTS), store.samples(rows)
    return [
        _describe(stretch, when, samples.get(stretch.group.fingerprint, []))
        for stretch, when in zip(stretches, counts, strict=True)
    ]


def _describe(stretch: Stretch, when: list[int], samples: Sequence[SampleRow]) -> GroupSummary:
    row = stretch.group
    services = read_json(row.services)
    latest: Sample = {
        "trace_id": row.trace_id.hex(),
        "origin_span_id": row.origin_span_id.hex(),
        "at_ns": row.last_ns,
    }
    return {
        "group": row.fingerprint,
        "type": row.type,
        "message": row.message,
        "template": row.template,
        "service": row.service,
        "name": row.name,
        "kind": row.kind,
        "services": [str(service) for service in services] if isinstance(services, list) else [],
        "state": row.state,
        "resolved_ns": row.resolved_ns,
        "count": row.counted,
        "uncaught_count": row.uncaught_counted,
        "swallowed_count": max(0, row.counted - row.uncaught_counted),
        "first_ns": row.first_ns,
        "last_ns": row.last_ns,
        "when": when,
        "when_since_ns": stretch.first * MINUTE_NS,
        "when_until_ns": stretch.end * MINUTE_NS,
        "trace_id": latest["trace_id"],
        "origin_span_id": latest["origin_span_id"],
        "frames": read_frames(read_json(row.frames)),
        "samples": _list_samples(samples, latest),
    }


def _stretch(selection: Selection, row: GroupRow, now_ns: int) -> Stretch:
    """Return the minutes in which a group's occurrences are counted, at least one for each part.

    They are the selected minutes, up to now; without a selection, from the first occurrence to the last.
    """
    first, last = selection.minutes
    begin = row.first_ns // MINUTE_NS if selection.since_ns is None else first
    if selection.until_ns is None:
        last = row.last_ns // MINUTE_NS if selection.since_ns is None else max(now_ns // MINUTE_NS, first)
    return Stretch(row, min(begin, max(0, last + 1 - WHEN_PARTS)), last + 1)


def _list_samples(rows: Sequence[SampleRow], latest: Sample) -> list[Sample]:
    """Return the samples in order of time; the latest occurrence is among them."""
    samples: list[Sample] = [
        {
            "trace_id": row.trace_id.hex(),
            "origin_span_id": row.origin_span_id.hex(),
            "at_ns": row.at_ns,
        }
        for row in rows
    ]
    return samples if latest in samples else [*samples, latest]
