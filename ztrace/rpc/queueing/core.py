"""Core of a queue: which worker runs which job, without socket, thread or clock.

Every job is held here until a worker has acknowledged it after the work, so a worker that dies costs no
job; at most the jobs that were in its hands run twice. A worker holds as many jobs as it has credits.

Two facts settle what a broken connection leaves open. A worker repeats results until they are acknowledged.
Each beat of a worker names the jobs in its hands and the last mark it has heard; marks follow the jobs on the
same connection, so a job that was sent before a mark and is not in hand has never arrived.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final

from ztrace.rpc.queueing.tasks import CANCELLED, DEAD, DONE, RUNNING, WAITING, Failed, Task

#: Silence after which a worker is given up; its beats come several times as often.
SILENT_S: Final = 3.0
#: Time that workers have to claim jobs they hold from before the queue was restarted.
CLAIM_S: Final = 2.0
#: Time for which the result of a job with a key is kept, and most of these.
KEEP_S, MAX_KEPT = 3600.0, 10_000

#: Failures of attempts that no worker has reported, as the arguments of an ERR.
WORKER_LOST: Final = ["WorkerLost", "the worker ended or fell silent during the job", ""]
TIMED_OUT: Final = ["DeadlineExceeded", "the job exceeded its timeout", ""]

#: Time that a worker has to reconnect once its connection is known to be broken.
DOUBT_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Attempt:
    """One run of a job at a worker.

    Attributes:
        id: of the attempt, the job's with a number.
        peer: identity of the worker.
        task: the job; None if the attempt only occupies a credit: the job is settled or runs elsewhere.
        mark: first mark that follows the job on its connection.
        deadline_s: when the attempt is given up; None for never.
    """

    id: str
    peer: bytes
    task: Task | None
    mark: int
    deadline_s: float | None = None


@dataclass(slots=True, eq=False)
class Worker:
    """A connected worker.

    Attributes:
        peer: identity, the same for all its connections.
        about: what the worker tells about itself.
        credits: jobs that the worker may hold.
        attempts: jobs in its hands, by id of the attempt.
        heard_s: when the last message came.
    """

    peer: bytes
    about: dict[str, Any]
    credits: int
    heard_s: float
    attempts: dict[str, Attempt] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life.

    Attributes:
        credits: jobs that the worker takes; 0 while it is closing.
        held: ids of the attempts in its hands, those with unacknowledged results included.
        mark: last mark that it has heard of this queue; 0 for none.
        about: what the worker tells about itself.
    """

    credits: int
    held: Sequence[str]
    mark: int
    about: dict[str, Any] = field(default_factory=dict)


class QueueCore:
    """Jobs and workers of one queue; the driver passes the time, and carries out `actions` and `changed`.

    Attributes:
        tasks: jobs by id; those that are done stay only while their key is kept.
        workers: by identity.
        actions: what to send, in order: ("job", peer, task, attempt), ("cancel", peer, attempt id) and
            ("ack", peer, attempt id).
        settled: jobs that were settled since the driver took the last.
        changed: jobs to be saved, or to be deleted from the spool once they are no longer in `tasks`.
        mark: last mark that was sent.
        totals: jobs that were done and cancelled, and attempts that were repeated.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.workers: dict[bytes, Worker] = {}
        self.actions: list[tuple[Any, ...]] = []
        self.settled: list[Task] = []
        self.changed: dict[str, Task] = {}
        self.mark = 0
        self.totals = {"done": 0, "cancelled": 0, "retries": 0}
        self._keys: dict[str, Task] = {}
        self._kept: dict[str, Task] = {}
        self._running: dict[str, Attempt] = {}
        self._due: list[tuple[float, int, Task]] = []
        #: Restored jobs whose last attempt is not counted unless its worker claims it.
        self._claimable: set[str] = set()
        self._order = count()

    def add(self, task: Task, now_s: float) -> Task:
        """Take a job; return the known one instead if its key is known."""
        if task.key is not None:
            known = self._keys.setdefault(task.key, task)
            if known is not task:
                return known
        self.tasks[task.id] = self.changed[task.id] = task
        self._wait(task, max(task.due_s, now_s))
        self.assign(now_s)
        return task

    def restore(self, tasks: Iterable[Task], now_s: float) -> None:
        """Take the jobs of a spool; those that ran wait for their workers to claim them."""
        for task in tasks:
            self.tasks[task.id] = task
            if task.key is not None:
                self._keys[task.key] = task
            if task.state == RUNNING:
                task.attempts -= 1
                self._claimable.add(task.id)
                self._wait(task, now_s + CLAIM_S)
            elif task.state == WAITING:
                self._wait(task, task.due_s)
            elif task.state == DONE:
                self._kept[task.id] = task

    def hear(self, peer: bytes, beat: Beat, now_s: float) -> None:
        """Process a worker's beat: claim what it holds, and put back what never arrived."""
        worker = self.workers.get(peer)
        if worker is None:
            worker = self.workers[peer] = Worker(peer, beat.about, beat.credits, now_s)
        worker.heard_s, worker.credits, worker.about = now_s, beat.credits, beat.about or worker.about
        for held in beat.held:
            if held not in worker.attempts:
                self._claim(worker, held, now_s)
        held_ids = set(beat.held)
        for attempt in [each for each in worker.attempts.values() if each.id not in held_ids]:
            if attempt.mark <= beat.mark:
                self._give_back(worker, attempt, now_s)
        self.assign(now_s)

    def finish(self, peer: bytes, attempt_id: str, failure: Failed | None, result: Any, now_s: float) -> None:
        """Process the result of an attempt, which is acknowledged even if nobody needs it.

        Args:
            peer: identity of the worker.
            attempt_id: the attempt that has ended.
            failure: arguments of its ERR and the details beside them; None if it succeeded.
            result: value that the function has returned.
            now_s: current time.
        """
        self.actions.append(("ack", peer, attempt_id))
        worker = self.workers.get(peer)
        if worker is not None:
            worker.heard_s = now_s
            worker.attempts.pop(attempt_id, None)
        task = self.tasks.get(attempt_id.rpartition(":")[0])
        if task is not None and not task.is_settled:
            current = self._running.get(task.id)
            if failure is None:
                if current is not None and current.id != attempt_id:
                    self._cancel_attempt(current)
                self._settle(task, DONE, now_s, result=result)
            elif current is not None and current.id == attempt_id:
                self._fail(task, failure, task.next_backoff_s(), now_s)
        self.assign(now_s)

    def leave(self, peer: bytes, now_s: float) -> None:
        """Put back what a closing worker has not finished, none of which counts as an attempt."""
        worker = self.workers.pop(peer, None)
        if worker is not None:
            for attempt in list(worker.attempts.values()):
                self._give_back(worker, attempt, now_s)
            self.assign(now_s)

    def lose(self, peer: bytes, now_s: float) -> None:
        """Give a worker up: its jobs are attempted again, without a wait."""
        worker = self.workers.pop(peer, None)
        if worker is not None:
            for attempt in worker.attempts.values():
                if attempt.task is not None:
                    self._fail(attempt.task, (list(WORKER_LOST), None), 0.0, now_s)
            self.assign(now_s)

    def doubt(self, peer: bytes, now_s: float) -> None:
        """Note that a worker's connection is broken: it is given up soon unless it is heard again."""
        worker = self.workers.get(peer)
        if worker is not None:
            worker.heard_s = min(worker.heard_s, now_s - SILENT_S + DOUBT_S)

    def check(self, now_s: float, *, drained: bool = True) -> None:
        """Give up silent workers and late attempts, start what is due, and forget old keys.

        Args:
            now_s: current time.
            drained: all messages that have arrived were processed; otherwise no worker is judged by silence.
        """
        for worker in list(self.workers.values()):
            if drained and now_s - worker.heard_s > SILENT_S:
                self.lose(worker.peer, now_s)
        for attempt in list(self._running.values()):
            if attempt.deadline_s is not None and now_s >= attempt.deadline_s and attempt.task is not None:
                task = attempt.task
                self._cancel_attempt(attempt)
                self._fail(task, (list(TIMED_OUT), None), task.next_backoff_s(), now_s)
        while self._kept:
            task = next(iter(self._kept.values()))
            if len(self._kept) <= MAX_KEPT and now_s - task.settled_s < KEEP_S:
                break
            self._forget(task)
        self.assign(now_s)

    def assign(self, now_s: float) -> None:
        """Send jobs that are due to the workers with the most free credits."""
        while (task := self._next_due(now_s)) is not None:
            worker = max(self.workers.values(), key=_free, default=None)
            if worker is None or _free(worker) <= 0:
                return
            heappop(self._due)
            self._claimable.discard(task.id)
            task.state = RUNNING
            task.attempts += 1
            task.serial += 1
            attempt = Attempt(f"{task.id}:{task.serial}", worker.peer, task, self.mark + 1)
            if task.timeout_s is not None:
                attempt.deadline_s = now_s + task.timeout_s
            worker.attempts[attempt.id] = self._running[task.id] = attempt
            self.changed[task.id] = task
            self.actions.append(("job", worker.peer, task, attempt.id))

    def next_due_s(self, now_s: float) -> float | None:
        """Return when the next waiting job is due; None if none waits."""
        self._next_due(now_s)
        return self._due[0][0] if self._due else None

    def cancel(self, task: Task, now_s: float) -> bool:
        """Cancel a job, wherever it is; return False if it is done or cancelled."""
        if task.state in (DONE, CANCELLED) or task.id not in self.tasks:
            return False
        attempt = self._running.get(task.id)
        if attempt is not None:
            self._cancel_attempt(attempt)
        self._settle(task, CANCELLED, now_s)
        self.assign(now_s)
        return True

    def retry(self, task: Task, now_s: float) -> bool:
        """Put a dead job back, with all its attempts before it; return False if it is not dead."""
        if task.state != DEAD or task.id not in self.tasks:
            return False
        task.attempts = 0
        self.changed[task.id] = task
        self._wait(task, now_s)
        self.assign(now_s)
        return True

    def worker_of(self, task: Task) -> Worker | None:
        """Return the worker that runs a job; None if none does."""
        attempt = self._running.get(task.id)
        return None if attempt is None else self.workers.get(attempt.peer)

    def _next_due(self, now_s: float) -> Task | None:
        while self._due:
            due_s, _, task = self._due[0]
            if task.state != WAITING or task.due_s != due_s:
                heappop(self._due)  # Settled or put back meanwhile.
            else:
                return task if due_s <= now_s else None
        return None

    def _wait(self, task: Task, due_s: float) -> None:
        task.state, task.due_s = WAITING, due_s
        if len(self._due) > 1000 and len(self._due) > 4 * len(self.tasks):
            self._due = [each for each in self._due if each[2].state == WAITING and each[2].due_s == each[0]]
            heapify(self._due)
        heappush(self._due, (due_s, next(self._order), task))

    def _claim(self, worker: Worker, attempt_id: str, now_s: float) -> None:
        """Note a job in a worker's hands that the queue has not given it, or has given up."""
        task_id, _, number = attempt_id.rpartition(":")
        task = self.tasks.get(task_id)
        if task is not None and task.state == WAITING and number.isdecimal():
            task.state = RUNNING
            if task.id in self._claimable:
                self._claimable.remove(task.id)
                task.attempts += 1
            attempt = Attempt(attempt_id, worker.peer, task, 0)
            if task.timeout_s is not None:
                attempt.deadline_s = now_s + task.timeout_s
            self._running[task.id] = attempt
            task.serial = max(task.serial, int(number))
            self.changed[task.id] = task
        else:
            attempt = Attempt(attempt_id, worker.peer, None, 0)
            if task is None or task.is_settled:
                self.actions.append(("cancel", worker.peer, attempt_id))
        worker.attempts[attempt_id] = attempt

    def _give_back(self, worker: Worker, attempt: Attempt, now_s: float) -> None:
        worker.attempts.pop(attempt.id, None)
        task = attempt.task
        if task is not None:
            self._running.pop(task.id, None)
            task.attempts -= 1
            self.changed[task.id] = task
            self._wait(task, now_s)

    def _cancel_attempt(self, attempt: Attempt) -> None:
        """Have a worker stop an attempt, which occupies its credit until the worker lets go."""
        if attempt.task is not None:
            self._running.pop(attempt.task.id, None)
        attempt.task = None
        if attempt.peer in self.workers:
            self.actions.append(("cancel", attempt.peer, attempt.id))

    def _fail(self, task: Task, failure: Failed, backoff_s: float, now_s: float) -> None:
        self._running.pop(task.id, None)
        task.failure = failure
        self.changed[task.id] = task
        if task.attempts >= task.max_attempts:
            self._settle(task, DEAD, now_s)
        else:
            self.totals["retries"] += 1
            self._wait(task, now_s + backoff_s)

    def _settle(self, task: Task, state: str, now_s: float, result: Any = None) -> None:
        task.state, task.result, task.settled_s = state, result, now_s
        self._running.pop(task.id, None)
        self.changed[task.id] = task
        self.settled.append(task)
        if state in self.totals:
            self.totals[state] += 1
        if state == DONE and task.key is not None:
            self._kept[task.id] = task
        elif state != DEAD:
            self._forget(task)

    def _forget(self, task: Task) -> None:
        self.tasks.pop(task.id, None)
        self._kept.pop(task.id, None)
        self._claimable.discard(task.id)
        if task.key is not None and self._keys.get(task.key) is task:
            del self._keys[task.key]
        self.changed[task.id] = task


def _free(worker: Worker) -> int:
    return worker.credits - len(worker.attempts)
