"""Connections to ClickHouse that are kept between answers."""

from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import open_shop
from tests.collector.messages import make_span
from ztrace_viewer.queries.stores.clickhouse.store import Pool
from ztrace_viewer.queries.traces import list_slowest

pytestmark = [pytest.mark.scale, pytest.mark.process]


def test_a_kept_connection_knows_methods_that_came_later(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    """An answer over a connection that was used before names methods whose first spans came since."""
    with open_shop(tmp_path / "journal.db", engine, database) as shop:
        pool = Pool(shop.address)
        for number, name in enumerate(("first", "second"), 1):
            shop.add(make_span(trace_id=bytes([number]) * 16, span_id=bytes([number]) * 8, name=name))
            shop.deliver()
            with pool.open() as store:
                told = list_slowest(store)["traces"]
        pool.close()
    assert {each["name"] for each in told} == {"first", "second"}
