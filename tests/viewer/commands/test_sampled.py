"""Sampled code from end to end: a traced program, the collector, and the commands that show it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.messages import is_balanced, row, rows
from tests.collector.test_service import process
from tests.viewer.commands.test_process import DEADLINE_S, environment
from tests.viewer.conftest import Run
from tests.ztrace.waiting import wait_for

pytestmark = pytest.mark.process

#: A program that makes calls until its standard input ends, with half of the time of each in either function.
PROGRAM = """
import sys, threading, time, ztrace
ztrace.configure(service="shop", endpoint=sys.argv[1])

def compute():
    end_s = time.perf_counter() + 0.1
    while time.perf_counter() < end_s:
        sum(range(500))

def pause():
    time.sleep(0.1)

def serve():
    while not ending.is_set():
        with ztrace.span("checkout", kind="server"):
            with ztrace.span("render"):
                compute()
            pause()

ending = threading.Event()
serving = threading.Thread(target=serve)
serving.start()
sys.stdin.read()
ending.set()
serving.join()
ztrace.shutdown(timeout_s=20)
"""


@pytest.fixture
def place(path: Path) -> Iterator[tuple[Path, str]]:
    """Return the database of a running collector, and its endpoint."""
    with process(path) as (_, endpoint):
        yield path, endpoint


def test_a_program_is_profiled_while_it_runs(run: Run, place: tuple[Path, str]) -> None:
    """The code of a running program is below its paths and in its spans, and each sample is accounted for."""
    path, endpoint = place
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, endpoint], stdin=subprocess.PIPE, env=environment()
    )
    with program:
        try:
            wait_for(lambda: path.exists() and rows(path, "SELECT id FROM spans"))
            result = run("profile", "--live", "--seconds", "2", "--hz", "100", "--json", "--db", str(path))
            assert result.exit_code == 0, result.output
            assert program.stdin is not None
            program.stdin.close()
            assert program.wait(DEADLINE_S) == 0
        finally:
            program.kill()
    paths = {each["path"][-1]["name"]: each for each in json.loads(result.stdout)["paths"]}
    for name, function, state in (("checkout", "pause", "wait"), ("render", "compute", "run")):
        longest = paths[name]["stacks"][0]
        assert (longest["frames"][-1]["function"], longest["state"]) == (function, state)
        assert longest["ns"] > 0.5 * sum(each["ns"] for each in paths[name]["stacks"])
    assert paths["render"]["run_share"] > 0.5 > paths["checkout"]["run_share"]
    publisher = row(path, "SELECT * FROM publishers")
    assert is_balanced(publisher)
    assert publisher["samples_stored"] > 0
    assert publisher["samples_lost"] == 0
    sampled = rows(
        path,
        "SELECT lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span FROM span_stacks"
        " JOIN spans USING (trace_id, span_id) JOIN methods ON methods.id = method WHERE name = 'checkout'",
    )
    one = sampled[len(sampled) // 2]
    shown = run("show", one["trace"], "--span", one["span"], "--stacks", "--db", str(path))
    assert "waits" in shown.stdout
    assert "pause <string>:" in shown.stdout
