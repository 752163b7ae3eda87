"""Spools: jobs in a file, and queues that are opened again."""

import os
import sqlite3
from pathlib import Path

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import rpc
from ztrace.rpc.queueing.spool import Spool
from ztrace.rpc.queueing.tasks import DEAD, DONE, Failed, Task


def double(number: int) -> int:
    """Return twice a number."""
    return 2 * number


def fail() -> None:
    """Raise a ValueError."""
    raise ValueError("x")


def open_queue(path: Path) -> rpc.Queue:
    """Return a queue with a spool."""
    return rpc.Queue("tcp://127.0.0.1:0", spool=path)


def test_jobs_outlive_their_queue(tmp_path: Path) -> None:
    """Jobs that a queue leaves run from the next one, which gets their results by their keys."""
    path = tmp_path / "spool"
    with open_queue(path) as queue:
        queue.put("double", 1)
        queue.options(key="k").put("double", 2)
    with open_queue(path) as queue, rpc.Worker({"double": double}, queue.endpoint):
        assert queue.options(key="k").put("double", 2).result(DEADLINE_S) == 4
        assert queue.put("double", 3).result(DEADLINE_S) == 6
        wait_for(lambda: queue.status()["done"] == 3)  # The jobs of a worker may end in any order.
    with open_queue(path) as queue:
        assert queue.options(key="k").put("double", 2).result(0) == 4
        assert queue.status()["waiting"] == 0


def test_dead_jobs_outlive_their_queue(tmp_path: Path) -> None:
    """A dead job stays on the list of the next queue, with its error."""
    path = tmp_path / "spool"
    with open_queue(path) as queue, rpc.Worker({"fail": fail}, queue.endpoint):
        job = queue.options(max_attempts=1, key="k").put("fail")
        with pytest.raises(rpc.RemoteError):
            job.result(DEADLINE_S)
    with open_queue(path) as queue:
        with pytest.raises(rpc.RemoteError, match="ValueError: x"):
            queue.options(key="k").put("fail").result(0)
        assert queue.status()["dead"] == 1


def test_all_fields_are_kept(tmp_path: Path) -> None:
    """A job is loaded as it was saved, and in the order of putting."""
    failure: Failed = (["ValueError", "x", ""], {"type": "ValueError"})
    times = (1.5, 7, 0.5, 10.0, 11.0)
    task = Task(
        "one", "resize", b"body", "key", *times, {"a": "b"}, {"c": "d"}, DEAD, 3, 4, failure, None, 12.0
    )
    done = Task("two", "resize", b"", state=DONE, result=[1, {"a": None}])
    spool = Spool(str(tmp_path / "spool"))
    spool.save([task, done], [])
    task.attempts = 4
    spool.save([task], [])
    spool.close()
    spool = Spool(str(tmp_path / "spool"))
    assert spool.load() == [task, done]
    spool.save([], ["one"])
    assert spool.load() == [done]
    spool.close()


def test_spools_are_private(tmp_path: Path) -> None:
    """Only the user can read the spool."""
    path = tmp_path / "spool"
    with open_queue(path) as queue:
        queue.put("double", 1)
        modes = {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    assert modes == {0o600}


def test_a_spool_has_one_queue(tmp_path: Path) -> None:
    """A second queue cannot open a spool, and the first is not disturbed."""
    path = tmp_path / "spool"
    with open_queue(path) as queue:
        with pytest.raises(rpc.QueueError, match="another queue has it open"):
            open_queue(path)
        queue.put("double", 1)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Files that are no spools, or not to be written, are refused and left as they are."""
    text, database, newer = tmp_path / "text", tmp_path / "database", tmp_path / "newer"
    text.write_text("anything that is no database" * 100)
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")
    connection.close()
    Spool(str(newer)).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for path, words in (
        (text, "it is not a spool"),
        (database, "it is not a spool"),
        (newer, "another version"),
        (tmp_path / "missing" / "spool", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(rpc.QueueError, match=words):
            open_queue(path)
    assert text.read_text().startswith("anything")


def test_a_spool_that_cannot_be_written_refuses_jobs(tmp_path: Path) -> None:
    """A job that cannot be saved is not put; results of others wait until they can be saved."""
    path = tmp_path / "spool"
    with open_queue(path) as queue:
        first = queue.put("double", 1)
        spool = queue._spool
        assert spool is not None
        spool._file.execute("PRAGMA query_only = ON")
        with pytest.raises(rpc.QueueError, match="cannot use the spool"):
            queue.put("double", 2)
        with rpc.Worker({"double": double}, queue.endpoint):
            with pytest.raises(rpc.DeadlineExceeded):
                first.result(0.2)
            spool._file.execute("PRAGMA query_only = OFF")
            assert first.result(DEADLINE_S) == 2
        assert queue.status()["waiting"] == 0
    assert os.path.exists(path)


FORKING = """
import gc, os, sys
from ztrace import rpc
queue = rpc.Queue("tcp://127.0.0.1:0", spool=sys.argv[1])
queue.put("double", 1)
child = os.fork()
if not child:
    try:
        queue.put("double", 2)
    except rpc.QueueError as error:
        print(error, flush=True)
    queue.close()
    del queue
    gc.collect()
    sys.exit()
os.waitpid(child, 0)
print(queue.put("double", 3).state, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.process
def test_forked_children_leave_the_spool_alone(tmp_path: Path) -> None:
    """A forked child can put no job, and its end costs none that the parent has put before or after."""
    path = tmp_path / "spool"
    done = run_program(FORKING, str(path), expect=-9)
    assert done.stdout.splitlines() == [
        "the queue belongs to the parent process; a forked child makes its own",
        "waiting",
    ]
    with open_queue(path) as queue:
        assert queue.status()["waiting"] == 2
