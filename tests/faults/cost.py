"""Cost of a fault, and of surviving faults, to a traced program.

One idea: the machine's speed varies by more than the effects measured, so every figure is a median of ratios
between neighbouring turns of one run.
"""

import json
import statistics
import subprocess
import time
from pathlib import Path

from tests.faults.calling import Calls
from tests.faults.running import Length
from tests.faults.stage import DEADLINE_S, ROOT, Collector, Stage
from tests.faults.table import Row
from tests.ports import find_port

#: Commit before delivery was made fault-tolerant.
BEFORE = "6c52417"


def stand_still(length: Length) -> Row:
    """Compare traced calls with the collector stopped and running."""
    rounds, turn_s = int(length.of(12, 1)), length.of(2.0, 0.2)
    ratios: dict[str, tuple[float, list[float]]] = {}
    for kind in ("function", "client"):
        with Stage() as stage:
            collector = stage.collector()
            caller = _start_caller(stage, collector, kind)
            _turn(caller, turn_s)
            pairs = []
            for number in range(rounds):
                turns: dict[bool, Calls] = {}
                for stopped in (True, False) if number % 2 else (False, True):
                    if stopped:
                        collector.pause()
                    turns[stopped] = _turn(caller, turn_s)
                    if stopped:
                        collector.resume()
                        # The backlog is stored before the next turn starts.
                        time.sleep(turn_s / 2)
                pairs.append((turns[False].p99, turns[True].p99 / turns[False].p99))
            works, stands = zip(*pairs, strict=True)
            ratios[kind] = statistics.median(works), sorted(stands)
    seen = "; ".join(
        f"{'zerorpc call' if kind == 'client' else 'function'}: p99 {p99:,.0f} µs working, ratio"
        f" {statistics.median(each):.3f}"
        f" (quartiles {each[len(each) // 4]:.2f}, {each[len(each) * 3 // 4]:.2f})"
        for kind, (p99, each) in ratios.items()
    )
    return Row(
        "a traced call while the collector is stopped",
        "p99 changes at most 1%",
        seen,
        0,
        all(statistics.median(each) <= 1.01 for _, each in ratios.values()),
    )


def _start_caller(stage: Stage, collector: Collector, kind: str) -> "subprocess.Popen[str]":
    address = f"ipc://{stage.folder}/rpc"
    if kind == "client":
        server = stage.start("-m", "tests.faults.calling", collector.endpoint, "server", address)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    return stage.start("-m", "tests.faults.calling", collector.endpoint, kind, address, asked=True)


def _turn(caller: "subprocess.Popen[str]", seconds: float) -> Calls:
    return Calls(*json.loads(_ask(caller, str(seconds))))


def _ask(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    print(line, file=process.stdin, flush=True)
    return process.stdout.readline()


_HOT = """
import sys
from tests.benchmarks.agent import measure
from tests.faults.tracers import Ztrace
tracer = Ztrace()
tracer.configure(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    print(*measure(tracer.tree), flush=True)
"""


def hot_path(length: Length) -> Row:
    """Compare the cost of a span to its thread with the earlier commit."""
    rounds = int(length.of(20, 2))
    with Stage() as stage:
        old = stage.name("before")
        old.mkdir()
        _check_out(BEFORE, old)
        makers = [
            stage.start(
                *("-c", _HOT, f"tcp://127.0.0.1:{find_port()}"),
                asked=True,
                environment={"PYTHONPATH": f"{folder}:{ROOT}"},
            )
            for folder in (old, ROOT)
        ]
        for maker in makers:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "ready\n"
            _ask(maker, "warm up")
        turns: list[list[float]] = []
        for number in range(rounds):
            order = (0, 1) if number % 2 else (1, 0)
            figures = {which: [float(each) for each in _ask(makers[which], "go").split()] for which in order}
            turns.append([*figures[0], *figures[1]])
        for maker in makers:
            maker.communicate(timeout=DEADLINE_S)
    before, before_all, now, now_all = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio, ratio_all = (
        statistics.median(turn[2 + column] / turn[column] for turn in turns) for column in (0, 1)
    )
    return Row(
        f"hot path, against {BEFORE}",
        "not slower by more than 10%",
        f"caller {before:.2f} to {now:.2f} µs a span, ratio {ratio:.2f}; whole process {before_all:.2f} to"
        f" {now_all:.2f} µs, ratio {ratio_all:.2f}",
        0,
        ratio <= 1.1,
    )


def _check_out(commit: str, folder: Path) -> None:
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, "ztrace"], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
