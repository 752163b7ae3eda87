"""Inbox between threads and the collector: each batch is stored or rejected, and waits are bounded."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import zmq

from tests.collector.messages import EPOCH_NS, Sender, make_span, row, rows, trace_id
from ztrace.errors import DatabaseBlocked, DatabaseNewer, EndpointError
from ztrace.wire import ACK, WELCOME, unpack_acks
from ztrace_collector.checking.parcels import ForeignBatch, Outcome, Resource
from ztrace_collector.receiving import inbox as module
from ztrace_collector.receiving.inbox import RETRY_BUSY_S, RETRY_HOLDING_S, Busy, Closed, Inbox
from ztrace_collector.service import Collector, Options
from ztrace_collector.storing.defects import DefectFiles
from ztrace_collector.storing.store import Store

CART = Resource(b"c" * 16, "cart", "box", 7, EPOCH_NS, {})
#: Longer than any condition takes.
DEADLINE_S = 60

#: A folder that is never written to.
NO_DEFECTS = DefectFiles(Path("/nonexistent/traces.db"))

Say = Callable[[str], None]


def batch(*numbers: int) -> ForeignBatch:
    """Return a batch of spans with these numbers."""
    return ForeignBatch(CART, [make_span(number) for number in numbers])


def stored(count: int) -> list[Outcome]:
    """Return the outcomes of one batch of new spans."""
    return [Outcome(count, 0, {})]


class Listener:
    """Listener without a port; the test decides when it is done."""

    def __init__(self, inbox: Inbox, say: Say) -> None:
        self.inbox = inbox
        self.say = say
        self.stopped = threading.Event()
        self.done = threading.Event()
        self.events: list[str] = []

    def __enter__(self) -> Self:
        self.events.append("entered")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.events.append("exited")

    def stop(self) -> None:
        """Record the request to stop."""
        self.stopped.set()

    def is_done(self) -> bool:
        """Return whether the test has declared the listener done."""
        return self.done.is_set()


class Running:
    """Collector in a thread, with a listener beside it."""

    def __init__(self, path: Path) -> None:
        self.errors: list[BaseException] = []
        self.endpoint = ""
        self.listener: Listener
        ready = threading.Event()

        def make(inbox: Inbox, say: Say) -> Listener:
            self.listener = Listener(inbox, say)
            return self.listener

        def tell(endpoint: str) -> None:
            self.endpoint = endpoint
            ready.set()

        self.collector = Collector(Options("tcp://127.0.0.1:0", path, companions=[make]), ready=tell)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert ready.wait(DEADLINE_S), self.errors

    @property
    def inbox(self) -> Inbox:
        """Inbox of the collector."""
        return self.listener.inbox

    def _run(self) -> None:
        try:
            self.collector.run()
        except Exception as error:
            self.errors.append(error)

    def end(self) -> None:
        """Stop the collector and wait until it has ended."""
        self.listener.done.set()
        self.collector.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()


@contextmanager
def running(path: Path) -> Iterator[Running]:
    """Run a collector; it is stopped at the end."""
    process = Running(path)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def publisher(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    """Yield a publisher's socket, connected to the collector."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.setsockopt(zmq.PROBE_ROUTER, 1)
        socket.connect(endpoint)
        assert socket.poll(1000 * DEADLINE_S)
        assert socket.recv() == WELCOME
        yield socket


def test_what_is_answered_is_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch has its own outcome after the commit, and a put wakes the collector at once."""
    monkeypatch.setattr("ztrace_collector.service._Loop._wait_s", lambda loop: 10.0 * DEADLINE_S)
    with running(path) as process:
        for number in range(20):
            future = process.inbox.put([batch(2 * number, 2 * number + 1), batch(), batch(0)])
            first, second, third = future.result(DEADLINE_S)
            assert (first.stored, second, third.duplicates) == (2, Outcome(0, 0, {}), 1)
            assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 2 * number + 2}
        assert process.inbox.put([]).result(0) == []
        process.inbox.note("otlp_body", "not protobuf")
    assert not process.errors
    assert row(path, "SELECT reason, count, detail FROM refusals") == {
        "reason": "otlp_body",
        "count": 1,
        "detail": "not protobuf",
    }


def test_a_large_delivery_takes_several_transactions(path: Path) -> None:
    """A large delivery takes several transactions, and a small one put later is answered before its end."""
    with running(path) as process:
        large = process.inbox.put([batch(*range(9000))])
        small = process.inbox.put([batch(*range(9000, 9010))])
        assert small.result(DEADLINE_S) == stored(10)
        assert not large.done()
        assert large.result(DEADLINE_S) == stored(9000)


@pytest.mark.slow
def test_a_flood_keeps_nobody_waiting(path: Path) -> None:
    """Publishers and threads that fill the inbox are both stored at every turn."""
    ended = threading.Event()
    flooded: list[int] = []
    hints: set[float] = set()

    def flood(lane: int, inbox: Inbox) -> None:
        number = 0
        futures: list[Future[list[Outcome]]] = []
        while not ended.is_set():
            spans = [
                make_span(n, trace_id=trace_id(1_000_000 * lane + n)) for n in range(number, number + 800)
            ]
            try:
                futures.append(inbox.put([ForeignBatch(CART, spans)]))
                number += 800
            except Busy as busy:
                hints.add(busy.retry_after_s)
                time.sleep(0.01)
        flooded.extend(future.result(DEADLINE_S)[0].stored for future in futures)

    with running(path) as process, publisher(process.endpoint) as socket:
        threads = [threading.Thread(target=flood, args=(lane, process.inbox)) for lane in (1, 2)]
        for thread in threads:
            thread.start()
        try:
            sender, acknowledged = Sender(), 0
            begin_s = time.monotonic()
            while acknowledged < 60:
                if sender.sequence - acknowledged < 4:
                    spans = [make_span(n) for n in range(100 * sender.sequence, 100 * sender.sequence + 100)]
                    sender.floor = acknowledged
                    sender.retired = 100 * acknowledged
                    socket.send_multipart(sender.data(*spans))
                elif socket.poll(1000 * DEADLINE_S):
                    frame = socket.recv()
                    if frame.startswith(ACK):
                        acknowledged = unpack_acks(frame).get(sender.incarnation, acknowledged)
            assert time.monotonic() - begin_s < DEADLINE_S
        finally:
            ended.set()
            for thread in threads:
                thread.join(DEADLINE_S)
    assert not process.errors
    by_service = {
        one["service"]: one["n"]
        for one in rows(path, "SELECT service, sum(calls) AS n FROM method_minute_list GROUP BY service")
    }
    assert by_service["billing"] == 6000
    # Each turn of the loop stores from both: the publisher does not hold up the threads.
    assert by_service["cart"] == sum(flooded) > 6000
    assert hints <= {RETRY_BUSY_S}


def test_bounds_in_spans_and_in_bytes() -> None:
    """The inbox is limited in spans and bytes, and accepts a larger delivery while it has some room."""
    woken: list[None] = []
    inbox = Inbox(lambda: woken.append(None), NO_DEFECTS)
    inbox.put([batch(*range(module.MAX_SPANS))])
    with pytest.raises(Busy):
        inbox.put([batch(1)])
    inbox.take()
    inbox.put([batch(1)])
    assert len(woken) == 1  # The inbox was not empty.
    inbox.close()
    inbox = Inbox(lambda: woken.append(None), NO_DEFECTS)
    inbox.put([ForeignBatch(CART, [make_span(attributes={"x": "x" * module.MAX_BYTES})])])
    with pytest.raises(Busy) as raised:
        inbox.put([batch(1)])
    assert raised.value.retry_after_s == RETRY_BUSY_S
    assert (len(inbox.take()), inbox.take()) == (1, [])
    inbox.settle(stored(1))
    inbox.put([batch(1)])
    assert len(woken) == 3
    inbox.close()


def test_all_have_their_turn() -> None:
    """A transaction takes parcels of all deliveries in turn, up to its limit."""
    inbox = Inbox(lambda: None, NO_DEFECTS)
    large, small = inbox.put([batch(*range(3000))]), inbox.put([batch(1), batch(2)])
    assert [parcel.span_count for parcel in inbox.take()] == [512, 1, 512, 1, 512, 512]
    inbox.settle([Outcome(1, 0, {})] * 6)
    assert small.result(0) == [Outcome(1, 0, {}), Outcome(1, 0, {})]
    assert [parcel.span_count for parcel in inbox.take()] == [512, 440]
    inbox.settle([Outcome(0, 2, {}), Outcome(0, 0, {"time": 2})])
    assert large.result(0) == [Outcome(4, 2, {"time": 2})]
    assert not inbox.is_waiting


def test_while_nothing_can_be_stored_nothing_is_taken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be stored, waiting and new deliveries are rejected; storing resumes by itself."""
    blocked = threading.Event()
    blocked.set()
    real_store = Store.store

    def store(self: Store, messages: Any = (), parcels: Any = ()) -> Any:
        if blocked.is_set() and parcels:
            raise DatabaseBlocked("no space left")
        return real_store(self, messages, parcels)

    with running(path) as process:
        monkeypatch.setattr(Store, "store", store)
        futures = [process.inbox.put([batch(*range(6000))])]
        with pytest.raises(Busy) as raised:
            futures[0].result(DEADLINE_S)
        assert raised.value.retry_after_s == RETRY_HOLDING_S
        blocked.clear()
        hints: set[float] = set()
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                assert process.inbox.put([batch(1)]).result(DEADLINE_S)[0].stored == 1
                break
            except Busy as busy:
                hints.add(busy.retry_after_s)
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
    assert not process.errors
    assert hints <= {RETRY_HOLDING_S}
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 1}


def test_after_a_stop_what_is_taken_is_stored_before_the_end(path: Path) -> None:
    """After a stop, a listener can still put batches until it is done; then the inbox is closed."""
    process = Running(path)
    process.collector.stop()
    assert process.listener.stopped.wait(DEADLINE_S)
    assert process.inbox.put([batch(1)]).result(DEADLINE_S) == stored(1)
    assert process.listener.events == ["entered"]
    process.end()
    assert process.listener.events == ["entered", "exited"]
    assert not process.errors
    with pytest.raises(Closed):
        process.inbox.put([batch(2)])
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 1}


def test_an_error_that_ends_the_collector_answers_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that ends the collector fails all deliveries, those being stored and those waiting."""
    process = Running(path)
    begun, go_on = threading.Event(), threading.Event()

    def fail(self: Store, *brought: object) -> Any:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        raise DatabaseNewer("a newer ztrace wrote it")

    monkeypatch.setattr(Store, "store", fail)
    futures = [process.inbox.put([batch(*range(6000))])]
    assert begun.wait(DEADLINE_S)
    futures += [process.inbox.put([batch(number)]) for number in range(3)]
    go_on.set()
    for future in futures:
        with pytest.raises(Closed):
            future.result(DEADLINE_S)
    process.end()
    assert [type(error) for error in process.errors] == [DatabaseNewer]
    assert process.listener.events == ["entered", "exited"]


def test_a_listener_that_cannot_begin_leaves_no_file(path: Path) -> None:
    """A listener that cannot start leaves no database file."""

    def make(inbox: Inbox, say: Say) -> Listener:
        raise EndpointError("127.0.0.1:4318 is in use")

    with pytest.raises(EndpointError, match="4318"):
        Collector(Options("tcp://127.0.0.1:0", path, companions=[make])).run()
    assert not path.exists()


def test_a_file_that_cannot_be_used_answers_who_was_early(path: Path) -> None:
    """A database that cannot be opened fails deliveries made before."""
    futures: list[Future[list[Outcome]]] = []

    def make(inbox: Inbox, say: Say) -> Listener:
        futures.append(inbox.put([batch(1)]))
        return Listener(inbox, say)

    path.write_text("somebody's notes, and no database at all")
    with pytest.raises(Exception, match="not a"):
        Collector(Options("tcp://127.0.0.1:0", path, companions=[make])).run()
    with pytest.raises(Closed):
        futures[0].result(0)
