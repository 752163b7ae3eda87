"""Events of the trees of several collectors, told from ClickHouse by one of their processes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.trees import Collectors, open_collectors
from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, span_id, trace_id
from tests.collector.otlp.sending_on import sending_on
from tests.ztrace.waiting import wait_for
from ztrace.records import ERROR, RAISED, ExceptionRecord, Span
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.settling.settler import settle_all
from ztrace_viewer.events import sources
from ztrace_viewer.events.sources import SharedSource

pytestmark = [pytest.mark.scale, pytest.mark.process]

PAGE = "http://127.0.0.1:4711"


@pytest.fixture
def collectors(
    tmp_path: Path, engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collectors]:
    """Yield two empty journals and a database, in which a look is always due."""
    monkeypatch.setattr(sources, "SHARED_LOOK_S", 0.0)
    with open_collectors(tmp_path, engine, database) as opened:
        yield opened


def fail(number: int, kind: str) -> tuple[list[Span], list[Span]]:
    """Return a call that fails as the other service's method does, and what that service has of it."""
    trace = trace_id(number)
    raised = ExceptionRecord(kind, "no box", (), (), RAISED, trace, span_id(100 + number))
    outer = make_span(
        number, name="get", status=ERROR, start_ns=EPOCH_NS + number * 10**9, duration_ns=20 * MS
    )
    inner = outer._replace(
        span_id=span_id(100 + number),
        parent_id=outer.span_id,
        name="find",
        duration_ns=10 * MS,
        exception=raised,
    )
    return [outer], [inner]


def look(source: SharedSource) -> list[tuple[str, str]]:
    """Return the kinds of new events, and the types of their exceptions."""
    return [(event["event"], event["group"]["type"]) for event in source.look(0, 50).events if event["group"]]


def store(collectors: Collectors, number: int, kind: str) -> None:
    """Store a failed call, of which each collector has a part."""
    outer, inner = fail(number, kind)
    collectors.add("front", outer, 0)
    collectors.add("stock", inner, 1)
    collectors.deliver()


def settle(collectors: Collectors) -> None:
    """Count the trees."""
    with open_engine(collectors.address) as client:
        settle_all(client)


def test_an_error_of_two_collectors_is_one_event(collectors: Collectors, engine: Engine) -> None:
    """An error is told once its tree is counted, by one process, where it began, and once it regresses."""
    store(collectors, 0, "Known")
    settle(collectors)
    one, other = (SharedSource(collectors.address, PAGE) for _ in range(2))
    one.begin(0)
    store(collectors, 1, "Lost")
    assert look(other) == look(one) == []
    settle(collectors)
    (event,) = other.look(0, 50).events
    assert event["group"] is not None
    assert (event["event"], event["group"]["type"], event["group"]["count"]) == ("new_group", "Lost", 1)
    assert event["link"] == f"{PAGE}/error/{event['group']['group']}"
    assert look(one) == look(other) == []
    at_ns = event["group"]["last_ns"] - 1
    engine.query(
        f"INSERT INTO resolutions VALUES ('{event['group']['group']}', 1, {at_ns}, now64(9))",
        collectors.address.database,
    )
    assert look(one) == [("regressed_group", "Lost")]
    assert look(one) == look(other) == []


def test_another_process_goes_on(collectors: Collectors, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that a killed process had found are counted by the next one, which tells what comes later."""
    monkeypatch.setattr(sources, "LOST_S", 0.0)
    monkeypatch.setattr(sources, "BEAT_S", 0.0)
    monkeypatch.setattr(sources, "COMPARE_S", 0.0)
    killed, other = (SharedSource(collectors.address, None) for _ in range(2))
    killed.begin(0)
    store(collectors, 1, "Lost")
    store(collectors, 2, "Late")
    settle(collectors)
    assert look(killed) == [("new_group", "Lost"), ("new_group", "Late")]
    assert killed.keep(1)
    assert look(other) == []
    store(collectors, 3, "Last")
    settle(collectors)
    found = other.look(0, 50)
    assert [event["group"] and event["group"]["type"] for event in found.events] == ["Last"]
    assert [number for number, _ in found.left_out] == [1]
    # It was only slow, and takes back what it has not delivered.
    assert not killed.keep(1)
    assert other.keep(0)
    assert look(killed) == look(other) == []


def test_collectors_notify_of_each_error_once(tmp_path: Path, engine: Engine, database: str) -> None:
    """Of two real collectors with a command, one runs it for an error of which both have a part."""
    url, told = engine.url(database), tmp_path / "told"
    initialize(read_address(url, {}), Layout(), lambda line: None)
    options = ("--clickhouse", url, "--on-event", f"sh -c 'cat >> {told}'")
    with ExitStack() as stack:
        running = [
            stack.enter_context(sending_on(tmp_path / f"{number}.db", *options)) for number in range(2)
        ]
        senders = Sender(0, "front"), Sender(1, "stock")
        for number, kind in enumerate(("Lost", "Late")):
            for collector, sender, spans in zip(running, senders, fail(number, kind), strict=True):
                collector.feed(sender, spans)
        wait_for(lambda: told.exists() and len(told.read_text().splitlines()) == 2)
        for collector in running:
            assert "event" not in collector.stop().replace("--on-event", "")
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert sorted(event["group"]["type"] for event in events) == ["Late", "Lost"]
