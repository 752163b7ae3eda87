"""Queues and workers in processes that are killed: no job is lost, and few run twice."""

import signal
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ztrace.programs import started_program
from tests.ztrace.rpc.queueing.killing import PRODUCER, SHARED_WORKER, WORKER
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


@pytest.mark.slow
def test_stopped_workers_are_given_up(tmp_path: Path) -> None:
    """The jobs of a worker that is stopped run elsewhere, and its late results change nothing."""
    journal = tmp_path / "journal"
    journal.touch()
    endpoint = f"ipc://{tmp_path}/queue"
    with ExitStack() as stack:

        def start_worker(pause_s: str) -> "subprocess.Popen[str]":
            return stack.enter_context(started_program(WORKER, endpoint, str(journal), pause_s))

        stopped = start_worker("0.2")
        producer = stack.enter_context(started_program(PRODUCER, endpoint, str(tmp_path / "spool"), "20"))
        wait_for(lambda: journal.read_bytes())
        stopped.send_signal(signal.SIGSTOP)
        start_worker("0")
        wait_for(lambda: len(set(journal.read_text().split())) == 20)
        stopped.send_signal(signal.SIGCONT)
        assert producer.wait(DEADLINE_S) == 0, producer.communicate()[1]
        stopped.terminate()
        assert stopped.wait(DEADLINE_S) == 0
    runs = Counter(int(line) for line in journal.read_text().split())
    assert sorted(runs) == list(range(20))
    assert runs.total() - 20 <= CREDITS


@pytest.mark.slow
def test_many_producers_share_workers(tmp_path: Path) -> None:
    """Workers serve several producers, one of which is killed, and no job of any is lost."""
    journals = [tmp_path / f"journal{number}" for number in range(3)]
    endpoints = [f"ipc://{tmp_path}/queue{number}" for number in range(3)]
    with ExitStack() as stack:

        def start_producer(number: int) -> "subprocess.Popen[str]":
            spool = str(tmp_path / f"spool{number}")
            return stack.enter_context(started_program(PRODUCER, endpoints[number], spool, "100"))

        for endpoint, journal in zip(endpoints, journals, strict=True):
            journal.touch()
            stack.enter_context(started_program(WORKER, endpoint, str(journal), "0.01"))
        shared = stack.enter_context(started_program(SHARED_WORKER, *endpoints))
        producers = [start_producer(number) for number in range(3)]
        producers[0].kill()
        producers[0].wait()
        producers[0] = start_producer(0)
        for producer in producers:
            assert producer.wait(DEADLINE_S) == 0, producer.communicate()[1]
        shared.terminate()
        assert shared.wait(DEADLINE_S) == 0
        assert shared.stdout is not None
        assert int(shared.stdout.read()) > 0
