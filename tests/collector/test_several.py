"""A collector without ClickHouse refuses publishers that have several collectors."""

from pathlib import Path

import pytest

from tests.collector.messages import refusals, row
from tests.collector.test_service import process
from tests.ztrace.programs import run_program
from tests.ztrace.publishing.test_delivery import free_endpoint

PROGRAM = """
import sys, ztrace
from ztrace import agent
ztrace.configure("billing", sys.argv[1])
with ztrace.span("charge"):
    pass
publisher = agent.current_publisher()
while not ztrace.flush(0.2) and not publisher.worker.peer.refusal:
    pass
ztrace.shutdown(0)
"""


@pytest.mark.process
def test_publishers_with_several_collectors_keep_their_spans(path: Path) -> None:
    """The collector and the program each say once what to do, and nothing is stored or acknowledged."""
    with process(path) as (child, endpoint):
        other = free_endpoint()
        for _ in range(2):
            done = run_program(PROGRAM, f"{endpoint},{other}")
            assert done.stderr.splitlines() == [
                f"ztrace: the collector at {endpoint} refuses publishers with several collectors: start each"
                " with --clickhouse, or give a single one in ZTRACE_ENDPOINT",
                f"ztrace: 1 span not delivered to {endpoint} or {other} (it runs without --clickhouse)",
            ]
        run_program(PROGRAM, endpoint)
        child.terminate()
        _, told = child.communicate()
    assert told == (
        "ztrace: publishers of billing have several collectors, which needs --clickhouse at each of them;"
        " they are refused, and keep their spans\n"
    )
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": 1}
    assert refusals(path)["several_collectors"] >= 2
