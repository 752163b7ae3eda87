"""Queues and workers over real sockets, in threads."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import rpc
from ztrace.errors import EndpointError, SettingsError
from ztrace.rpc.queueing.tasks import Task
from ztrace_collector.receiving.keys import KeyFolder

Work = Callable[..., rpc.Worker]


def test_results_come_back(queue: rpc.Queue, work: Work) -> None:
    """A job's result is what its function returns, with positional and keyword arguments."""
    work(join=lambda *args, **kwargs: [args, kwargs])
    job = queue.put("join", 1, "two", three=[3])
    assert job.result(DEADLINE_S) == [[1, "two"], {"three": [3]}]
    assert (job.state, job.attempts, job.name) == ("done", 1, "join")


def test_jobs_wait_for_workers(queue: rpc.Queue, work: Work) -> None:
    """Jobs that are put before there is a worker run once there is one."""
    jobs = [queue.put("double", number) for number in range(50)]
    work(double=lambda number: 2 * number)
    assert [job.result(DEADLINE_S) for job in jobs] == [2 * number for number in range(50)]


def test_jobs_are_awaited(queue: rpc.Queue, work: Work) -> None:
    """A job is awaited in any event loop, and cancelling the wait leaves the job alone."""

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def gather() -> list[int]:
        return await asyncio.gather(*(queue.put("double", number) for number in range(5)))

    work(double=double)
    assert asyncio.run(gather()) == [0, 2, 4, 6, 8]


def test_failures_are_attempted_again(queue: rpc.Queue, work: Work) -> None:
    """A job that fails is attempted again until it succeeds."""
    attempts: list[int] = []

    def fail_twice() -> int:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return len(attempts)

    work(fail_twice=fail_twice)
    job = queue.options(backoff_s=0.01).put("fail_twice")
    assert job.result(DEADLINE_S) == 3
    assert job.attempts == 3
    assert queue.status()["retries"] == 2


def test_dead_jobs_raise_the_remote_error(queue: rpc.Queue, work: Work) -> None:
    """A job that fails for the last time is dead, and its result raises the error with the traceback."""

    def fail() -> None:
        raise ValueError("never")

    work(fail=fail)
    job = queue.options(max_attempts=2, backoff_s=0.01).put("fail")
    with pytest.raises(rpc.RemoteError, match="never") as raised:
        job.result(DEADLINE_S)
    assert raised.value.type == "ValueError"
    assert 'raise ValueError("never")' in raised.value.remote_traceback
    assert "attempt 2 of 2" in raised.value.__notes__
    assert (job.state, queue.status()["dead"]) == ("dead", 1)


def test_results_that_cannot_be_sent_fail(queue: rpc.Queue, work: Work) -> None:
    """A result without a form on the wire fails the job, and an argument without one is not put."""
    work(make=lambda: {"a": [object()]}, take=lambda value: None)
    with pytest.raises(rpc.RemoteError, match="a object at \\['a'\\]\\[0\\]"):
        queue.options(max_attempts=1).put("make").result(DEADLINE_S)
    with pytest.raises(TypeError, match="take: cannot send a object"):
        queue.put("take", object())


def test_unknown_functions_fail(queue: rpc.Queue, work: Work) -> None:
    """A job whose function the worker does not have fails with the names that it has."""
    work(known=int)
    with pytest.raises(rpc.RemoteError, match="unknown: the worker has known"):
        queue.options(max_attempts=1).put("unknown").result(DEADLINE_S)


def test_delays_and_keys(queue: rpc.Queue, work: Work) -> None:
    """A job with a delay does not run before, and a key names one job, also once it is done."""
    work(now=time.monotonic)
    put_s = time.monotonic()
    first, again = (queue.options(key="k", delay_s=0.2).put("now") for _ in range(2))
    assert first.id == again.id
    assert first.result(DEADLINE_S) >= put_s + 0.2
    assert queue.options(key="k").put("now").result(DEADLINE_S) == first.result(0)


def test_timeouts_cancel_coroutines(queue: rpc.Queue, work: Work) -> None:
    """A coroutine beyond its timeout is cancelled, and the job dead after its last attempt."""
    cancelled = threading.Event()

    async def stay() -> None:
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    work(stay=stay)
    with pytest.raises(rpc.DeadlineExceeded, match="exceeded its timeout"):
        queue.options(timeout_s=0.1, max_attempts=1).put("stay").result(DEADLINE_S)
    assert cancelled.wait(DEADLINE_S)


def test_functions_ask_whether_they_are_cancelled(queue: rpc.Queue, work: Work) -> None:
    """A plain function learns of the cancellation of its job, and of its timeout, from `cancelled`."""
    running, ended = threading.Event(), threading.Event()

    def stay() -> None:
        running.set()
        wait_for(rpc.cancelled)
        ended.set()

    work(stay=stay)
    job = queue.put("stay")
    assert running.wait(DEADLINE_S)
    assert job.cancel()
    with pytest.raises(rpc.JobCancelled):
        job.result(DEADLINE_S)
    assert ended.wait(DEADLINE_S)
    assert not job.cancel()
    assert job.state == "cancelled"


def test_waiting_for_a_result_ends(queue: rpc.Queue) -> None:
    """A wait for a result ends after its timeout, and the job stays."""
    job = queue.put("anything")
    with pytest.raises(rpc.DeadlineExceeded, match=r"anything: no result within 0\.01 s"):
        job.result(0.01)
    assert job.state == "waiting"


def test_one_worker_serves_many_queues(queue: rpc.Queue) -> None:
    """A worker takes jobs of all its queues."""
    functions = {"add": lambda first, second: first + second}
    with (
        rpc.Queue("tcp://127.0.0.1:0") as other,
        rpc.Worker(functions, queue.endpoint, other.endpoint),
    ):
        assert queue.put("add", 1, 2).result(DEADLINE_S) == 3
        assert other.put("add", 3, 4).result(DEADLINE_S) == 7


def test_closing_workers_finish_what_they_have(queue: rpc.Queue, work: Work) -> None:
    """A worker that is closed ends its jobs, and gives others the rest."""
    running, go_on = threading.Event(), threading.Event()

    def stay() -> str:
        running.set()
        assert go_on.wait(DEADLINE_S)
        return "done"

    worker = work(stay=stay, credits=1)
    first, second = queue.put("stay"), queue.put("stay")
    assert running.wait(DEADLINE_S)
    closing = threading.Thread(target=worker.close)
    closing.start()
    wait_for(lambda: [each["credits"] for each in queue.status()["workers"]] == [0])
    go_on.set()
    assert first.result(DEADLINE_S) == "done"
    closing.join(DEADLINE_S)
    assert second.state == "waiting"
    work(stay=stay)
    assert second.result(DEADLINE_S) == "done"
    assert second.attempts == 1


def test_closed_queues_take_no_jobs() -> None:
    """A closed queue takes no jobs, and those that are left raise."""
    queue = rpc.Queue("tcp://127.0.0.1:0")
    job = queue.put("anything")
    queue.close()
    queue.close()
    with pytest.raises(rpc.QueueError, match="closed before"):
        job.result(DEADLINE_S)
    with pytest.raises(rpc.QueueError, match="the queue is closed"):
        queue.put("anything")


def test_invalid_arguments(queue: rpc.Queue) -> None:
    """Addresses that are invalid or in use, and numbers that make no sense, are refused."""
    with pytest.raises(EndpointError, match="in use"):
        rpc.Queue(queue.endpoint)
    with pytest.raises(EndpointError):
        rpc.Worker({"one": int}, "nonsense").start()
    with pytest.raises(SettingsError, match="address of a queue"):
        rpc.Worker({"one": int})
    with pytest.raises(SettingsError, match="credit"):
        rpc.Worker({"one": int}, queue.endpoint, credits=0)
    with pytest.raises(ValueError, match="max_attempts"):
        queue.options(max_attempts=0)


def test_rubbish_is_ignored(queue: rpc.Queue, work: Work) -> None:
    """Messages that are no events harm neither a queue nor the work of others."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 10_000
        socket.connect(queue.endpoint)
        headers: list[Any] = [{}, {"zt": {"worker": "w"}}, {"zt": {"worker": "w"}, "response_to": "x:1"}]
        contents: list[Any] = [[], [1], [{"credits": "x", "held": 5, "about": 1}], [{}, {}]]
        for header in headers:
            for name in ("_zt_beat", "OK", "ERR", "_zt_bye", "nope"):
                for args in contents:
                    socket.send_multipart([b"", msgpack.packb([header, name, args])])
        for frames in ([b""], [b"", b""], [b"\xc1"], [b"", b"\x91" * 5000]):
            socket.send_multipart(frames)
        work(double=lambda number: 2 * number)
        assert queue.put("double", 2).result(DEADLINE_S) == 4


def test_a_queue_is_inspected_by_calls(queue: rpc.Queue, work: Work) -> None:
    """A client lists, retries and drops the jobs of a queue, as `ztrace rpc queue` does."""

    def fail() -> None:
        raise ValueError("x")

    work(fail=fail)
    dead = queue.options(max_attempts=1, key="k").put("fail")
    delayed = queue.options(delay_s=1000.0).put("other", 1, two="2")
    with pytest.raises(rpc.RemoteError):
        dead.result(DEADLINE_S)
    with rpc.Client(queue.endpoint) as client:
        status = client.call("status")
        assert (status["dead"], status["delayed"], status["waiting"]) == (1, 1, 0)
        assert [each["credits"] for each in status["workers"]] == [2]
        first, second = client.call("list")
        assert (first["id"], first["state"], first["attempts"], first["key"]) == (dead.id, "dead", 1, "k")
        assert first["error"] == "ValueError: x"
        assert (second["id"], second["args"], second["state"]) == (delayed.id, "1, two='2'", "delayed")
        assert [each["id"] for each in client.call("list", "dead", limit=5)] == [dead.id]
        assert client.call("retry", delayed.id, "nonsense") == 0
        assert client.call("retry") == 1
        wait_for(lambda: client.call("status")["dead"] == 1)
        assert client.call("drop", dead.id, delayed.id) == 2
        assert client.call("list") == []
        assert client.call("_zerorpc_list") == ["status", "list", "retry", "drop"]
        with pytest.raises(rpc.RemoteError, match="lst"):
            client.call("lst")
    with pytest.raises(rpc.JobCancelled):
        delayed.result(DEADLINE_S)


def test_workers_need_keys(tmp_path: Path) -> None:
    """A worker with a key gets the jobs of a queue with keys, one without gets none."""
    folder = KeyFolder(tmp_path / "keys")
    folder.create()
    key = folder.add("images").format()
    with rpc.Queue("tcp://127.0.0.1:0", keys=folder.path) as queue:
        job = queue.put("double", 1)
        with rpc.Worker({"double": lambda number: 0}, queue.endpoint):
            with rpc.Worker({"double": lambda number: 2 * number}, queue.endpoint, key=key):
                assert job.result(DEADLINE_S) == 2
            wait_for(lambda: queue.status()["workers"] == [])
    with pytest.raises(EndpointError, match="no keys"):
        rpc.Queue("tcp://*:0")


IDS = st.sampled_from(["a:1", "a:2", "b:1", "x", "", 5, None])
VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(IDS, max_size=3)
BEATS = st.fixed_dictionaries(
    {"credits": VALUES, "held": st.lists(IDS, max_size=4), "token": VALUES, "mark": VALUES, "about": VALUES}
)
HEADERS = st.fixed_dictionaries(
    {}, optional={"response_to": IDS, "message_id": IDS, "v": VALUES, "zt": st.just({"worker": "w"}) | VALUES}
)
NAMES = st.sampled_from(
    ["_zt_beat", "_zt_bye", "OK", "ERR", "status", "list", "retry", "_zt_call", "_zerorpc_inspect", "nope"]
)


@given(
    messages=st.lists(st.tuples(HEADERS, NAMES, st.lists(BEATS | VALUES, max_size=4) | VALUES), max_size=20)
)
def test_any_events_leave_a_queue_sound(messages: list[Any]) -> None:
    """Whatever a peer sends, the jobs of others run to their end."""
    with rpc.Queue("tcp://127.0.0.1:0") as queue:
        job = queue.options(key="k").put("double", 2)
        for number, message in enumerate(messages):
            with contextlib.suppress(Exception):  # As in the queue's thread, which ignores the message.
                queue._take([b"%d" % number, b""], msgpack.packb(message))
        with queue._lock:
            for peer in list(queue._core.workers):
                queue._core.leave(peer, queue._now())
        with rpc.Worker({"double": lambda number: 2 * number}, queue.endpoint):
            assert job.result(DEADLINE_S) == 4


def test_damaged_jobs_fail(queue: rpc.Queue, work: Work) -> None:
    """A job that the worker cannot read fails, and the worker runs the next."""
    queue._core.add(task := Task("damaged", "double", b"\xc1", max_attempts=1), queue._now())
    work(double=lambda number: 2 * number)
    assert queue.put("double", 2).result(DEADLINE_S) == 4
    wait_for(lambda: task.state == "dead")
