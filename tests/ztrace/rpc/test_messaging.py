"""Pushers, pullers, publishers and subscribers, among themselves and with those of zerorpc 0.6.3."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from tests.ztrace.programs import run_program, started_program
from tests.ztrace.recording import Recorder
from tests.ztrace.waiting import wait_for
from ztrace import rpc
from ztrace.errors import EndpointError, SettingsError

ADDRESS = "tcp://127.0.0.1:0"


class Notes:
    """Service that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def note(self, *args: Any, **kwargs: Any) -> None:
        """Note the arguments."""
        self.calls.append((*args, kwargs) if kwargs else args)

    async def note_later(self, value: Any) -> None:
        """Note an argument, as a coroutine."""
        self.calls.append(value)

    def fail(self) -> None:
        """Raise a ValueError."""
        raise ValueError("x")


@contextmanager
def subscribed(publisher: rpc.Publisher, notes: Notes, name: str = "note") -> Iterator[None]:
    """Publish until a subscriber has the first message, since earlier ones are lost."""

    def arrived() -> bool:
        publisher.call(name, "first")
        return bool(notes.calls)

    wait_for(arrived)
    publisher.call(name, "last")
    wait_for(lambda: ("last",) in notes.calls)
    yield


def address_of(sender: rpc.Pusher | rpc.Publisher) -> str:
    """Return the address that a sender has bound."""
    return sender._socket.get_string(zmq.LAST_ENDPOINT)


def test_messages_are_pushed() -> None:
    """Each pushed message calls a function, in order, with keyword arguments too."""
    notes = Notes()
    with rpc.Puller(notes, bind=ADDRESS) as puller, rpc.Pusher(puller.endpoint) as pusher:
        pusher.note(1, "two")
        pusher.note(3, four=4)
        pusher.note_later(5)
        pusher.call("note", 6)
        wait_for(lambda: len(notes.calls) == 4)
    assert notes.calls == [(1, "two"), (3, {"four": 4}), 5, (6,)]


def test_messages_are_shared_among_pullers() -> None:
    """A pusher gives its messages to its pullers in turn, and none to both."""
    first, second = Notes(), Notes()
    with (
        rpc.Puller(first, bind=ADDRESS) as one,
        rpc.Puller(second, bind=ADDRESS) as two,
        rpc.Pusher(one.endpoint, two.endpoint) as pusher,
    ):

        def are_connected() -> bool:
            pusher.note("warm")
            return bool(first.calls and second.calls)

        wait_for(are_connected)
        for number in range(100):
            pusher.note(number)

        def numbers() -> list[int]:
            return [call[0] for call in [*first.calls, *second.calls] if call[0] != "warm"]

        wait_for(lambda: len(numbers()) == 100)
        assert sorted(numbers()) == list(range(100))


def test_messages_outlive_their_pusher() -> None:
    """Messages that are pushed before the pusher is closed arrive."""
    notes = Notes()
    with rpc.Puller(notes, bind=ADDRESS) as puller:
        pusher = rpc.Pusher(puller.endpoint)
        for number in range(500):
            pusher.note(number)
        rpc.close(pusher)
        wait_for(lambda: len(notes.calls) == 500)
        with pytest.raises(rpc.PeerLost, match="cannot send"):
            pusher.note(1)


def test_messages_without_a_puller_are_refused_in_the_end() -> None:
    """A message that no puller takes raises after the timeout."""
    taken = pytest.raises(rpc.DeadlineExceeded, match="note: no peer took the message")
    with rpc.Pusher(bind=ADDRESS, timeout_s=0.05) as pusher, taken:
        pusher.note(1)


def test_failures_end_no_puller(caplog: pytest.LogCaptureFixture) -> None:
    """Failing functions, unknown names and rubbish are logged, and the next message is handled."""
    notes = Notes()
    with rpc.Puller(notes, bind=ADDRESS) as puller, rpc.Pusher(puller.endpoint) as pusher:
        with caplog.at_level(logging.CRITICAL + 1):
            for frame in (
                b"",
                b"\xc1",
                b"\x91" * 5000,
                msgpack.packb(1),
                msgpack.packb([{}, "_zt_call", [1]]),
            ):
                pusher._socket.send(frame)
        pusher.fail()
        pusher.unknown()
        pusher.note(1)
        wait_for(lambda: notes.calls)
    texts = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert texts[-2:] == ["x", "unknown: there is fail, note, note_later"]


def test_messages_are_published() -> None:
    """A published message reaches all subscribers, those of a topic only its own."""
    every, some = Notes(), Notes()
    with (
        rpc.Publisher(ADDRESS, topic="prices") as publisher,
        rpc.Subscriber(every, address_of(publisher)),
        rpc.Subscriber(some, address_of(publisher), topic="weather"),
        subscribed(publisher, every),
    ):
        assert not some.calls
    with (
        rpc.Publisher(ADDRESS, topic="weather.paris") as publisher,
        rpc.Subscriber(some, address_of(publisher), topic="weather"),
        subscribed(publisher, some),
    ):
        assert some.calls[-1] == ("last",)


def test_invalid_addresses_are_refused() -> None:
    """Addresses that are missing, invalid or in use are refused in one line."""
    with pytest.raises(SettingsError, match="no address"):
        rpc.Pusher()
    with pytest.raises(EndpointError, match="'nonsense'"):
        rpc.Publisher("nonsense")
    with pytest.raises(EndpointError, match="could be reached from other machines"):
        rpc.Pusher(bind="tcp://*:0")
    with rpc.Puller(Notes(), bind=ADDRESS) as puller:
        with pytest.raises(EndpointError, match="in use"):
            rpc.Puller(Notes(), bind=puller.endpoint).start()
        with (
            pytest.raises(TypeError, match=r"note: cannot send a object at \[0\]"),
            rpc.Pusher(puller.endpoint) as pusher,
        ):
            pusher.note(object())


def test_messages_are_traced(recorder: Recorder) -> None:
    """A message has a producer's span and a consumer's, which is its child and linked to it."""
    notes = Notes()
    with rpc.Puller(notes, bind=ADDRESS) as puller, rpc.Pusher(puller.endpoint) as pusher:
        pusher.note(1)
        wait_for(lambda: len(recorder.queue) == 2)
    producer, consumer = sorted(recorder.spans, key=lambda span: span.kind)
    assert (producer.name, consumer.name) == ("note", "note")
    assert consumer.parent_id == producer.span_id
    assert consumer.links is not None
    assert consumer.links[0][1] == producer.span_id


RECEIVER = """
import sys, zerorpc, gevent
class Notes:
    def note(self, *args):
        print("got", args[0], flush=True)
receiver = getattr(zerorpc, sys.argv[1])(Notes())
receiver.connect(sys.argv[2])
print("ready", flush=True)
receiver.run()
"""

SENDER = """
import sys, zerorpc, gevent
sender = getattr(zerorpc, sys.argv[1])()
sender.bind(sys.argv[2])
print("ready", flush=True)
while True:
    sender.note("hello")
    gevent.sleep(0.02)
"""


@pytest.mark.process
def test_zerorpc_receives(tmp_path: Path) -> None:
    """A puller and a subscriber of zerorpc receive our messages, those with a topic as well."""
    senders: list[tuple[str, rpc.Pusher | rpc.Publisher]] = [
        ("Puller", rpc.Pusher(bind=f"ipc://{tmp_path}/push")),
        ("Subscriber", rpc.Publisher(f"ipc://{tmp_path}/publish")),
        ("Subscriber", rpc.Publisher(f"ipc://{tmp_path}/topic", topic="t")),
    ]
    for kind, sender in senders:
        with sender, started_program(RECEIVER, kind, address_of(sender)) as program:
            done = threading.Event()

            def repeat(sender: Any = sender, done: threading.Event = done) -> None:
                while not done.wait(0.02):
                    sender.note("hello")

            thread = threading.Thread(target=repeat)
            thread.start()
            try:
                assert program.stdout is not None
                assert program.stdout.readline() == "got hello\n"
            finally:
                done.set()
                thread.join()


@pytest.mark.process
@pytest.mark.parametrize("kind", ["Pusher", "Publisher"])
def test_zerorpc_sends(tmp_path: Path, kind: str) -> None:
    """Our puller and subscriber receive the messages of zerorpc's."""
    notes = Notes()
    endpoint = f"ipc://{tmp_path}/send"
    receiver = rpc.Puller if kind == "Pusher" else rpc.Subscriber
    with receiver(notes, endpoint), started_program(SENDER, kind, endpoint):
        wait_for(lambda: ("hello",) in notes.calls)


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
from ztrace import rpc
from ztrace.errors import SettingsError
for make in (lambda: rpc.Queue("tcp://127.0.0.1:0"), rpc.Puller({"f": int}, bind="tcp://127.0.0.1:0").start):
    try:
        make()
    except SettingsError as error:
        print(error)
turns = []
gevent.spawn(lambda: [(turns.append(1), gevent.sleep(0.01)) for _ in range(100)])
with rpc.Pusher(bind="tcp://127.0.0.1:0", timeout_s=0.5) as pusher:
    try:
        pusher.f(1)
    except rpc.DeadlineExceeded:
        print("others ran:", len(turns) > 1)
"""


@pytest.mark.process
def test_gevent_is_refused_where_threads_are_needed() -> None:
    """In a process that gevent has patched a pusher lets greenlets run, and what needs threads is refused."""
    first, second, third = run_program(GEVENT).stdout.splitlines()
    assert first == second
    assert "need threads, which gevent has replaced here" in first
    assert third == "others ran: True"
