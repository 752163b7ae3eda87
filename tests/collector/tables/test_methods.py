"""Limits on the numbers of method names and services."""

import json
import sqlite3
from pathlib import Path

import pytest

from tests.collector.messages import Sender, make_span, pack_body, refusals, row, rows
from ztrace.records import UNFINISHED
from ztrace.wire import OPEN
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import methods


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set limits low enough for the tests to reach."""
    monkeypatch.setattr(methods, "MAX_METHODS", 5)
    monkeypatch.setattr(methods, "MAX_SERVICES", 3)


def names(path: Path, service: str = "billing") -> list[str]:
    """Return a service's names in the table of methods."""
    found = rows(path, "SELECT DISTINCT name FROM methods WHERE service = ? ORDER BY id", service)
    return [each["name"] for each in found]


def test_names_beyond_the_limit_share_one(path: Path) -> None:
    """Names beyond the limit are counted as one, and each span keeps its own in an attribute."""
    sender = Sender()
    with Store(path) as store:
        store.store([sender.data(*(make_span(n, name=f"get-{n}") for n in range(12)))])
        attributed = make_span(20, name="get-20", attributes={"card": "visa"})
        store.store([sender.data(make_span(3, name="get-3"), attributed)])
    assert names(path) == [*(f"get-{n}" for n in range(5)), "(other)"]
    shown = rows(path, "SELECT name, attributes FROM span_list ORDER BY id")
    assert [each["name"] for each in shown] == [
        *(f"get-{n}" for n in range(5)),
        *["(other)"] * 7,
        "get-3",
        "(other)",
    ]
    own = [json.loads(each["attributes"] or "{}").get("ztrace.name") for each in shown]
    assert own == [None] * 5 + [f"get-{n}" for n in range(5, 12)] + [None, "get-20"]
    assert json.loads(shown[-1]["attributes"]) == {"ztrace.name": "get-20", "card": "visa"}
    assert refusals(path) == {"too_many_names": 8}
    detail = row(path, "SELECT detail FROM refusals")["detail"]
    assert "billing" in detail
    assert detail.endswith("get-20")


def test_the_limit_holds_over_a_restart_and_for_each_kind(path: Path) -> None:
    """The limit holds across restarts and counts a name once for all its kinds."""
    sender = Sender()
    for number in range(10):
        with Store(path) as store:
            spans = [make_span(2 * number + kind, name=f"get-{number}", kind=kind) for kind in (2, 3)]
            store.store([sender.data(*spans)])
    assert names(path) == [*(f"get-{n}" for n in range(5)), "(other)"]
    assert row(path, "SELECT count(*) AS n FROM methods")["n"] == 12


def test_one_services_names_are_not_anothers(path: Path) -> None:
    """Each service has its own limit of names."""
    bad, good = Sender(), Sender(1, "orders")
    with Store(path) as store:
        store.store([bad.data(*(make_span(n, name=f"get-{n}") for n in range(100)))])
        store.store([good.data(*(make_span(n, name=f"place-{n}") for n in range(100, 104)))])
    assert names(path, "orders") == [f"place-{n}" for n in range(100, 104)]


def test_services_beyond_the_limit_share_one(path: Path) -> None:
    """Services beyond the limit are counted as one."""
    with Store(path) as store:
        for number in range(8):
            store.store([Sender(number, f"service-{number}").data(make_span(number))])
    services = [each["service"] for each in rows(path, "SELECT service FROM methods ORDER BY id")]
    assert services == ["service-0", "service-1", "service-2", "(other)"]
    own = rows(path, "SELECT attributes FROM spans WHERE attributes IS NOT NULL")
    assert json.loads(own[-1]["attributes"]) == {"ztrace.service": "service-7"}
    assert refusals(path) == {"too_many_names": 5}


def test_open_spans_are_capped_as_well(path: Path) -> None:
    """Names of unfinished spans count toward the limit and are kept in an attribute."""
    sender = Sender()
    open_spans = [
        make_span(n, name=f"get-{n}", duration_ns=None, self_ns=None, status=UNFINISHED) for n in range(9)
    ]
    with Store(path) as store:
        store.store([sender.message(OPEN, pack_body(open_spans), span_count=9)])
    assert names(path) == [*(f"get-{n}" for n in range(5)), "(other)"]
    shown = rows(path, "SELECT attributes FROM unfinished_spans ORDER BY id")
    assert json.loads(shown[-1]["attributes"]) == {"ztrace.name": "get-8"}
    assert refusals(path) == {"too_many_names": 4}


def test_a_rolled_back_name_is_not_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of a failed transaction do not count toward the limit."""
    sender = Sender()
    with Store(path) as store:
        store.store([sender.data(make_span(0, name="kept"))])

        def fail() -> int:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(store._contents._traces, "write", fail)
            sequence, created = sender.sequence, sender.created
            with pytest.raises(Exception, match="disk I/O error"):
                store.store([sender.data(*(make_span(n, name=f"gone-{n}") for n in range(1, 9)))])
            sender.sequence, sender.created = sequence, created
        store.store([sender.data(*(make_span(n, name=f"get-{n}") for n in range(20, 24)))])
    assert names(path) == ["kept", *(f"get-{n}" for n in range(20, 24))]


def test_many_services_with_new_names_are_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of names is limited, and a reload gives the same names."""
    monkeypatch.setattr(methods, "MAX_SERVICES", 100)
    monkeypatch.setattr(methods, "MAX_NAMED", 2)
    monkeypatch.setattr(methods, "SIZE", 3)
    senders = [Sender(number, f"service-{number}") for number in range(10)]
    with Store(path) as store:
        for name in range(7):
            for number, sender in enumerate(senders):
                store.store([sender.data(make_span(100 * number + name, name=f"get-{name}"))])
        assert len(store._contents._methods) <= 4
    assert names(path, "service-9") == [*(f"get-{n}" for n in range(5)), "(other)"]
    assert refusals(path) == {"too_many_names": 20}
