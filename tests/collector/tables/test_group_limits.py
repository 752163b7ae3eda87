"""Limits on the number of exception groups, of a service and of all."""

from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS, Sender, refusals, row, rows
from tests.collector.tables.test_exceptions import failed
from ztrace.errors import DatabaseError
from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.storing.expiring import delete_traces_before, sweep
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import groups


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set limits low enough for the tests to reach."""
    monkeypatch.setattr(groups, "MAX_OF_SERVICE", 5)
    monkeypatch.setattr(groups, "MAX_GROUPS", 12)
    monkeypatch.setattr(groups, "MAX_SHARED", 2)


def kinds(path: Path, service: str) -> dict[str, int]:
    """Return the count of each group of a service by its type."""
    found = rows(path, "SELECT type, count FROM exception_groups WHERE service = ?", service)
    return {each["type"]: each["count"] for each in found}


def fail(store: Store, sender: Sender, first: int, count: int, minute: int = 0) -> None:
    """Store errors of as many types."""
    start_ns = EPOCH_NS + minute * MINUTE_NS
    numbers = range(first, first + count)
    store.store([sender.data(*(failed(n, tree=n, kind=f"Kind{n}", start_ns=start_ns) for n in numbers))])


def test_types_beyond_the_limit_share_a_group(path: Path) -> None:
    """Errors beyond the limit count in one group of their service, before and after a restart."""
    sender = Sender(0, "shop")
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        fail(store, sender, 0, 8)
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        fail(store, sender, 8, 4, minute=1)
        store.store([sender.data(*(failed(n, tree=n, kind=f"Kind{n - 50}") for n in (50, 51)))])
    assert kinds(path, "shop") == {**{f"Kind{n}": 1 + (n < 2) for n in range(5)}, "(other)": 7}
    shared = row(path, "SELECT * FROM exception_groups WHERE type = '(other)'")
    assert shared["message"] == "Kind11: declined"
    assert shared["template"] == groups.OTHER_TEMPLATE
    assert shared["uncaught_count"] == 7
    (minutes,) = rows(
        path,
        "SELECT sum(count) AS n, count(*) AS rows FROM exception_minutes WHERE exception_group = ?",
        shared["id"],
    )
    assert minutes == {"n": 7, "rows": 2}
    assert refusals(path) == {"too_many_groups": 7}
    assert "Kind11" in row(path, "SELECT detail FROM refusals")["detail"]
    # Each exception keeps its own type and message.
    assert row(path, "SELECT count(DISTINCT type) AS n FROM exceptions")["n"] == 12


def test_a_service_leaves_room_for_others(path: Path) -> None:
    """A service that makes up types takes its share; all services together have a limit as well."""
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        for number, service in enumerate(("evil", "shop", "bank", "late", "later")):
            fail(store, Sender(number, service), 100 * number, 7 if service == "evil" else 4)
    assert len(kinds(path, "evil")) == 6
    assert len(kinds(path, "shop")) == 4
    assert kinds(path, "bank") == {"Kind200": 1, "Kind201": 1, "Kind202": 1, "(other)": 1}
    # The services beyond that have no group share one.
    assert (kinds(path, "late"), kinds(path, "later")) == ({}, {})
    assert kinds(path, "(other)") == {"(other)": 8}
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == 12 + 2 + 1


def test_a_transaction_that_fails_takes_no_room(path: Path) -> None:
    """Groups of a transaction that is rolled back do not count."""
    sender = Sender(0, "shop")
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        message = sender.data(*(failed(n, tree=n, kind=f"Kind{n}") for n in range(5)))
        store._db.execute("CREATE TEMP TRIGGER no BEFORE INSERT ON losses BEGIN SELECT RAISE(ABORT, ''); END")
        dropping = Sender(1, "shop")
        dropping.created = dropping.dropped = 1
        with pytest.raises(DatabaseError):
            store.store([message, dropping.beat()])
        store._db.execute("DROP TRIGGER no")
        store.store([message])
    assert len(kinds(path, "shop")) == 5


def test_deleted_groups_make_room(path: Path) -> None:
    """Groups that retention deletes make room for others."""
    sender, now_ns = Sender(0, "shop"), EPOCH_NS
    with Store(path, clock_ns=lambda: now_ns) as store:
        fail(store, sender, 0, 6)
        now_ns += 24 * 60 * MINUTE_NS
        while delete_traces_before(store, now_ns, 100):
            pass
        for _ in sweep(store, now_ns):
            pass
        assert kinds(path, "shop") == {}
        fail(store, Sender(1, "shop"), 10, 6, minute=24 * 60)
    assert kinds(path, "shop") == {**{f"Kind{n}": 1 for n in range(10, 15)}, "(other)": 1}
