"""Jobs as the program sees them: their state and their result."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

from ztrace import spans
from ztrace.exceptions import origins
from ztrace.rpc import failures
from ztrace.rpc.errors import DeadlineExceeded, JobCancelled, PeerLost
from ztrace.rpc.queueing.core import TIMED_OUT, WORKER_LOST
from ztrace.rpc.queueing.tasks import CANCELLED, DEAD, Task

#: Bytes of the trace id and the span id of an exception's origin
ORIGIN_BYTES: Final = 24


class Job:
    """Job in a queue, made by `Queue.put`; await it or call `result`.

    Attributes:
        id: text, unique among all queues.
        name: function that is called.
    """

    def __init__(self, task: Task, future: "Future[Any]", cancel: Callable[[Task], bool]) -> None:
        self.id, self.name = task.id, task.name
        self._task, self._future, self._cancel = task, future, cancel

    @property
    def state(self) -> str:
        """``waiting``, ``running``, ``done``, ``dead`` or ``cancelled``."""
        return self._task.state

    @property
    def attempts(self) -> int:
        """Attempts that were started so far."""
        return self._task.attempts

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the job, and return what its function has returned.

        Args:
            timeout_s: seconds to wait; None waits without limit. The job goes on after it.

        Raises:
            DeadlineExceeded: the wait, or the last attempt of a dead job, took too long.
            RemoteError: the job is dead; its last attempt raised this.
            PeerLost: the job is dead; the worker of the last attempt ended.
            JobCancelled: the job was cancelled or dropped.
            QueueError: the queue was closed before the job was done.
        """
        try:
            return self._future.result(timeout_s)
        except FutureTimeout:
            if self._future.done():
                raise
            raise DeadlineExceeded(f"{self.name}: no result within {timeout_s} s; the job goes on") from None

    def cancel(self) -> bool:
        """Cancel the job: one that waits is removed, one that runs is interrupted at its next await.

        A plain function runs on to its end, and can ask `rpc.cancelled`.

        Returns:
            False if the job was done or cancelled already.
        """
        return self._cancel(self._task)

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name} {self.state}>"


def settle(future: "Future[Any]", task: Task) -> None:
    """Give a future the outcome of a settled job, unless it has one."""
    if future.done():
        return
    error = error_of(task)
    if error is None:
        future.set_result(task.result)
    else:
        future.set_exception(error)


def error_of(task: Task) -> BaseException | None:
    """Return the exception of a job that is dead or cancelled, None of any other."""
    if task.state == CANCELLED:
        return JobCancelled(f"{task.name} was cancelled")
    if task.state != DEAD or task.failure is None:
        return None
    args, details = task.failure
    if args == WORKER_LOST:
        return PeerLost(f"{task.name}: {args[1]}")
    if args == TIMED_OUT:
        return DeadlineExceeded(f"{task.name}: {args[1]}")
    error = failures.rebuild(args, details, {})
    error.add_note(f"attempt {task.attempts} of {task.max_attempts}")
    origin = details.get("origin") if type(details) is dict else None
    if spans.publisher is not None and type(origin) is bytes and len(origin) == ORIGIN_BYTES:
        origins.mark_origin(error, origin[:16], origin[16:])
    return error
