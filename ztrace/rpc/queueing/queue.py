"""Queue of a producer: jobs in, results out, and the thread that serves the workers.

queue = rpc.Queue("tcp://127.0.0.1:4300", spool="jobs.spool")
job = queue.put("resize", "cat.jpg", width=640)
job.result(timeout_s=60)
"""

import logging
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import zmq

from ztrace import spans
from ztrace.middleware.kit import new_span, write_context
from ztrace.rpc import wire
from ztrace.rpc.errors import QueueError
from ztrace.rpc.looping import check_threads
from ztrace.rpc.queueing import events
from ztrace.rpc.queueing.core import Beat, QueueCore
from ztrace.rpc.queueing.inspecting import Inspector
from ztrace.rpc.queueing.job import Job, settle
from ztrace.rpc.queueing.port import BUDGET, Port
from ztrace.rpc.queueing.tasks import Task
from ztrace.rpc.waking import Waker
from ztrace.spans import PRODUCER

if TYPE_CHECKING:
    from ztrace.rpc.queueing.spool import Spool

#: Bytes of a job's message beside the job, at most
_MAX_HEADER: Final = 1 << 16
#: Longest time between two looks at what is due.
LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """Options of jobs, made by `Queue.options`; `put` puts a job with them.

    Attributes:
        key: idempotency key: a job with a key that is known is not put again.
        delay_s: seconds before the job may run.
        timeout_s: limit of one attempt; None for no limit.
        max_attempts: attempts after which the job is dead.
        backoff_s: wait after the first failure, doubled by each further one up to five minutes.
    """

    _queue: "Queue"
    key: str | None = None
    delay_s: float = 0.0
    timeout_s: float | None = None
    max_attempts: int = 5
    backoff_s: float = 1.0

    def put(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """Put a job with these options, as `Queue.put` does."""
        return self._queue._put(self, name, args, kwargs)


class Queue:
    """Jobs of one producer, served to any number of workers; close it, or use it in a ``with`` block.

    Args:
        endpoint: to bind; workers connect to it. ``tcp://127.0.0.1:0`` takes a free port.
        spool: file in which jobs outlive this process; None keeps them in memory only.
        keys: folder of `ztrace keys` with those of the workers that may connect; needed where other machines
            can reach the address.

    Attributes:
        endpoint: actual address.

    Raises:
        EndpointError: the address is invalid, in use, or open to other machines without keys.
        QueueError: the spool cannot be used.
        SettingsError: gevent has patched this process.
    """

    def __init__(
        self,
        endpoint: str,
        spool: str | os.PathLike[str] | None = None,
        keys: str | os.PathLike[str] | None = None,
    ) -> None:
        check_threads()
        self._port = Port(endpoint, None if keys is None else os.fspath(keys), self._doubt)
        self.endpoint = self._port.endpoint
        try:
            self._spool = None if spool is None else _open_spool(os.fspath(spool))
        except BaseException:
            self._port.close()
            raise
        self._core = QueueCore()
        self._lock = threading.RLock()
        self._waker = Waker()
        self._new_id = wire.make_ids()
        self._futures: dict[str, Future[Any]] = {}
        self._token = os.urandom(8).hex()
        self._start_s = time.time() - time.monotonic()
        self._process_id = os.getpid()
        self._closed = self._spool_failed = False
        self._plain = Options(self)
        if self._spool is not None:
            self._core.restore(self._spool.load(), self._now())
        self._inspector = Inspector(self._core, None if spool is None else os.fspath(spool), self._now)
        self._thread = threading.Thread(target=self._run, name="ztrace-rpc-queue", daemon=True)
        self._thread.start()

    def put(self, name: str, /, *args: Any, **kwargs: Any) -> Job:
        """Put a job: a worker will call the function of this name.

        With a spool the job is in the file when this returns.

        Args:
            name: function to call.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            TypeError: an argument cannot be sent.
            QueueError: the queue is closed, or the spool cannot be written.
        """
        return self._put(self._plain, name, args, kwargs)

    def options(
        self,
        *,
        key: str | None = None,
        delay_s: float = 0.0,
        timeout_s: float | None = None,
        max_attempts: int = 5,
        backoff_s: float = 1.0,
    ) -> Options:
        """Return options for jobs: ``queue.options(key="order-7", delay_s=60).put("charge", 12)``."""
        if max_attempts < 1:
            raise ValueError("max_attempts is at least 1")
        return replace(
            self._plain,
            key=key,
            delay_s=delay_s,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            backoff_s=backoff_s,
        )

    def status(self) -> dict[str, Any]:
        """Return how many jobs are in each state, and the workers, as ``ztrace rpc queue`` shows them."""
        with self._lock:
            return self._inspector.status()

    def close(self) -> None:
        """Stop serving the workers; the jobs that are left stay in the spool, or are lost without one."""
        if self._closed or self._process_id != os.getpid():
            return
        self._closed = True
        self._waker.wake()
        self._thread.join()
        with self._lock:
            if self._spool is not None:
                self._save()
                self._spool.close()
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(QueueError("the queue was closed before the job was done"))
            self._futures.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _now(self) -> float:
        """Return the Unix time by the monotonic clock, which no change of the machine's clock moves."""
        return self._start_s + time.monotonic()

    def _put(self, options: Options, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job:
        if spans.publisher is None:
            return self._add(options, name, args, kwargs, {})
        with new_span(name, PRODUCER, {"messaging.system": "ztrace"}) as span:
            context: dict[str, str] = {}
            write_context(span, context)
            job = self._add(options, name, args, kwargs, context)
            span.set(**{"messaging.message.id": job.id})
            return job

    def _add(
        self,
        options: Options,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: dict[str, str],
    ) -> Job:
        if self._process_id != os.getpid():
            raise QueueError("the queue belongs to the parent process", hint="a forked child makes its own")
        now_s = self._now()
        task = Task(
            self._new_id().decode(),
            name,
            _pack_body(name, args, kwargs),
            key=options.key,
            timeout_s=options.timeout_s,
            max_attempts=options.max_attempts,
            backoff_s=options.backoff_s,
            created_s=now_s,
            due_s=now_s + options.delay_s,
            context=context,
        )
        with self._lock:
            if self._closed:
                raise QueueError("the queue is closed")
            task = self._core.add(task, now_s)
            future = self._futures.get(task.id)
            if future is None:
                future = self._futures[task.id] = Future()
            try:
                if self._spool is not None and task.id in self._core.changed:
                    self._spool.save([task], [])
            except QueueError:
                self._core.cancel(task, now_s)
                self._core.changed.pop(task.id, None)
                raise
            if task.is_settled:
                settle(future, task)
                self._futures.pop(task.id, None)
        self._waker.wake()
        return Job(task, future, self._cancel)

    def _cancel(self, task: Task) -> bool:
        with self._lock:
            cancelled = self._core.cancel(task, self._now())
        self._waker.wake()
        return cancelled

    # The thread

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._waker.fileno(), zmq.POLLIN)
        self._port.register(poller)
        mark_s = look_s = 0.0
        try:
            while not self._closed:
                with self._lock:
                    due_s = self._core.next_due_s(self._now()) if self._core.workers else None
                wait_s = LOOK_S if due_s is None else min(LOOK_S, max(0.0, due_s - self._now()))
                poller.poll(int(wait_s * 1000) + 1)
                self._waker.clear()
                drained = self._read()
                now_s = self._now()
                if now_s >= look_s or (due_s is not None and now_s >= due_s):
                    look_s = now_s + LOOK_S
                    with self._lock:
                        self._core.check(now_s, drained=drained)
                self._carry_out()
                if now_s >= mark_s:
                    mark_s = now_s + events.BEAT_S
                    self._send_marks()
        except Exception:
            logging.getLogger(__name__).exception("the queue has stopped")
        finally:
            self._port.close()
            self._waker.close()

    def _read(self) -> bool:
        """Process messages; return whether none is left."""
        count = 0
        for route, data in self._port.receive():
            count += 1
            try:
                self._take(route, data)
            except Exception as error:
                logging.getLogger(__name__).debug("ignored a message that is no event: %s", error)
        return count < BUDGET

    def _doubt(self, peer: bytes) -> None:
        with self._lock:
            self._core.doubt(peer, self._now())

    def _take(self, route: list[bytes], data: bytes) -> None:
        header, name, args, own = events.read_event(data)
        attempt_id = header.get("response_to")
        if attempt_id is None and name != events.BEAT and name != events.BYE:
            with self._lock:
                reply = self._inspector.answer(header, name, args)
            if reply is not None:
                self._port.reply(route, *reply)
            return
        attempt_id = str(attempt_id)
        peer = str(own["worker"]).encode()
        self._port.remember(peer, route)
        now_s = self._now()
        with self._lock:
            core = self._core
            if name == events.BEAT:
                beat = args[0]
                mark = beat["mark"] if beat.get("token") == self._token else 0
                core.hear(
                    peer,
                    Beat(
                        int(beat["credits"]), [str(each) for each in beat["held"]], int(mark), beat["about"]
                    ),
                    now_s,
                )
            elif name == events.BYE:
                core.leave(peer, now_s)
            elif name == wire.OK:
                core.finish(peer, attempt_id, None, args[0], now_s)
            elif name == wire.ERR:
                task = core.tasks.get(attempt_id.rpartition(":")[0])
                if task is not None and type(own.get("span")) is dict:
                    task.previous = {str(key): str(value) for key, value in own["span"].items()}
                core.finish(peer, attempt_id, (args, own.get("error")), None, now_s)

    def _carry_out(self) -> None:
        """Save what has changed; only then send what follows from it, and settle the jobs' results."""
        with self._lock:
            if not self._save():
                return
            core = self._core
            actions, core.actions = core.actions, []
            settled, core.settled = core.settled, []
            done = [(self._futures.pop(task.id, None), task) for task in settled]
        acks: dict[bytes, list[str]] = {}
        for kind, peer, *rest in actions:
            if kind == "ack":
                acks.setdefault(peer, []).append(rest[0])
            elif kind == "cancel":
                self._port.send(peer, events.make_header(rest[0]), wire.CANCEL, None)
            else:
                self._send_job(peer, *rest)
        for peer, ids in acks.items():
            self._port.send(peer, events.make_header(), events.ACK, ids)
        for future, task in done:
            if future is not None:
                settle(future, task)

    def _save(self) -> bool:
        """Write changed jobs to the spool; return False if that has failed, and is to be repeated."""
        changed = self._core.changed
        if self._spool is None:
            changed.clear()
        elif changed:
            tasks = self._core.tasks
            try:
                self._spool.save(
                    [task for task in changed.values() if task.id in tasks],
                    [task_id for task_id in changed if task_id not in tasks],
                )
            except QueueError as error:
                if not self._spool_failed:
                    logging.getLogger(__name__).error("%s; results wait until it can be", error)
                self._spool_failed = True
                return False
            changed.clear()
            self._spool_failed = False
        return True

    def _send_job(self, peer: bytes, task: Task, attempt_id: str) -> None:
        own: dict[str, Any] = {"previous": task.previous} if task.previous else {}
        if task.timeout_s is not None:
            own["ms"] = int(task.timeout_s * 1000)
        header = {**events.make_header(**own), "message_id": attempt_id, **task.context}
        self._port.send(peer, header, events.JOB, [task.body, task.id, task.attempts])

    def _send_marks(self) -> None:
        with self._lock:
            self._core.mark += 1
            mark, peers = self._core.mark, list(self._core.workers)
        self._port.keep(peers)
        for peer in peers:
            self._port.send(peer, events.make_header(), events.MARK, [self._token, mark])


def _open_spool(path: str) -> "Spool":
    """Open a spool; SQLite is imported only here, since Python can be built without it."""
    from ztrace.rpc.queueing.spool import Spool

    return Spool(path)


def _pack_body(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        body = wire.make_packer()([name, args, kwargs])
    except Exception:
        raise TypeError(f"{name}: cannot send {wire.find_unpackable([*args, kwargs])}") from None
    if len(body) > wire.MAX_MESSAGE - _MAX_HEADER:
        raise wire.refuse_size(name, body)
    return body
