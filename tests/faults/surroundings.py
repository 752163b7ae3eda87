"""Programs in trouble with their surroundings: limits, forks by C code, ends of children, garbage, signals.

One idea: a program that ends, as it would without ztrace, prints how many spans it has made; all of them are
accounted for, and all that could be delivered are stored.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults import identity
from tests.faults.running import Length
from tests.faults.stage import DEADLINE_S, Collector, Stage, ask, wait_for
from tests.faults.table import Row
from tests.ports import find_port

#: At a limit of one kind, make spans, wait until the thread has tried, lift the limit, make more, end.
_LIMITED = """
import json, os, resource, sys, time
import ztrace
kind, soft = sys.argv[2:4]
ztrace.configure("trouble", sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)  # Root may start any number of threads.
def used():
    return len(os.listdir("/proc/self/fd")) - 1
def taken():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()
limit, base = {
    "descriptors": (resource.RLIMIT_NOFILE, used),
    "threads": (resource.RLIMIT_NPROC, int),
    "pages": (resource.RLIMIT_AS, taken),
}[kind]
before = resource.getrlimit(limit)
resource.setrlimit(limit, (base() + int(soft), before[1]))
def make():
    for number in range(20):
        with ztrace.span("work", number=number): pass
make()
time.sleep(0.2)
resource.setrlimit(limit, before)
make()
flushed = ztrace.flush(60)
print(json.dumps([40, not flushed]))
"""

#: Garbage in cycles that must be finalized by the thread that made it.
_GARBAGE = """
import json, sqlite3, sys, time
import ztrace
ztrace.configure("trouble", sys.argv[1])
wrong = []
sys.unraisablehook = wrong.append
class Repository:
    def __init__(self):
        self.me = self
        self.db = sqlite3.connect(":memory:")
    def __del__(self):
        self.db.close()
made = 0
end_s = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end_s:
    Repository()
    for number in range(40):
        with ztrace.span("work", number=number): pass
        made += 1
    time.sleep(0.0005)
ztrace.flush(60)
print(json.dumps([made, len(wrong)]))
"""

#: Pools that are terminated as soon as their results are there, again and again.
_POOLS = """
import json, multiprocessing, sys
import ztrace
def work(number):
    with ztrace.span("work", number=number):
        return number
if __name__ == "__main__":
    ztrace.configure("trouble", sys.argv[1])
    multiprocessing.set_start_method("fork")
    made = 0
    for _ in range(int(sys.argv[2])):
        with multiprocessing.Pool(4) as pool:
            made += len(pool.map(work, range(8)))
    print(json.dumps([made, 0]))
"""

_APPLICATION = """
import os
import ztrace
ztrace.configure("trouble", os.environ["MAKER_ENDPOINT"])
def application(environ, start_response):
    with ztrace.span("request"), ztrace.span("inner"):
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""

_TASKS = """
import os
from pathlib import Path
import celery, ztrace
folder = Path(__file__).parent
queue = {"data_folder_in": str(folder / "queue"), "data_folder_out": str(folder / "queue"),
         "control_folder": str(folder / "control"), "processed_folder": str(folder / "done"),
         "store_processed": False}
app = celery.Celery("tasks", broker="filesystem://")
app.conf.update(broker_transport_options=queue, worker_max_tasks_per_child=7, task_ignore_result=True,
                broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
if "MAKER_ENDPOINT" in os.environ:
    ztrace.configure("trouble", os.environ["MAKER_ENDPOINT"])
@app.task
def work(number):
    with ztrace.span("task", number=number):
        pass
    (folder / "finished" / str(number)).touch()
"""


def run_out(length: Length) -> Row:
    """Start to trace at a limit of threads, of descriptors or of memory, and lift the limit."""
    kinds = {"descriptors": range(16), "threads": range(1, 7), "pages": [2**power for power in range(20, 27)]}
    steps = [(kind, step) for kind, soft in kinds.items() for step in soft]
    made = lost = wrong = 0
    for kind, step in steps[:: int(length.of(1, 5))]:
        made, lost, wrong = _add((made, lost, wrong), _run(_LIMITED, kind, str(step)))
    return _row("no threads, descriptors or memory at the first span", made, lost, wrong)


def collect_garbage(length: Length) -> Row:
    """Leave garbage that has to be finalized by the thread that made it."""
    made, lost, wrong = _run(_GARBAGE, str(length.of(30.0, 2.0)))
    return _row("garbage that belongs to its thread", made, lost, wrong)


def terminate_pools(length: Length) -> Row:
    """Terminate pools of multiprocessing in the moment in which their workers begin to wait."""
    made, lost, wrong = _run(_POOLS, str(int(length.of(200, 10))))
    return _row("pools terminated at once", made, lost, wrong)


def fork_by_c(length: Length) -> Row:
    """Serve requests by workers that uWSGI forks without Python's hooks, and end the server."""
    requests = int(length.of(400, 40))
    made = lost = silent = 0
    for options in ((), ("--enable-threads",), ("--lazy-apps",)):
        with Stage() as stage:
            collector = stage.collector()
            _serve(stage, collector, options, requests)
            collector.stop()
            accounts = identity.check(collector.database, 2 * requests)
        made, lost = made + 2 * requests, lost + identity.lost(accounts)
        silent += sum(account.state != "ended" for account in accounts)
    return _row("uWSGI's workers", made, lost, silent)


def end_children(length: Length) -> Row:
    """Run tasks in Celery's prefork pool, whose children end by `os._exit` after seven each."""
    tasks = int(length.of(200, 30))
    with Stage() as stage:
        collector = stage.collector()
        for folder in ("queue", "done", "finished"):
            (stage.folder / folder).mkdir()
        (stage.folder / "tasks.py").write_text(_TASKS)
        sending = f"import tasks\nfor number in range({tasks}): tasks.work.delay(number)"
        paths = {"PYTHONPATH": os.pathsep.join((str(stage.folder), str(Path(__file__).parents[2])))}
        assert stage.start("-c", sending, environment=paths).wait(DEADLINE_S) == 0
        worker = stage.start(
            *(
                "-m",
                "celery",
                "-A",
                "tasks",
                "worker",
                "--concurrency=3",
                "--loglevel=ERROR",
                "--pool=prefork",
            ),
            environment={**paths, "MAKER_ENDPOINT": collector.endpoint},
        )
        wait_for(lambda: len(os.listdir(stage.folder / "finished")) == tasks, "the tasks are done")
        worker.terminate()
        worker.communicate(timeout=DEADLINE_S)
        wait_for(lambda: identity.count_stored(collector.database) == tasks, "the spans are stored")
        collector.stop()
        accounts = identity.check(collector.database, tasks)
    silent = sum(account.state not in ("ended", "crashed") for account in accounts)
    return _row("Celery's children", tasks, identity.lost(accounts), silent)


def _run(code: str, *arguments: str) -> tuple[int, int, int]:
    """Return how many spans a program has made, how many are lost, and how often something went wrong."""
    with Stage() as stage:
        os.chmod(stage.folder, 0o755)
        collector = stage.collector()
        program = stage.folder / "program.py"
        program.write_text(code)
        process = stage.start(str(program), collector.endpoint, *arguments)
        out, _ = process.communicate(timeout=10 * DEADLINE_S)
        assert process.returncode == 0, f"exit status {process.returncode} of {arguments}"
        made, wrong = json.loads(out)
        collector.stop()
        accounts = identity.check(collector.database, made)
    return made, identity.lost(accounts), wrong


def _serve(stage: Stage, collector: Collector, options: Sequence[str], requests: int) -> None:
    """Have uWSGI answer requests with three workers, some at once, and end once their spans are stored.

    A worker that is told to end while it starts, or in a request, runs no exit handler, or does not end.
    """
    uwsgi = str(Path(sys.executable).with_name("uwsgi"))
    (stage.folder / "application.py").write_text(_APPLICATION)
    port, log = find_port(), stage.name("uwsgi")
    server = stage.start(
        *("-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", uwsgi),
        *(
            "--http-socket",
            f"127.0.0.1:{port}",
            "--chdir",
            str(stage.folder),
            "--wsgi-file",
            "application.py",
        ),
        *("--master", "--processes", "3", "--die-on-term", "--need-app", "--disable-logging", *options),
        log=log,
        environment={"MAKER_ENDPOINT": collector.endpoint},
    )
    loads = 3 if "--lazy-apps" in options else 1
    wait_for(lambda: log.read_text().count(" ready in ") == loads, "the workers have loaded")
    ask(port, requests)
    wait_for(lambda: identity.count_stored(collector.database) == 2 * requests, "the spans are stored")
    server.terminate()
    assert server.wait(DEADLINE_S) in (0, 30)


def _add(sums: tuple[int, int, int], more: tuple[int, int, int]) -> tuple[int, int, int]:
    made, lost, wrong = (one + other for one, other in zip(sums, more, strict=True))
    return made, lost, wrong


def _row(fault: str, made: int, lost: int, wrong: int) -> Row:
    return Row(
        fault,
        "the program as without ztrace, 0 lost",
        f"{wrong:,} times wrong, {lost:,} of {made:,} lost",
        lost,
        not (wrong or lost),
    )
