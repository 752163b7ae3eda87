"""Slowest traces of hours that have many parts."""

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from ztrace_collector.layout import HOUR_NS
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file

#: Arrivals of a part, and hours and methods of the traces; each part has traces of each hour.
PART, HOURS, METHODS = 1 << 14, (500_000, 500_001, 500_900), (1, 2, 3)
START_NS = HOURS[0] * HOUR_NS


class Row(NamedTuple):
    """A row of ``traces``, without what no question here asks for."""

    id: int
    root_method: int
    start_ns: int
    duration_ns: int
    error_count: int


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Return traces of forty parts, many of which take the same time."""
    rng = random.Random(7)
    ids = {
        part * PART + rng.choice((0, PART - 1, rng.randrange(PART))) for part in range(40) for _ in "12345"
    }
    return [
        Row(
            each,
            rng.choice(METHODS),
            rng.choice(HOURS) * HOUR_NS + rng.randrange(HOUR_NS),
            rng.randrange(60),
            rng.choice((0, 0, 1)),
        )
        for each in sorted(ids)
    ]


@pytest.fixture(scope="module")
def file(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with these traces."""
    path = tmp_path_factory.mktemp("parts") / "traces.db"
    with Store(path) as store, store.transaction() as db:
        db.executemany(
            "INSERT INTO traces (id, trace_id, root_method, start_ns, end_ns, duration_ns, span_count,"
            " error_count, services, hour) VALUES (?, ?, ?, ?, ?, ?, 1, ?, '[]', ?)",
            [
                (
                    row.id,
                    row.id.to_bytes(16, "big"),
                    row.root_method,
                    row.start_ns,
                    row.start_ns + row.duration_ns,
                    row.duration_ns,
                    row.error_count,
                    row.start_ns // HOUR_NS,
                )
                for row in rows
            ],
        )
    return path


@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize("methods", [None, (2,), (1, 3), (9,)])
@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(since_ns=START_NS + HOUR_NS // 2),
        Selection(until_ns=START_NS + HOUR_NS * 3 // 2),
        Selection(since_ns=START_NS + HOUR_NS // 3, until_ns=START_NS + HOUR_NS * 4 // 3),
        Selection(since_ns=START_NS + 3 * HOUR_NS, until_ns=START_NS + 4 * HOUR_NS),
    ],
)
def test_the_slowest_of_all_parts_are_found(
    file: Path, rows: list[Row], selection: Selection, methods: tuple[int, ...] | None, errors: bool
) -> None:
    """The slowest traces of all parts of the chosen hours are found; of equals, those that arrived last."""
    chosen = [
        row
        for row in rows
        if (methods is None or row.root_method in methods)
        and (row.error_count > 0 or not errors)
        and (selection.since_ns is None or row.start_ns >= selection.since_ns)
        and (selection.until_ns is None or row.start_ns < selection.until_ns)
    ]
    chosen.sort(key=lambda row: (-row.duration_ns, -row.id))
    with open_file(file) as store:
        for limit in (1, 2, 7, 30, 500):
            hidden = [row.id.to_bytes(16, "big") for row in chosen[1:6:2]]
            for left_out in ((), hidden):
                expected = [
                    (row.duration_ns, row.id.to_bytes(16, "big"))
                    for row in chosen
                    if row.id.to_bytes(16, "big") not in left_out
                ]
                found = store.slowest(selection, methods, limit, hidden=left_out, errors=errors)
                assert sorted(found) == sorted(expected[:limit])
