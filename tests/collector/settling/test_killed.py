"""Settling in a process that is killed: what it counted stays, and nothing is counted twice."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector.messages import Sender, make_span, row, span_id, trace_id
from tests.collector.settling.test_settler import figures, recount
from tests.collector.storing.test_retention import Clock
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store

pytestmark = pytest.mark.process

#: Settles a file in small steps, and says so after each.
_PROGRAM = """
import sys
from pathlib import Path
from ztrace_collector.settling import settler
from ztrace_collector.storing.store import Store
settler.MAX_LOOKED_AT, settler.STEP_S = 50, 0.001
with Store(Path(sys.argv[1])) as store:
    for _ in settler.settle_all(store, clock_ns=lambda: int(sys.argv[2])):
        print("step", flush=True)
"""


def test_a_killed_settler_is_continued(path: Path, tmp_path: Path) -> None:
    """After kill -9 in the middle of settling, the next process leaves the same figures as one pass."""
    chance, clock = random.Random(2), Clock()
    spans = []
    for number in range(2_000):
        parent = None if number < 300 else span_id(number - 300)
        name = chance.choice(["pay", "ship"])
        spans.append(make_span(number, trace_id=trace_id(number % 300), parent_id=parent, name=name))
    chance.shuffle(spans)
    with Store(path) as store:
        for begin in range(0, len(spans), 100):
            store.store([Sender(begin // 100).data(*spans[begin : begin + 100])])
    arguments = [sys.executable, "-c", _PROGRAM, str(path), str(clock.now_ns)]
    for steps in (3, 9, 5):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(steps):
                assert process.stdout.readline() == b"step\n"
            process.kill()
    assert row(path, "SELECT count(*) AS n FROM settled")["n"] > 0
    with Store(path) as store:
        list(settle_all(store, clock_ns=clock.wall))
    assert sum(each["calls"] for each in figures(path)) == 2_000
    assert figures(path) == recount(path, tmp_path, clock)
