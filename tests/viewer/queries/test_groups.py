"""Exception groups: counts, filters, order and distribution over time."""

from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from tests.viewer.stored import HOUR, MINUTE, NOON, checkout, raised, span, span_id, store, trace_id
from ztrace_collector.layout import OPEN, REGRESSED, RESOLVED
from ztrace_collector.storing.resolving import resolve
from ztrace_viewer.queries.groups import (
    WHEN_PARTS,
    list_groups,
    read_group,
)
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.conditions import FREQUENT, NEWEST, Filter
from ztrace_viewer.queries.stores.sqlite.store import open_file


def test_a_group_counts_origins(shop: Path) -> None:
    """A group counts origins, and its example is the latest occurrence."""
    with open_file(shop) as db:
        [group] = list_groups(db)["groups"]
    assert group["count"] == 2
    assert (group["type"], group["message"]) == ("ZeroDivisionError", "division by zero")
    assert (group["service"], group["name"]) == ("stock", "reserve")
    assert group["trace_id"] == trace_id(2, NOON + MINUTE).hex()
    assert group["origin_span_id"] == span_id(9).hex()
    assert group["first_ns"] < group["last_ns"]
    assert group["frames"][-1] == {
        "file": "/srv/shop/stock.py",
        "line": 12,
        "function": "Stock._ratio",
        "code": "return wanted / left",
        "in_app": True,
        "repeats": 0,
        "omitted": 0,
        "locals": None,
    }


def test_a_stretch_of_time_counts_its_minutes(path: Path) -> None:
    """A time range counts the minutes inside, and groups are listed newest first."""
    old, new = raised("OldError", "no"), raised("NewError", "no")
    moments = [NOON, NOON + MINUTE, NOON + 10 * MINUTE, NOON + 2 * HOUR]
    spans = [span(trace_id(n), n, at_ns=at_ns, exception=old) for n, at_ns in enumerate(moments, 1)]
    spans.append(span(trace_id(9), 9, at_ns=NOON + 11 * MINUTE, exception=new, name="other"))
    store(path, {"shop": spans})
    with open_file(path) as db:

        def counts(selection: Selection, limit: int | None = None) -> dict[str, int]:
            return {group["type"]: group["count"] for group in list_groups(db, selection, limit)["groups"]}

        assert list(counts(Selection())) == ["OldError", "NewError"]
        assert counts(Selection()) == {"OldError": 4, "NewError": 1}
        assert counts(Selection(since_ns=NOON + MINUTE)) == {"OldError": 3, "NewError": 1}
        assert counts(Selection(since_ns=NOON, until_ns=NOON + 2 * MINUTE)) == {"OldError": 2}
        assert counts(Selection(since_ns=NOON + 20 * MINUTE, until_ns=NOON + HOUR)) == {}
        assert counts(Selection(method="other")) == {"NewError": 1}
        assert counts(Selection(service="bank")) == {}
        assert counts(Selection(), 1) == {"OldError": 4}


@pytest.fixture
def several(path: Path) -> Path:
    """Return a database with a frequent old group, a late single one, and one with a long name."""
    often, late = raised("OSError", "disk full"), raised("bank.Declined", "card 12 of Ada")
    remote = raised("app.db.OSError", "100% [x_y]")
    spans = [span(trace_id(n), n, at_ns=NOON + n * MINUTE, exception=often, name="save") for n in range(1, 6)]
    spans.append(span(trace_id(8), 8, at_ns=NOON + HOUR, exception=late, name="charge"))
    spans.append(span(trace_id(9), 9, at_ns=NOON, exception=remote, name="load"))
    return store(path, {"shop": spans}, at_ns=NOON + HOUR)


@pytest.mark.parametrize(
    ("wanted", "types"),
    [
        (Filter(), ["bank.Declined", "OSError", "app.db.OSError"]),
        (Filter("OSError"), ["OSError", "app.db.OSError"]),
        (Filter("db.OSError"), ["app.db.OSError"]),
        (Filter("Error"), []),
        (Filter(text="ADA"), ["bank.Declined"]),
        (Filter(text="error"), ["OSError", "app.db.OSError"]),
        (Filter(text="100% [x_y]"), ["app.db.OSError"]),
        (Filter(text="%"), ["app.db.OSError"]),
        (Filter("OSError", "full"), ["OSError"]),
    ],
)
def test_groups_are_found_by_type_and_text(several: Path, wanted: Filter, types: list[str]) -> None:
    """A type filter matches whole names, a text filter any part, and no character is special."""
    with open_file(several) as db:
        assert [group["type"] for group in list_groups(db, wanted=wanted)["groups"]] == types


def test_the_most_frequent_come_first_if_asked(several: Path) -> None:
    """The order by frequency uses the counts within the time range."""
    with open_file(several) as db:

        def types(order: str, selection: Selection = EVERYTHING) -> list[tuple[str, int]]:
            groups = list_groups(db, selection, order=order)["groups"]
            return [(group["type"].rpartition(".")[2], group["count"]) for group in groups]

        assert types(NEWEST)[0] == ("Declined", 1)
        assert types(FREQUENT) == [("OSError", 5), ("Declined", 1), ("OSError", 1)]
        late = Selection(since_ns=NOON + 5 * MINUTE)
        assert types(FREQUENT, late) == [("Declined", 1), ("OSError", 1)]


def test_the_bar_counts_all_of_the_time_in_equal_parts(several: Path) -> None:
    """The bar splits all of the time, or the given range, into equal parts of at least a minute."""
    with open_file(several) as db:

        def when(selection: Selection, now_ns: int = NOON + HOUR) -> tuple[list[int], int, int]:
            (group,) = list_groups(db, selection, wanted=Filter(text="full"), now_ns=now_ns)["groups"]
            assert len(group["when"]) == WHEN_PARTS
            assert sum(group["when"]) == group["count"]
            begin, end = group["when_since_ns"], group["when_until_ns"]
            return group["when"], (begin - NOON) // MINUTE, (end - NOON) // MINUTE

        assert when(EVERYTHING) == ([0] * 19 + [1] * 5, -18, 6)
        counts, begin, end = when(Selection(since_ns=NOON - HOUR))
        assert (begin, end) == (-60, 61)
        assert (counts[:12], sum(counts[12:14])) == ([0] * 12, 5)
        counts, begin, end = when(Selection(since_ns=NOON, until_ns=NOON + 48 * MINUTE))
        assert (begin, end) == (0, 48)
        assert counts == [1, 2, 2] + [0] * 21


def test_resolved_groups_are_not_listed_until_they_come_back(several: Path) -> None:
    """A resolved group is hidden and counted as hidden, until it returns as regressed."""
    with open_file(several) as db:
        (group,) = [each["group"] for each in list_groups(db, wanted=Filter(text="full"))["groups"]]
    resolve(several, group, NOON + 2 * HOUR)
    with open_file(several) as db:
        assert group not in [each["group"] for each in list_groups(db)["groups"]]
        assert db.count_resolved(EVERYTHING, Filter(text="full")) == 1
        assert db.count_resolved(EVERYTHING, Filter(text="Ada")) == 0
        listed = {
            each["group"]: each["state"] for each in list_groups(db, wanted=Filter(resolved=True))["groups"]
        }
        assert (listed[group], sorted(listed.values())) == (RESOLVED, [OPEN, OPEN, RESOLVED])
        assert read_group(db, group)["resolved_ns"] == NOON + 2 * HOUR
    again = raised("OSError", "disk full")
    back = span(trace_id(20), 20, at_ns=NOON + 3 * HOUR, exception=again, name="save")
    store(several, {"shop": [back]})
    with open_file(several) as db:
        states = {each["group"]: each["state"] for each in list_groups(db)["groups"]}
    assert states[group] == REGRESSED


def test_what_reached_the_edge_is_told_from_what_was_handled(path: Path) -> None:
    """Uncaught and swallowed occurrences are counted separately, with samples and services."""
    for number in range(1, 4):
        trace = trace_id(number, NOON + number * MINUTE)
        spans = checkout(trace, NOON + number * MINUTE)
        if number == 2:
            root, *others = spans["shop"]
            spans["shop"] = [root._replace(status=1, exception=others[-1].exception), *others]
        store(path, spans)
    with open_file(path) as db:
        (group,) = list_groups(db)["groups"]
    assert (group["count"], group["uncaught_count"], group["swallowed_count"]) == (3, 1, 2)
    assert set(group["services"]) >= {"stock", "billing"}
    assert [sample["trace_id"] for sample in group["samples"]][:: len(group["samples"]) - 1] == [
        trace_id(number, NOON + number * MINUTE).hex() for number in (1, 3)
    ]
    assert group["samples"][-1]["origin_span_id"] == span_id(9).hex()


def test_a_group_with_very_many_occurrences_is_read_at_once(path: Path) -> None:
    """Reading a group takes time by its minutes: that of its occurrences would never end."""
    each = 10**9
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("ValueError", "no"))]})
    with open_file(path) as db:
        ((row, group),) = db.db.execute("SELECT id, fingerprint FROM exception_groups").fetchall()
    with closing(connect(path)) as db:
        db.executemany(
            "INSERT INTO exception_minutes (exception_group, minute, count, uncaught_count)"
            " VALUES (?, ?, ?, 0)",
            [(row, NOON // MINUTE + n, each) for n in range(1, 10_000)],
        )
        db.execute(
            "UPDATE exception_groups SET count = ?, last_ns = ?", (9_999 * each + 1, NOON + 9_999 * MINUTE)
        )
        db.commit()
    with open_file(path) as db:
        read = read_group(db, group)
    assert (read["count"], sum(read["when"])) == (9_999 * each + 1, 9_999 * each + 1)
