"""Queues and workers in processes that are killed: no job is lost, and few run twice."""

import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ztrace.programs import started_program
from tests.ztrace.rpc.queueing.killing import PRODUCER, WORKER
from tests.ztrace.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.process

CREDITS = 2
WORKERS = 3


def run_jobs(folder: Path, jobs: int, kills: int, pause_s: float) -> Counter[int]:
    """Run jobs while workers and producers are killed in turn, and return how often each was run."""
    journal = folder / "journal"
    journal.touch()
    endpoint = f"ipc://{folder}/queue"
    spool = str(folder / "spool")
    with ExitStack() as stack:

        def start_worker() -> "subprocess.Popen[str]":
            return stack.enter_context(started_program(WORKER, endpoint, str(journal), str(pause_s)))

        def start_producer() -> "subprocess.Popen[str]":
            return stack.enter_context(started_program(PRODUCER, endpoint, spool, str(jobs)))

        def run_count() -> int:
            return journal.read_bytes().count(b"\n")

        workers = [start_worker() for _ in range(WORKERS)]
        producer = start_producer()
        for kill in range(kills):
            after = jobs * (kill + 1) // (kills + 2)
            wait_for(lambda after=after: run_count() >= after)  # type: ignore[misc]
            if kill % 2:
                producer.kill()
                producer.wait()
                producer = start_producer()
            else:
                workers[kill % WORKERS].kill()
                workers[kill % WORKERS] = start_worker()
        assert producer.wait(DEADLINE_S) == 0, producer.communicate()[1]
    return Counter(int(line) for line in journal.read_text().split())


def check(runs: Counter[int], jobs: int, kills: int) -> None:
    """Assert that each job ran, and that few ran twice."""
    assert sorted(runs) == list(range(jobs))
    # A killed worker costs what it held; a killed producer what all held that did not claim it in time.
    assert runs.total() - jobs <= CREDITS * (kills - kills // 2) + CREDITS * WORKERS * (kills // 2)


def test_killed_processes_lose_no_job(tmp_path: Path) -> None:
    """Of a worker and a producer that are killed, no job is lost."""
    check(run_jobs(tmp_path, 100, 2, 0.005), 100, 2)


@pytest.mark.slow
def test_a_thousand_jobs_survive_kills(tmp_path: Path) -> None:
    """Of 1,000 jobs none is lost while workers and producers are killed ten times."""
    check(run_jobs(tmp_path, 1000, 10, 0.005), 1000, 10)
