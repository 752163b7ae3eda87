"""Cores of queue and worker, against a network that is played: it delays, breaks and loses."""

from collections import Counter, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ztrace.rpc.queueing.core import CLAIM_S, KEEP_S, SILENT_S, TIMED_OUT, WORKER_LOST, Beat, QueueCore
from ztrace.rpc.queueing.holding import RESEND_S, Holding
from ztrace.rpc.queueing.tasks import CANCELLED, DEAD, DONE, RUNNING, WAITING, Failed, Task

CREDITS = 2


def make_task(number: int, **changes: Any) -> Task:
    """Return a job."""
    return Task(f"job{number}", "resize", b"", **{"max_attempts": 1000, **changes})


class Node:
    """Worker of the played network.

    Attributes:
        inbox: what the queue has sent and the worker has not read.
        outbox: what the worker has sent and the queue has not read.
        connected: whether anything arrives.
    """

    def __init__(self) -> None:
        self.holding = Holding()
        self.inbox: deque[tuple[Any, ...]] = deque()
        self.outbox: deque[tuple[Any, ...]] = deque()


class Network(RuleBasedStateMachine):
    """Queue with a spool and workers, whose processes are killed and whose connections break."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.core = QueueCore()
        self.token = 0
        self.spool: dict[str, tuple[Task, str, int]] = {}
        self.nodes: dict[bytes, Node] = {}
        self.put = 0
        self.runs: Counter[str] = Counter()
        self.done: set[str] = set()
        self.at_risk = 0
        self.number = 0

    def carry_out(self) -> None:
        """Save what has changed, then send what is to be sent."""
        for task in self.core.changed.values():
            if task.id in self.core.tasks:
                self.spool[task.id] = (task, task.state, task.attempts)
            else:
                self.spool.pop(task.id, None)
        self.core.changed.clear()
        for task in self.core.settled:
            assert task.state == DONE
            assert task.id not in self.done
            self.done.add(task.id)
        self.core.settled.clear()
        for kind, peer, *rest in self.core.actions:
            if peer in self.nodes:
                self.nodes[peer].inbox.append((kind, *rest))
        self.core.actions.clear()

    @rule(jobs=st.integers(1, 4))
    def put_jobs(self, jobs: int) -> None:
        """Jobs are put."""
        for _ in range(jobs):
            self.core.add(make_task(self.put), self.now_s)
            self.put += 1
        self.carry_out()

    @rule()
    def start_worker(self) -> None:
        """A worker starts, and tells its credits."""
        if len(self.nodes) < 3:
            self.number += 1
            peer = b"%d" % self.number
            self.nodes[peer] = Node()
            self.beat(peer)

    def beat(self, peer: bytes) -> None:
        """Send a worker's beat, and results that are due again."""
        node = self.nodes[peer]
        mark = node.holding.mark if node.holding.token == str(self.token) else 0
        for result in node.holding.take_due(self.now_s):
            node.outbox.append(("result", result))
        node.outbox.append(("beat", Beat(CREDITS, node.holding.held, mark)))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def work(self, data: st.DataObject) -> None:
        """A worker reads some messages, and finishes some jobs."""
        peer = data.draw(st.sampled_from(sorted(self.nodes)))
        node = self.nodes[peer]
        for _ in range(min(data.draw(st.sampled_from([1, 100])), len(node.inbox))):
            self.read(node)
        for attempt_id in sorted(node.holding.open)[: data.draw(st.integers(0, CREDITS))]:
            node.holding.finish(attempt_id, attempt_id, self.now_s)
            node.outbox.append(("result", attempt_id))

    def read(self, node: Node) -> None:
        """Have a worker read one message; it runs a job at once."""
        kind, *rest = node.inbox.popleft()
        if kind == "job":
            if node.holding.take(rest[1]):
                self.runs[rest[0].id] += 1
        elif kind == "ack":
            node.holding.acknowledge(rest)
        elif kind == "mark":
            node.holding.hear(*rest)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """The queue reads some messages of a worker."""
        peer = data.draw(st.sampled_from(sorted(self.nodes)))
        for _ in range(min(data.draw(st.sampled_from([100, 1])), len(self.nodes[peer].outbox))):
            self.hear_one(peer)

    def hear_one(self, peer: bytes) -> None:
        """Have the queue read one message of a worker."""
        kind, content = self.nodes[peer].outbox.popleft()
        if kind == "beat":
            self.core.hear(peer, content, self.now_s)
        else:
            self.core.finish(peer, content, None, None, self.now_s)
        self.carry_out()

    @rule(passed_s=st.sampled_from([0.1, RESEND_S, CLAIM_S, SILENT_S + 0.5]))
    def pass_time(self, passed_s: float) -> None:
        """Time passes; everybody beats, and the queue gives up those it has not heard."""
        self.now_s += passed_s
        self.core.mark += 1
        for peer, node in self.nodes.items():
            node.inbox.append(("mark", str(self.token), self.core.mark))
            self.beat(peer)
        silent = [each for each in self.core.workers.values() if self.now_s - each.heard_s > SILENT_S]
        self.at_risk += sum(len(each.attempts) for each in silent)
        self.core.check(self.now_s)
        self.carry_out()

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def kill_worker(self, data: st.DataObject) -> None:
        """A worker is killed."""
        peer = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[peer]
        self.at_risk += CREDITS
        self.core.lose(peer, self.now_s)
        self.carry_out()

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def break_connection(self, data: st.DataObject) -> None:
        """A connection breaks, and loses what was on the way."""
        node = self.nodes[data.draw(st.sampled_from(sorted(self.nodes)))]
        node.inbox.clear()
        node.outbox.clear()

    @rule()
    def restart_queue(self) -> None:
        """The queue is killed, and started with its spool; all connections break."""
        self.at_risk += CREDITS * len(self.nodes)
        for node in self.nodes.values():
            node.inbox.clear()
            node.outbox.clear()
        restored = []
        for task, state, attempts in self.spool.values():
            task.state, task.attempts = state, attempts
            restored.append(task)
        self.core = QueueCore()
        self.token += 1
        self.core.restore(restored, self.now_s)

    @invariant()
    def holds(self) -> None:
        """No job is lost or run too often, and no worker has more in hand than its credits."""
        assert self.done | set(self.core.tasks) == {f"job{number}" for number in range(self.put)}
        assert not self.done & set(self.core.tasks)
        assert sum(count - 1 for count in self.runs.values()) <= self.at_risk
        for node in self.nodes.values():
            assert len(node.holding.held) <= CREDITS
        for worker in self.core.workers.values():
            for attempt in worker.attempts.values():
                assert attempt.task is None or attempt.task.state == RUNNING

    def teardown(self) -> None:
        """Let everything settle: every job is done in the end."""
        self.start_worker()
        for _ in range(6 + self.put):
            self.pass_time(RESEND_S)
            for peer, node in self.nodes.items():
                while node.inbox:
                    self.read(node)
                for attempt_id in sorted(node.holding.open):
                    node.holding.finish(attempt_id, attempt_id, self.now_s)
                    node.outbox.append(("result", attempt_id))
                while node.outbox:
                    self.hear_one(peer)
        assert self.done == {f"job{number}" for number in range(self.put)}
        self.holds()


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=settings().max_examples * 2, stateful_step_count=40)


def make_queue(*tasks: Task, credits: int = CREDITS) -> QueueCore:
    """Return a queue with these jobs and one worker, at time 0."""
    core = QueueCore()
    for task in tasks:
        core.add(task, 0.0)
    core.hear(b"w", Beat(credits, [], 0), 0.0)
    return core


def sent(core: QueueCore) -> list[tuple[Any, ...]]:
    """Return the actions since the last time, a job as its id."""
    actions = [
        tuple(each.id if isinstance(each, Task) else each for each in action) for action in core.actions
    ]
    core.actions.clear()
    return actions


FAILED: Failed = (["ValueError", "x", ""], None)


def test_credits_bound_what_a_worker_holds() -> None:
    """A worker gets as many jobs as it has credits, and the next once one is finished."""
    core = make_queue(*(make_task(number) for number in range(3)))
    assert sent(core) == [("job", b"w", "job0", "job0:1"), ("job", b"w", "job1", "job1:1")]
    core.finish(b"w", "job0:1", None, 5, 1.0)
    assert sent(core) == [("ack", b"w", "job0:1"), ("job", b"w", "job2", "job2:1")]
    assert [(task.state, task.result) for task in core.settled] == [(DONE, 5)]


def test_jobs_go_to_the_worker_with_most_credits() -> None:
    """The worker with the most free credits gets the next job."""
    core = make_queue()
    core.hear(b"v", Beat(5, [], 0), 0.0)
    core.add(make_task(0), 0.0)
    assert sent(core) == [("job", b"v", "job0", "job0:1")]


def test_failures_wait_longer_each_time_until_the_job_is_dead() -> None:
    """A job that fails waits twice as long after each attempt, and is dead after the last."""
    core = make_queue(task := make_task(0, max_attempts=3))
    for number, (at_s, due_s) in enumerate([(0.0, 1.0), (1.0, 3.0)], 1):
        core.finish(b"w", f"job0:{number}", FAILED, None, at_s)
        assert (task.state, task.due_s, core.next_due_s(at_s)) == (WAITING, due_s, due_s)
        core.check(due_s - 0.1)
        assert task.state == WAITING
        core.hear(b"w", Beat(CREDITS, [], 0), due_s)
        assert task.state == RUNNING
    core.finish(b"w", "job0:3", FAILED, None, 3.0)
    assert (task.state, task.attempts, task.failure, core.settled) == (DEAD, 3, FAILED, [task])
    assert core.totals["retries"] == 2


def test_dead_jobs_are_retried_from_the_start() -> None:
    """A dead job that is retried has all its attempts again, and no other job can be retried."""
    core = make_queue(task := make_task(0, max_attempts=1))
    assert not core.retry(task, 0.0)
    core.finish(b"w", "job0:1", FAILED, None, 0.0)
    assert core.retry(task, 1.0)
    assert (task.state, task.attempts, sent(core)[-1]) == (RUNNING, 1, ("job", b"w", "job0", "job0:2"))
    core.finish(b"w", "job0:2", None, 1, 1.0)
    assert task.state == DONE
    assert not core.retry(task, 1.0)


def test_lost_workers_cost_an_attempt_and_no_wait() -> None:
    """The jobs of a worker that falls silent are due at once; a job that costs all its workers is dead."""
    core = make_queue(task := make_task(0, max_attempts=2))
    core.check(SILENT_S + 0.1)
    assert (core.workers, task.state, task.attempts, task.due_s) == ({}, WAITING, 1, SILENT_S + 0.1)
    core.hear(b"v", Beat(CREDITS, [], 0), 4.0)
    core.lose(b"v", 5.0)
    assert (task.state, task.failure) == (DEAD, (WORKER_LOST, None))


def test_unread_messages_count_as_signs_of_life() -> None:
    """A queue that was stopped gives up no worker before it has read what has arrived meanwhile."""
    core = make_queue(task := make_task(0))
    core.check(60.0, drained=False)
    assert task.state == RUNNING
    core.hear(b"w", Beat(CREDITS, ["job0:1"], 0), 60.0)
    core.check(60.0)
    assert (task.state, task.attempts) == (RUNNING, 1)


def test_late_results_of_lost_workers_count() -> None:
    """A worker that was given up and returns settles its job, which is cancelled where it runs again."""
    core = make_queue(task := make_task(0))
    core.lose(b"w", 1.0)
    core.hear(b"v", Beat(CREDITS, [], 0), 1.0)
    sent(core)
    core.hear(b"w", Beat(CREDITS, ["job0:1"], 0), 2.0)
    assert sent(core) == []
    core.finish(b"w", "job0:1", None, "late", 2.0)
    assert sent(core) == [("ack", b"w", "job0:1"), ("cancel", b"v", "job0:2")]
    assert (task.state, task.result) == (DONE, "late")
    core.finish(b"v", "job0:2", None, "again", 3.0)
    assert core.settled == [task]
    assert task.result == "late"


def test_timeouts_occupy_the_credit_until_the_worker_lets_go() -> None:
    """An attempt beyond its timeout is cancelled and repeated; its worker gets no other job meanwhile."""
    core = make_queue(task := make_task(0, timeout_s=2.0), credits=1)
    sent(core)
    core.check(1.9)
    assert task.state == RUNNING
    core.check(2.0)
    assert (task.state, task.failure, sent(core)) == (
        WAITING,
        (TIMED_OUT, None),
        [("cancel", b"w", "job0:1")],
    )
    core.hear(b"w", Beat(1, ["job0:1"], 0), 4.0)
    assert sent(core) == []
    core.finish(b"w", "job0:1", FAILED, None, 4.5)
    assert sent(core) == [("ack", b"w", "job0:1"), ("job", b"w", "job0", "job0:2")]


def test_delays_hold_a_job_back() -> None:
    """A job with a delay is given to no worker before."""
    core = make_queue(task := make_task(0, due_s=5.0))
    core.check(4.9)
    assert task.state == WAITING
    core.hear(b"w", Beat(CREDITS, [], 0), 4.9)
    core.check(5.0)
    assert task.state == RUNNING


def test_cancelled_jobs_do_not_run() -> None:
    """A waiting job is removed, a running one is cancelled at its worker, and a dead one is dropped."""
    core = make_queue(running := make_task(0), waiting := make_task(1), credits=1)
    sent(core)
    assert core.cancel(waiting, 0.0)
    assert core.cancel(running, 0.0)
    assert not core.cancel(running, 0.0)
    assert sent(core) == [("cancel", b"w", "job0:1")]
    assert (running.state, waiting.state, core.tasks, core.totals["cancelled"]) == (
        CANCELLED,
        CANCELLED,
        {},
        2,
    )
    core.finish(b"w", "job0:1", None, 1, 0.0)
    assert core.settled == [waiting, running]


def test_keys_name_one_job() -> None:
    """A job is not put twice under one key, until an hour after it was done."""
    core = make_queue(task := make_task(0, key="k"))
    assert core.add(make_task(1, key="k"), 0.0) is task
    core.finish(b"w", "job0:1", None, "result", 1.0)
    assert core.add(make_task(1, key="k"), 2.0) is task
    core.check(1.0 + KEEP_S)
    assert core.tasks == {}
    assert core.add(again := make_task(1, key="k"), 1.0 + KEEP_S) is again


def test_leaving_workers_give_back_their_jobs() -> None:
    """A worker that leaves costs its jobs no attempt."""
    core = make_queue(task := make_task(0))
    core.leave(b"w", 1.0)
    assert (task.state, task.attempts, core.workers) == (WAITING, 0, {})


def test_restarted_queues_wait_for_claims() -> None:
    """A job that ran when its queue ended goes on at its worker, or is given to another after a while."""
    claimed, lost = make_task(0, state=RUNNING, attempts=1, serial=1), make_task(1, state=RUNNING, attempts=1)
    core = QueueCore()
    core.restore([claimed, lost], 0.0)
    core.hear(b"w", Beat(CREDITS, ["job0:1"], 0), 0.1)
    assert (claimed.state, claimed.attempts, lost.state, lost.attempts) == (RUNNING, 1, WAITING, 0)
    core.hear(b"w", Beat(CREDITS, ["job0:1"], 0), CLAIM_S)
    assert (lost.state, lost.attempts) == (RUNNING, 1)


def test_many_settled_jobs_leave_nothing_behind() -> None:
    """Jobs that are cancelled before their time take no memory."""
    core = QueueCore()
    for number in range(5000):
        core.cancel(core.add(make_task(number, due_s=1e9), 0.0), 0.0)
    assert core.tasks == {}
    assert len(core._due) < 2000
