"""Faults of the traced process: kills, forks, and runtimes with greenlets or tasks."""

import json
import statistics
import time

from tests.faults import identity
from tests.faults.making import Plan
from tests.faults.peer import Receiver
from tests.faults.running import Length, finish, let_be, set_scene
from tests.faults.stage import DEADLINE_S, Stage, ask, wait_for
from tests.faults.starting import Start
from tests.faults.table import Row
from tests.faults.tracers import TREE
from tests.ports import find_port

#: Longest time before a span is in the spool.
LINGER_S = 0.1


def kill_spooled(length: Length) -> Row:
    """Kill publishers with a spool repeatedly, and let the next one deliver their spans."""
    kills = int(length.of(20, 3))
    plan = Plan("", rate=5_000, seconds=600.0)
    most, least, worst = 0, 0, 0.0
    with Stage() as stage:
        collector = stage.collector()
        spool = {"ZTRACE_SPOOL": str(stage.name("spool")), "ZTRACE_LINGER_MS": str(int(1000 * LINGER_S))}
        for number in range(kills):
            maker = stage.maker(plan._replace(endpoint=collector.endpoint), spool)
            maker.go()
            wait_for(lambda maker=maker: maker.made > 2_500, "spans are made")  # type: ignore[misc]
            # At varying moments of the linger interval, and every other time without a collector.
            time.sleep(0.013 * number)
            if number % 2:
                collector.kill()
                time.sleep(0.5)
            maker.kill()
            least, most = least + maker.board["ended"], most + maker.board["begun"]
            if number % 2:
                collector.start()
        heir = stage.maker(Plan(collector.endpoint, rate=100, seconds=600.0), spool)
        heir.go()
        wait_for(
            lambda: (
                sum(each.state == "crashed" for each in identity.read_accounts(collector.database)) == kills
            ),
            "all are adopted",
            120.0,
        )
        made = heir.end().made
        collector.stop()
        accounts = identity.check(collector.database, most + made, least + made)
        for account in accounts:
            if account.state == "crashed":
                assert account.created == account.stored + account.lost["process crashed"], account
                worst = max(worst, account.lost["process crashed"] / plan.rate)
    lost = identity.lost(accounts)
    return Row(
        f"publisher kill -9 with a spool, {kills} times at {plan.rate:,} spans/s",
        "lost at most one linger interval (100 ms), counted exactly",
        f"{lost / kills:.0f} lost a kill, all counted; at most {1000 * worst:.0f} ms worth of spans",
        lost,
        worst <= LINGER_S,
        _kill_peer(length, plan),
    )


def _kill_peer(length: Length, plan: Plan) -> str:
    if not length.peer:
        return ""
    with Stage() as stage:
        receiver = Receiver(stage)
        receiver.start()
        maker = stage.maker(plan._replace(endpoint=receiver.endpoint, tracer="opentelemetry"))
        maker.go()
        wait_for(lambda: maker.made > 10_000, "spans are made")
        maker.kill()
        time.sleep(1)
        lost = maker.board["ended"] - receiver.stored
        return f"{lost:,} lost ({1000 * lost / plan.rate:.0f} ms worth of spans), counted nowhere"


#: Each process makes one tree: a parent, ten forked children, and three of multiprocessing per start method.
_FORKS = """
import multiprocessing, os, sys
from tests.faults.tracers import TRACERS
tracer = TRACERS[sys.argv[2]]()
def work(configured):
    if not configured:
        tracer.configure(sys.argv[1])
    tracer.tree()
if __name__ == "__main__":
    tracer.configure(sys.argv[1])
    tracer.tree()
    for _ in range(10):
        child = os.fork()
        if not child:
            work(True)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    for way in ("fork", "forkserver", "spawn"):
        context = multiprocessing.get_context(way)
        children = [context.Process(target=work, args=(way == "fork",)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
"""
#: Total number of these spans.
_FORKED = TREE * (1 + 10 + 9)

_APPLICATION = """
import os, time
import ztrace
ztrace.configure("prefork", os.environ["MAKER_ENDPOINT"])
with ztrace.span("preloaded"):
    pass
def application(environ, start_response):
    with ztrace.span("request"):
        time.sleep(0.01)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""


def fork(length: Length) -> Row:
    """Fork directly, by multiprocessing with each start method, and in a prefork server with --preload."""
    with Stage() as stage:
        collector = stage.collector()
        _fork(stage, collector.endpoint, "ztrace")
        served = _prefork(stage, collector.endpoint, int(length.of(400, 40)))
        collector.stop()
        made = _FORKED + served + 1
        accounts = identity.check(collector.database, made)
    lost = identity.lost(accounts)
    return Row(
        "fork, prefork, multiprocessing",
        "every child's span stored",
        f"{made - lost:,} of {made:,} stored, of {len(accounts)} processes",
        lost,
        not lost,
        _fork_peer() if length.peer else "",
    )


def _fork(stage: Stage, endpoint: str, tracer: str) -> None:
    program = stage.folder / "forks.py"
    program.write_text(_FORKS)
    process = stage.start(str(program), endpoint, tracer)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def _fork_peer() -> str:
    with Stage() as stage:
        receiver = Receiver(stage)
        receiver.start()
        _fork(stage, receiver.endpoint, "opentelemetry")
        return f"{_FORKED - receiver.stored:,} of {_FORKED:,} lost, without the prefork server"


def _prefork(stage: Stage, endpoint: str, requests: int) -> int:
    """Serve requests with a prefork server's workers, end the server, and return their number."""
    (stage.folder / "application.py").write_text(_APPLICATION)
    port = find_port()
    server = stage.start(
        *("-m", "gunicorn", "--preload", "--workers", "4", "--bind", f"127.0.0.1:{port}"),
        *("--chdir", str(stage.folder), "application:application"),
        environment={"MAKER_ENDPOINT": endpoint},
    )
    ask(port, requests)
    server.terminate()
    assert server.wait(60) == 0
    return requests


def run_gevent(length: Length) -> Row:
    """Make spans in greenlets, with all of gevent's patches."""
    return _run_ways(length, "gevent")


def run_asyncio(length: Length) -> Row:
    """Make spans in asyncio tasks."""
    return _run_ways(length, "asyncio")


def _run_ways(length: Length, ways: str) -> Row:
    plan = Plan("", rate=5_000, seconds=length.of(20.0, 2.0), ways=ways)
    with Stage() as stage:
        collector = stage.collector()
        starts = [_start(stage, ways, collector.endpoint) for _ in range(int(length.of(21, 1)))]
        maker = stage.maker(plan._replace(endpoint=collector.endpoint))
        # Each start has made two spans.
        outcome = finish(set_scene(stage, collector, maker), collector, let_be, 2 * len(starts))
    middle = Start(*map(statistics.median, zip(*starts, strict=True)))
    return Row(
        f"{ways}, {plan.rate:,} spans/s",
        "start blocks at most 5 ms, 0 lost",
        f"configure {middle.configure:.1f} ms, first span {middle.first:.1f} ms (loading modules before"
        f" {middle.loading:.0f} ms), {outcome.share()} of {outcome.seen.made:,}",
        outcome.lost,
        not outcome.lost and middle.configure + middle.first <= 5,
    )


def _start(stage: Stage, ways: str, endpoint: str) -> Start:
    process = stage.start("-m", "tests.faults.starting", endpoint, ways)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    return Start(*json.loads(out))
