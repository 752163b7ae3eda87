"""Worker: takes jobs of one or several queues, runs them, and acknowledges each after the work.

rpc.Worker(images, "tcp://producer:4300", credits=2).run()
"""

import asyncio
import logging
import os
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final

import zmq

from ztrace.enrolment import Enrolment
from ztrace.errors import SettingsError
from ztrace.rpc import failures, wire
from ztrace.rpc.contexts import Context, terminate
from ztrace.rpc.exposing import expose
from ztrace.rpc.looping import Loop
from ztrace.rpc.queueing import events
from ztrace.rpc.queueing.holding import Holding
from ztrace.rpc.queueing.running import Run
from ztrace.rpc.sockets import connect, open_dealer
from ztrace.rpc.waking import Waker

#: Time between attempts to send the first beat, while there is no connection.
RETRY_S: Final = 0.05
#: Most milliseconds between attempts to connect: well below the time that a restarted queue waits for claims.
MAX_RECONNECT_MS: Final = 500
#: Longest wait of a closing worker for acknowledgements, once its jobs have ended: a queue may be gone.
ACKNOWLEDGE_S: Final = 2.0
#: Milliseconds for which the last messages of a worker are delivered after its end.
LINGER_MS: Final = 200


class _Link:
    """Connection to one queue, and the jobs of the queue in hand."""

    def __init__(self, endpoint: str, key: Enrolment | None, context: Context) -> None:
        self.socket = open_dealer(key, context)
        self.socket.reconnect_ivl_max = MAX_RECONNECT_MS
        try:
            connect(self.socket, endpoint)
        except BaseException:
            self.socket.close()
            raise
        self.holding = Holding()
        self.runs: dict[str, Run] = {}
        self.beat_s = 0.0


class Worker(Loop):
    """Runs jobs of queues; as many of each queue at once as it has credits.

    Args:
        thing: a module, class, object, or mapping of names to callables, as for `Server`.
        endpoints: addresses of queues.
        credits: jobs that each queue may hand to this worker at once.
        grace_s: seconds that running jobs have to end when the worker stops.
        key: line that ``ztrace keys add`` has printed, for queues with keys.

    Raises:
        SettingsError: there is nothing to run, no queue, or the key is invalid.
        EndpointError: an address is invalid.
    """

    def __init__(
        self,
        thing: object,
        *endpoints: str,
        credits: int = 2,
        grace_s: float = 10.0,
        key: str | None = None,
    ) -> None:
        if not endpoints:
            raise SettingsError("a worker needs the address of a queue", hint="as tcp://127.0.0.1:4300")
        if credits < 1:
            raise SettingsError("a worker needs at least one credit")
        super().__init__()
        self._key = None if key is None else Enrolment.parse(key)
        self._methods = expose(thing)
        self._endpoints, self._credits, self._grace_s = endpoints, credits, grace_s
        self._id = os.urandom(8).hex()
        self._about = {"host": socket.gethostname(), "pid": os.getpid()}
        self._pack = wire.make_packer()
        self._jobs: SimpleQueue[tuple[_Link, str, Run] | None] = SimpleQueue()
        self._ended: deque[tuple[_Link, str, Run]] = deque()
        self._links: list[_Link] = []
        self._context: Context
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def _open_sockets(self) -> None:
        self._context = zmq.Context()
        for endpoint in self._endpoints:
            self._links.append(_Link(endpoint, self._key, self._context))

    def _close_sockets(self) -> None:
        while self._links:
            self._links.pop().socket.close(LINGER_MS)
        terminate(self._context)

    def _work(self, waker: Waker) -> None:
        links = self._links
        threads = self._credits * len(self._endpoints)
        try:
            for number in range(threads):  # Daemons: a job that never ends must not keep the process.
                name = f"ztrace-rpc-job-{number}"
                threading.Thread(target=self._run_jobs, args=(waker,), name=name, daemon=True).start()
            poller = zmq.Poller()
            poller.register(waker.fileno(), zmq.POLLIN)
            for link in links:
                poller.register(link.socket, zmq.POLLIN)
            give_up_s = float("inf")
            while True:
                now_s = time.monotonic()
                if self._closing:
                    running = any(link.holding.open for link in links)
                    give_up_s = min(give_up_s, now_s + (self._grace_s if running else ACKNOWLEDGE_S))
                    if now_s >= give_up_s or all(link.holding.is_empty for link in links):
                        break
                wait_s = max(0.0, min(give_up_s, *(link.beat_s for link in links)) - now_s)
                poller.poll(int(wait_s * 1000) + 1)
                waker.clear()
                for link in links:
                    self._read(link)
                self._send_results()
                self._beat(links)
        finally:
            for link in links:
                self._send(link, events.make_header(worker=self._id), events.BYE, [])
                for run in link.runs.values():
                    run.cancel()
            for _ in range(threads):
                self._jobs.put(None)
            self._stop_loop()

    def _read(self, link: _Link) -> None:
        while True:
            try:
                data = link.socket.recv_multipart(zmq.NOBLOCK)[-1]
            except zmq.Again:
                return
            try:
                self._take(link, data)
            except Exception as error:
                logging.getLogger(__name__).debug("ignored a message that is no event: %s", error)

    def _take(self, link: _Link, data: bytes) -> None:
        header, name, args = wire.unpack(data)
        if name == events.JOB:
            attempt_id = str(header["message_id"])
            if link.holding.take(attempt_id):
                run = link.runs[attempt_id] = Run(header, args, self._methods)
                self._jobs.put((link, attempt_id, run))
        elif name == events.ACK:
            link.holding.acknowledge(args)
        elif name == wire.CANCEL:
            if (cancelled := link.runs.get(header["response_to"])) is not None:
                cancelled.cancel()
        elif name == events.MARK:
            token, mark = args
            if token != link.holding.token:
                link.beat_s = 0.0  # The queue is new, or was restarted: it has to know at once.
            link.holding.hear(token, mark)

    def _run_jobs(self, waker: Waker) -> None:
        """Run jobs, one after the other, in a thread of their own."""
        while (job := self._jobs.get()) is not None:
            job[2].run(self._await)
            self._ended.append(job)
            waker.wake()

    def _send_results(self) -> None:
        while self._ended:
            link, attempt_id, run = self._ended.popleft()
            link.runs.pop(attempt_id, None)
            frame = self._pack_outcome(attempt_id, run)
            link.holding.finish(attempt_id, frame, time.monotonic())
            self._send_frame(link, frame)

    def _pack_outcome(self, attempt_id: str, run: Run) -> bytes:
        failure = run.failure
        if failure is None:
            try:
                frame = self._pack((events.make_header(attempt_id, worker=self._id), wire.OK, [run.result]))
            except Exception:
                error = TypeError(
                    f"{run.name} returned {wire.find_unpackable(run.result)}, which cannot be sent"
                )
            else:
                if len(frame) <= wire.MAX_MESSAGE:
                    return frame
                error = wire.refuse_size(f"the result of {run.name}", frame)
            failure = failures.describe(error)
        header = events.make_header(attempt_id, worker=self._id, error=failure.details, span=run.context)
        return self._pack((header, wire.ERR, failure.format(wire.PROTOCOL)))

    def _beat(self, links: list[_Link]) -> None:
        now_s = time.monotonic()
        for link in links:
            if now_s < link.beat_s:
                continue
            holding = link.holding
            for frame in holding.take_due(now_s):
                self._send_frame(link, frame)
            beat = {
                "credits": 0 if self._closing else self._credits,
                "held": holding.held,
                "token": holding.token,
                "mark": holding.mark,
                "about": self._about,
            }
            sent = self._send(link, events.make_header(worker=self._id), events.BEAT, [beat])
            link.beat_s = now_s + (events.BEAT_S if sent else RETRY_S)

    def _send(self, link: _Link, header: dict[str, Any], name: str, args: Any) -> bool:
        return self._send_frame(link, self._pack((header, name, args)))

    def _send_frame(self, link: _Link, frame: bytes) -> bool:
        try:
            link.socket.send_multipart([b"", frame], zmq.NOBLOCK)
        except zmq.Again:
            return False  # There is no connection: beats and results are sent again.
        return True

    # Coroutines

    def _await(self, awaitable: Any) -> "Future[Any]":
        """Await something in the event loop of this worker, which is started for the first."""
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop_thread = threading.Thread(
                    target=self._loop.run_forever, name="ztrace-rpc-worker-loop", daemon=True
                )
                self._loop_thread.start()
        return asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), self._loop)

    def _stop_loop(self) -> None:
        if self._loop is not None and self._loop_thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop_thread.join()
            self._loop.close()


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable
