"""Delivery to ClickHouse: everything once, whatever ends it, and whenever."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Killed, Shop, make_spans, open_shop, open_some
from tests.collector.messages import make_profile, make_span, span_id
from tests.collector.otlp.requests import requests
from ztrace_collector.checking.parcels import pack
from ztrace_collector.clickhouse import reading, shipping
from ztrace_collector.clickhouse.engine import EngineError, insert_block
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.otlp.mapping.incoming import read_request
from ztrace_collector.sealing import reading as sealing
from ztrace_collector.storing.expiring import delete_first_traces, delete_traces_before

pytestmark = [pytest.mark.scale, pytest.mark.process]

#: 2024-01-01T23:59:59.900Z, in milliseconds.
MIDNIGHT_MS = 1_704_153_599_900


@pytest.fixture
def shop(path: Path, engine: Engine, database: str) -> Iterator[Shop]:
    """Yield a journal and a database, both empty."""
    with open_shop(path, engine, database) as opened:
        yield opened


def kill_at(monkeypatch: pytest.MonkeyPatch, table: str, *, after: bool) -> None:
    """End the next delivery before or after it inserts into a table."""
    insert = insert_block

    def insert_or_die(client: Any, name: str, *arguments: Any) -> None:
        if name == table and not after:
            raise Killed
        insert(client, name, *arguments)
        if name == table:
            raise Killed

    monkeypatch.setattr(shipping, "insert_block", insert_or_die)


def die(shop: Shop, monkeypatch: pytest.MonkeyPatch, table: str = "spans", *, after: bool = True) -> None:
    """Deliver until the process is killed beside an insert."""
    with monkeypatch.context() as patch:
        kill_at(patch, table, after=after)
        with pytest.raises(Killed):
            shop.deliver()


def test_both_stores_are_equal(shop: Shop) -> None:
    """Spans, sums, exceptions, accounts, profiles and unfinished spans are the same in both stores."""
    spans = make_spans(1, 3000)
    open_some(shop, spans[:20])
    shop.deliver()
    assert shop.differences() == {}
    shop.store.store([shop.sender.profile(make_profile())])
    for at in range(0, 3000, 300):
        shop.add(*spans[at : at + 300])
        if at % 900 == 0:
            shop.deliver()
    shop.deliver()
    assert shop.differences() == {}
    assert shop.destination == {"place": 3000, "sent": 3000, "skipped": 0}
    shop.deliver()
    assert shop.destination["sent"] == 3000


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(received=requests())
def test_what_others_send_is_equal_too(shop: Shop, received: ExportTraceServiceRequest) -> None:
    """Spans of OpenTelemetry, with random ids, times, texts and links, are the same in both stores."""
    shop.store.store([], [parcel for batch in read_request(received) for parcel in pack(batch)])
    shop.deliver()
    # Several services may have roots in one trace: in the file the first one to arrive keeps its own.
    assert shop.differences().keys() <= {"roots of traces"}


@pytest.mark.parametrize("after", [False, True], ids=["before the block", "between block and place"])
def test_a_kill_changes_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    """A block that may have been sent is repeated as it was, although more spans have arrived since."""
    spans = make_spans(2, 600)
    shop.add(*spans[:100])
    die(shop, monkeypatch, after=after)
    shop.add(*spans[100:250])
    die(shop, monkeypatch, after=after)
    shop.add(*spans[250:])
    with monkeypatch.context() as patch:
        # A block would have other boundaries now, but for those in the journal.
        patch.setattr(reading, "MAX_SPANS", 70)
        shop.deliver()
    assert shop.differences() == {}
    assert shop.destination == {"place": 600, "sent": 600, "skipped": 0}


@pytest.mark.parametrize("table", ["methods", "exceptions", "exception_groups", "totals"])
def test_a_kill_beside_copies_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """Copies that were sent and not noted are sent again, and are there once."""
    shop.add(*make_spans(3, 200))
    die(shop, monkeypatch, table)
    shop.add(*make_spans(4, 200))
    shop.deliver()
    assert shop.differences() == {}


def test_a_block_over_midnight_is_stored_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that is repeated on the next day keeps its day of arrival, and so its partition."""
    shop.add(*make_spans(5, 100))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: MIDNIGHT_MS * 1_000_000)
        die(shop, monkeypatch)
        patch.setattr(time, "time_ns", lambda: (MIDNIGHT_MS + 10_000) * 1_000_000)
        shop.deliver()
    assert shop.differences() == {}


def test_a_broken_view_is_mended(shop: Shop, engine: Engine, database: str) -> None:
    """A block that one view could not take is repeated until all have it, and no view has it twice."""
    shop.add(*make_spans(6, 300))
    engine.query("RENAME TABLE roots TO away", database)
    with pytest.raises(EngineError, match="lacks tables of ztrace"):
        shop.deliver()
    shop.add(*make_spans(7, 300))
    with pytest.raises(EngineError):
        shop.deliver()
    engine.query("RENAME TABLE away TO roots", database)
    shop.deliver()
    assert shop.differences() == {}


def test_blocks_are_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog goes in blocks of a number of spans and of bytes at most."""
    monkeypatch.setattr(reading, "MAX_SPANS", 64)
    monkeypatch.setattr(sealing, "_ROWS", 16)
    monkeypatch.setattr(reading, "MAX_BYTES", 20_000)
    shop.add(*(make_span(number) for number in range(100)))
    shop.add(*(make_span(number, attributes={"text": "x" * 1500}) for number in range(100, 140)))
    shop.deliver()
    ends = [step.block_end for step in shop.steps if step.block_end is not None]
    assert ends == [64, 128, 140]
    assert shop.differences() == {}


def test_a_database_that_was_made_again_gets_everything(shop: Shop, engine: Engine, database: str) -> None:
    """The position belongs to a database: one that is made again is filled from the first span."""
    shop.add(*make_spans(8, 200))
    shop.deliver()
    engine.query(f"DROP DATABASE {database}")
    initialize(shop.address, Layout(), lambda line: None)
    shop.add(*make_spans(9, 50))
    shop.deliver()
    assert shop.differences() == {}


def test_what_retention_deletes_stays(shop: Shop, engine: Engine, database: str) -> None:
    """Rows of a trace that the journal deletes stay in ClickHouse; an unfinished span that ends does not."""
    spans = make_spans(10, 50)
    open_some(shop, spans[:2])
    shop.add(*spans)
    shop.deliver()
    failed = int(engine.query("SELECT count() FROM exceptions FINAL", database))
    assert failed > 0
    while delete_first_traces(shop.store, 1000):
        pass
    shop.deliver()
    assert int(engine.query("SELECT count() FROM spans", database)) == 50
    assert int(engine.query("SELECT count() FROM exceptions FINAL", database)) == failed
    assert int(engine.query("SELECT count() FROM unfinished_spans FINAL", database)) == 0


def test_retention_waits(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is deleted from the journal before it is in ClickHouse with all that belongs to it."""
    shop.add(*make_spans(11, 50))
    assert delete_first_traces(shop.store, 1000) == 0
    # The hours of arrival stay as well, by which the traces are found later.
    with shop.store.transaction() as db:
        db.execute("INSERT INTO arrivals VALUES (1000000, 1000000)")
    later_ns = 1_000_000 * HOUR_NS
    assert delete_traces_before(shop.store, later_ns, 1000) == 0
    die(shop, monkeypatch, "exceptions", after=False)
    assert delete_first_traces(shop.store, 1000) == 0
    shop.deliver()
    assert delete_traces_before(shop.store, later_ns, 1000) == 50


def test_a_span_that_gets_another_parent(shop: Shop, engine: Engine, database: str) -> None:
    """A parent that changes after its span was sent is sent too, as the last one in `adopted_spans`."""
    shop.add(make_span(0), make_span(1))
    shop.deliver()
    with shop.store.transaction() as db:
        db.execute("UPDATE spans SET parent_id = x'0000000000000007' WHERE span_id = ?", (span_id(1),))
    shop.deliver()
    query = "SELECT hex(span_id), hex(parent_id) FROM adopted_spans FINAL"
    assert engine.query(query, database) == f"{span_id(1).hex().upper()}\t0000000000000007\n"


def test_blocks_arrive_after_what_is_announced(
    shop: Shop, engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a journal, nothing arrives before a time that was announced, although a clock is set back."""

    def ask(column: str, table: str) -> int:
        query = f"SELECT toUnixTimestamp64Milli(max({column})) FROM {table}"
        return int(engine.query(query, database))

    monkeypatch.setattr(time, "time_ns", lambda: MIDNIGHT_MS * 1_000_000)
    shop.deliver()
    announced = [ask("delivered", "journals")]
    assert announced == [MIDNIGHT_MS]
    monkeypatch.setattr(time, "time_ns", lambda: (MIDNIGHT_MS - 60_000) * 1_000_000)
    shop.add(*make_spans(12, 20))
    die(shop, monkeypatch)
    assert ask("arrived", "spans") > announced[-1] == ask("delivered", "journals")
    for seed in (13, 14):
        shop.add(*make_spans(seed, 20))
        shop.deliver()
        announced.append(ask("delivered", "journals"))
        assert announced[-1] == ask("arrived", "spans") > announced[-2]
    assert shop.differences() == {}
    query = "SELECT sum(span_count) FROM blocks"
    assert int(engine.query(query, database)) == 60
