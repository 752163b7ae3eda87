"""``ztrace rpc queue`` against a queue with workers in this process."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.ztrace.rpc.services import FREE, Billing
from ztrace import rpc
from ztrace_viewer.cli import run as run_line


@pytest.fixture
def queue() -> Iterator[rpc.Queue]:
    """Yield a queue with a dead job, one that runs until it is dropped, a waiting and a delayed one."""
    started, done = threading.Event(), threading.Event()

    def resize(path: str, width: int = 1) -> None:
        if path == "bad":
            raise ValueError("no picture\x1b[2J")
        started.set()
        done.wait(60)

    with rpc.Queue(FREE) as queue, rpc.Worker({"resize": resize}, queue.endpoint, credits=1):
        dead = queue.options(max_attempts=1).put("resize", "bad")
        with pytest.raises(rpc.RpcError):
            dead.result(timeout_s=60)
        queue.put("resize", "long")
        assert started.wait(60)
        queue.put("resize", "next", width=3)
        queue.options(delay_s=3600).put("resize", "later")
        yield queue
        done.set()


def test_the_numbers_and_workers_of_a_queue(run: Run, queue: rpc.Queue) -> None:
    """Without a further word the jobs are counted by state, and the workers listed."""
    lines = run("rpc", "queue", queue.endpoint).stdout.splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["waiting", "1"],
        ["delayed", "1"],
        ["running", "1"],
        ["dead", "1"],
        ["done", "0"],
    ]
    assert lines[-2].split() == ["WORKER", "HOST", "PID", "RUNNING", "CREDITS", "HEARD"]
    document = json.loads(run("rpc", "queue", queue.endpoint, "--json").stdout)
    assert (document["dead"], len(document["workers"])) == (1, 1)


def test_jobs_are_listed_retried_and_dropped(run: Run, queue: rpc.Queue) -> None:
    """`list` shows jobs by state, `retry` puts dead ones back, and `drop` removes those that are named."""
    text = run("rpc", "queue", queue.endpoint, "list", columns=140).stdout
    assert "resize('bad')" in text
    assert "resize('next', width=3)" in text
    assert "ValueError: no picture[2J" in text
    (dead,) = json.loads(run("rpc", "queue", queue.endpoint, "list", "--state", "dead", "--json").stdout)[
        "jobs"
    ]
    assert run("rpc", "queue", queue.endpoint, "retry", dead["id"]).stdout == "1 job put back\n"
    result = run("rpc", "queue", queue.endpoint, "list", "--state", "dead")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no dead jobs" in result.stderr
    assert run("rpc", "queue", queue.endpoint, "retry").exit_code == 1
    jobs = json.loads(run("rpc", "queue", queue.endpoint, "list", "--json").stdout)["jobs"]
    dropped = run("rpc", "queue", queue.endpoint, "drop", *(job["id"] for job in jobs))
    assert dropped.stdout == "4 jobs dropped\n"


def test_wrong_words_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown action, missing ids and a server that is no queue are told on one line."""
    with rpc.Server(Billing, FREE) as server:
        address = server.endpoints[0]
        for words, told in (
            (["lst"], "is not one of 'status', 'list', 'retry', 'drop'"),
            (["drop"], f"drop needs the ids of jobs; see 'ztrace rpc queue {address} list'"),
            (["list", "12"], "list takes no ids"),
            ([], f"'{address}' is no queue; see 'ztrace rpc inspect {address}'"),
        ):
            assert run_line(["rpc", "queue", address, *words]) == 2
            said = capsys.readouterr().err
            assert told in said
            assert said.count("\n") == 1


def test_a_queue_without_workers_says_so(run: Run, tmp_path: Path) -> None:
    """A queue that no worker has joined says so, and names its spool."""
    spool = tmp_path / "jobs.spool"
    with rpc.Queue(FREE, spool=spool) as queue:
        text = run("rpc", "queue", queue.endpoint, columns=200).stdout
    assert "no workers are connected" in text
    assert str(spool) in text
