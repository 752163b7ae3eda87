"""Admission of connections and messages over real sockets."""

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest
import zmq
from zmq.utils import z85

from tests.collector.messages import Sender, make_span
from tests.faults import rubbish
from tests.ztrace.waiting import wait_for
from ztrace.enrolment import Enrolment
from ztrace.errors import EndpointError, SettingsError, WireError
from ztrace.wire import ACK, MAX_ACKS, TOPIC, WELCOME, unpack_acks, unpack_header
from ztrace_collector.receiving import admission, connections, receiver, weighing
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.receiving.receiver import Receiver, check_endpoint
from ztrace_collector.refusals import Refusals

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60


class Door:
    """Receiver that runs in a thread and acknowledges every message it admits.

    Attributes:
        messages: the messages admitted, in order.
        refused: the counts of refusals, by reason.
        said: the lines for the terminal.
    """

    def __init__(self, endpoint: str, keys: KeyFolder | None) -> None:
        self.messages: list[list[bytes]] = []
        self.refused: Counter[str] = Counter()
        self.details: dict[str, str] = {}
        self.said: list[str] = []
        self.receiver = Receiver(endpoint, keys)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def note(self, reason: str, detail: str, count: int = 1) -> None:
        """Count a refusal by reason."""
        self.refused[reason] += count
        self.details[reason] = detail

    def start(self) -> str:
        """Start listening; return the endpoint."""
        self.receiver.__enter__()
        endpoint = self.receiver.endpoint
        self._thread.start()
        return endpoint

    def stop(self) -> None:
        """Stop the receiver; raise the thread's error, if any."""
        self._stopping.set()
        self._thread.join(DEADLINE_S)
        self.receiver.__exit__(None, None, None)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        poller = zmq.Poller()
        for each in (self.receiver.socket, *self.receiver.connections.sockets):
            poller.register(each, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                poller.poll(50)
                self.receiver.tend(self.note, self.said.append)
                new = self.receiver.gather(self._stopping.is_set, self.note)
                self.messages += new
                acks = {sender_of(message): self.count(sender_of(message)) for message in new}
                self.receiver.acknowledge(acks)
        except BaseException as error:
            self._error = error

    def count(self, incarnation: bytes) -> int:
        """Return the number of messages admitted from an incarnation."""
        return sum(sender_of(message) == incarnation for message in self.messages)


def sender_of(message: list[bytes]) -> bytes:
    """Return the incarnation of a message, empty if unreadable."""
    try:
        return unpack_header(message[1]).incarnation
    except (IndexError, WireError):
        return b""


class Publisher:
    """Publisher's socket, with or without a key."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        key: Enrolment | None = None,
        *,
        service: str = "billing",
        number: int = 0,
    ) -> None:
        self.sender = Sender(number, service)
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.ipv6 = "[" in endpoint
        for option in (zmq.PROBE_ROUTER, zmq.IMMEDIATE):
            self.socket.setsockopt(option, 1)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 50)
        if key is not None:
            self.socket.curve_serverkey = key.server_public
            self.socket.curve_publickey, self.socket.curve_secretkey = key.public, key.secret
        self.socket.connect(endpoint)

    def is_in(self, wait_ms: int = 1000 * DEADLINE_S) -> bool:
        """Wait for the collector's welcome."""
        return bool(self.socket.poll(wait_ms)) and self.socket.recv() == WELCOME

    def send(self) -> None:
        """Send a batch of one span."""
        self.socket.send_multipart(self.sender.data(make_span()))

    def is_acknowledged(self, wait_ms: int = 1000 * DEADLINE_S) -> bool:
        """Wait for an acknowledgement of the publisher's own incarnation."""
        deadline_s = time.monotonic() + wait_ms / 1000
        while (left_s := deadline_s - time.monotonic()) > 0:
            if self.socket.poll(int(1000 * left_s)):
                frame = self.socket.recv()
                if frame.startswith(ACK) and self.sender.incarnation in unpack_acks(frame):
                    return True
        return False


class Connect(Protocol):
    """Factory of publishers that connect to an endpoint."""

    def __call__(
        self, endpoint: str, key: Enrolment | None = None, *, service: str = "billing", number: int = 0
    ) -> Publisher:
        """Return a new publisher, which may not be admitted yet."""
        ...


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Yield a factory of publishers; they are closed after the test."""
    made: list[Publisher] = []

    def make(
        endpoint: str, key: Enrolment | None = None, *, service: str = "billing", number: int = 0
    ) -> Publisher:
        made.append(Publisher(context, endpoint, key, service=service, number=number))
        return made[-1]

    with zmq.Context() as context:
        yield make
        for publisher in made:
            publisher.socket.close()


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """Return a folder with the collector's key."""
    made = KeyFolder(tmp_path / "keys")
    made.create()
    return made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time of handshakes to a quarter."""
    hasty = {zmq.HANDSHAKE_IVL: 500}
    assert all(dict(receiver._OPTIONS)[option] >= 4 * value for option, value in hasty.items())
    monkeypatch.setattr(receiver, "_OPTIONS", (*receiver._OPTIONS, *hasty.items()))
    monkeypatch.setattr(connections, "_SETTLED_S", 0.8)


@contextmanager
def opened(keys: KeyFolder | None = None, endpoint: str = "tcp://127.0.0.1:0") -> Iterator[tuple[Door, str]]:
    """Yield a receiver and its endpoint."""
    door = Door(endpoint, keys)
    where = door.start()
    try:
        yield door, where
    finally:
        door.stop()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "ipc://{}/c.sock"])
def test_a_service_with_its_key_is_let_in(
    folder: KeyFolder, connect: Connect, tmp_path: Path, endpoint: str
) -> None:
    """A service with its key is admitted, and its messages are acknowledged."""
    key = folder.add("billing")
    with opened(folder, endpoint.format(tmp_path)) as (door, where):
        publisher = connect(where, key)
        assert publisher.is_in()
        publisher.send()
        assert publisher.is_acknowledged()
    assert not door.refused


def test_who_has_no_key_is_not_let_in(folder: KeyFolder, connect: Connect, tmp_path: Path) -> None:
    """Missing, unknown and other collectors' keys are refused and counted."""
    known = folder.add("billing")
    other = KeyFolder(tmp_path / "other")
    other.create()
    foreign = other.add("billing")
    unknown = Enrolment("billing", known.server_public, foreign.public, foreign.secret)
    with opened(folder) as (door, where):
        lost, stranger = (connect(where, key) for key in (foreign, unknown))
        plain: list[Publisher] = []

        def are_counted() -> bool:
            # Chance decides which end notices first that one has no key, and closes the connection.
            plain.append(connect(where, None))
            return all(map(door.refused.get, ("handshake_denied", "handshake_failed", "no_key")))

        wait_for(are_counted)
        assert not any(publisher.is_in(wait_ms=0) for publisher in (*plain, lost, stranger))
        assert connect(where, known, number=3).is_in()
    assert door.messages == []


def test_a_key_is_good_for_one_service(folder: KeyFolder, connect: Connect) -> None:
    """A service name that differs from the key's is refused and counted, without effect on its real owner."""
    billing, shop = folder.add("billing"), folder.add("shop")
    with opened(folder) as (door, where):
        wrong = connect(where, billing, service="shop", number=1)
        right = connect(where, shop, service="shop", number=2)
        assert wrong.is_in()
        assert right.is_in()
        wrong.send()
        wait_for(lambda: door.refused["service_not_of_key"])
        right.send()
        assert right.is_acknowledged()
        assert not wrong.is_acknowledged(wait_ms=0)
    assert {sender_of(message) for message in door.messages} == {right.sender.incarnation}
    assert door.refused == {"service_not_of_key": 1}
    assert door.details["service_not_of_key"] == f"'shop' under key {billing.public.hex()[:12]} of billing"


def test_what_has_no_header_is_left_to_the_store(folder: KeyFolder, connect: Connect) -> None:
    """Malformed messages under a valid key are passed to the store, which refuses them by reason."""
    with opened(folder) as (door, where):
        publisher = connect(where, folder.add("billing"))
        assert publisher.is_in()
        for frames in ([TOPIC], [TOPIC, b"\xc1", b""], [TOPIC, b"", b"", b""]):
            publisher.socket.send_multipart(frames)
        wait_for(lambda: len(door.messages) == 3)
    assert not door.refused


def test_a_key_made_while_it_runs_is_let_in(folder: KeyFolder, connect: Connect) -> None:
    """A key added while the collector runs is admitted."""
    with opened(folder) as (_door, where):
        assert connect(where, folder.add("billing")).is_in()


def test_a_revoked_key_is_out_and_the_others_stay(folder: KeyFolder, connect: Connect) -> None:
    """A revoked key is disconnected, and the other services reconnect."""
    revoked, good = folder.add("billing"), folder.add("shop")
    with opened(folder) as (door, where):
        bad = connect(where, revoked, number=1)
        other = connect(where, good, service="shop", number=2)
        assert bad.is_in()
        assert other.is_in()
        folder.revoke("billing")
        wait_for(lambda: door.refused["handshake_denied"])
        wait_for(lambda: other.socket.poll(50) and other.socket.recv() == WELCOME)
        wait_for(lambda: door.receiver.connections.open_count == 1)
        other.send()
        assert other.is_acknowledged()
        assert not bad.is_in(wait_ms=0)
        assert door.receiver.endpoint == where


def test_adding_a_key_disturbs_nobody(folder: KeyFolder, connect: Connect) -> None:
    """Adding a key, or revoking an unused one, closes no connection."""
    unused = folder.add("shop")
    with opened(folder) as (_door, where):
        publisher = connect(where, folder.add("billing"))
        assert publisher.is_in()
        folder.revoke(unused.public.hex())
        new = connect(where, folder.add("cart"), service="cart", number=1)
        assert new.is_in()
        assert not publisher.socket.poll(0)


class Clock:
    """Clock set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now_s


def test_a_message_under_a_revoked_key_is_refused(folder: KeyFolder) -> None:
    """A message received before its key was revoked is refused with the key's owner."""
    key, clock = folder.add("billing"), Clock()
    door = admission.Admission(folder, clock_s=clock)
    user = z85.encode(key.public).decode()
    noted: list[tuple[str, str]] = []
    message = Sender().data(make_span())

    def note(reason: str, detail: str, count: int = 1) -> None:
        noted.append((reason, detail))

    assert door.callback("", user.encode())
    assert door.admit(user, message, note)
    folder.revoke("billing")
    assert not door.look(print)  # Keys are checked once a second.
    clock.now_s = admission.LOOK_S
    assert door.look(print)
    assert not door.admit(user, message, note)
    (folder.path / f"{key.public.hex()[:12]}.json").unlink()
    clock.now_s += admission.LOOK_S
    assert not door.look(print)  # No connection has used the key since.
    assert not door.admit(user, message, note)
    assert noted == [
        ("key_revoked", f"key {key.public.hex()[:12]} of billing"),
        ("key_revoked", "a key that was removed"),
    ]


def test_keys_that_cannot_be_read_are_out_and_the_others_stay(folder: KeyFolder) -> None:
    """An unreadable key file excludes its own key, a missing folder none, and each is logged once."""
    users = {service: z85.encode(folder.add(service).public) for service in ("billing", "shop")}
    clock = Clock()
    said: list[str] = []
    door = admission.Admission(folder, clock_s=clock)
    (path,) = (each for each in folder.path.iterdir() if "billing" in each.read_text())
    path.write_text("{")
    clock.now_s += admission.LOOK_S
    door.look(said.append)
    assert [door.callback("", users[service]) for service in ("billing", "shop")] == [False, True]
    folder.path.rename(folder.path.with_name("gone"))
    for _ in range(2):
        clock.now_s += admission.LOOK_S
        assert not door.look(said.append)
    assert door.callback("", users["shop"])
    assert [line.partition(";")[0].rpartition("/")[2] for line in said] == [
        f"{path.name} is damaged",
        "keys: No such file or directory",
    ]


def test_keys_that_cannot_be_used_are_told_at_the_start(tmp_path: Path) -> None:
    """Unusable keys raise an error before a socket is opened."""
    with pytest.raises(SettingsError, match="ztrace keys init"):
        Receiver("tcp://127.0.0.1:0", KeyFolder(tmp_path / "none"))


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:0", "tcp://*:4710", "tcp://10.0.0.1:4710", "tcp://[::]:0"]
)
def test_other_machines_need_keys(endpoint: str) -> None:
    """An address beyond this machine needs keys, and the error names the command that creates them."""
    with pytest.raises(EndpointError, match=r"'ztrace keys init' and start with --keys ztrace\.keys"):
        check_endpoint(endpoint)
    check_endpoint(endpoint, keyed=True)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("kind", rubbish.RUBBISH)
def test_rubbish_is_cut(folder: KeyFolder, keyed: bool, kind: str) -> None:
    """Connections that speak no ZeroMQ or send oversized frames are closed, and failed handshakes counted."""
    with opened(folder if keyed else None) as (door, where):
        with _raw(where) as stranger:
            stranger.sendall(rubbish.RUBBISH[kind] or os.urandom(200))
            assert _is_cut(stranger)
        if keyed or not rubbish.RUBBISH[kind].startswith(rubbish.GREETING):
            wait_for(lambda: door.refused["handshake_failed"] + door.refused["no_key"] == 1)
    assert door.messages == []


@pytest.mark.usefixtures("hasty")
def test_who_never_says_a_word_is_cut(folder: KeyFolder) -> None:
    """A connection without a complete handshake is closed after its time."""
    begun_s = time.monotonic()
    with opened(folder) as (door, where), _raw(where) as silent, _raw(where) as half:
        half.sendall(rubbish.GREETING.replace(b"NULL\0", b"CURVE"))
        assert _is_cut(silent)
        assert _is_cut(half)
        assert time.monotonic() - begun_s > 0.4
        wait_for(lambda: door.refused["handshake_failed"] == 2)


def test_who_is_silent_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing is closed a while after its handshake."""
    monkeypatch.setattr(weighing, "SILENT_S", 0.6)
    with opened() as (door, where), _raw(where) as silent:
        begun_s = time.monotonic()
        silent.sendall(rubbish.GREETING + rubbish.READY)
        assert _is_cut(silent)
        assert time.monotonic() - begun_s > 0.5
    assert not door.refused


@pytest.mark.usefixtures("hasty")
def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """Connections beyond the limit are closed and counted, newest first."""
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    with opened() as (door, where):
        good = connect(where)
        assert good.is_in()
        strangers = [_raw(where) for _ in range(40)]
        wait_for(lambda: door.refused["connection_limit"] >= 21)
        assert door.receiver.connections.open_count <= 20
        good.send()
        assert good.is_acknowledged()
        assert all(map(_is_cut, strangers))
        wait_for(lambda: sum(door.refused.values()) == 40)
        assert door.receiver.connections.open_count == 1
        late = connect(where, number=1)
        assert late.is_in()


def _shake_hands(stranger: socket.socket) -> None:
    """Complete a handshake without keys."""
    stranger.sendall(rubbish.GREETING + rubbish.READY)
    stranger.settimeout(DEADLINE_S)
    received = b""
    while b"READY" not in received:
        received += stranger.recv(1000)


def _send_until_cut(stranger: socket.socket, unit: bytes, door: Door, limit: int) -> int:
    """Send a unit again and again; return the bytes sent until the connection is cut.

    A peer whose window was full is not always told by the system, so the collector is asked as well.
    """
    sent, left = 0, unit
    stranger.settimeout(0.05)
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < limit and not door.refused["oversized"]:
            with suppress(TimeoutError):
                count = stranger.send(left)
                sent, left = sent + count, left[count:] or unit
    return sent


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(b"\x03" + (200_000).to_bytes(8, "big") + bytes(200_000), id="large frames"),
        pytest.param(b"\x01\x01x" * 20_000, id="small frames"),
    ],
)
def test_a_message_that_does_not_end_is_cut(unit: bytes, connect: Connect) -> None:
    """A connection whose message has ever more frames is closed and counted, and a publisher is served."""
    with opened() as (door, where), _raw(where) as stranger:
        good = connect(where)
        assert good.is_in()
        _shake_hands(stranger)
        assert _send_until_cut(stranger, unit, door, 2 << 30) < 2 << 30
        wait_for(lambda: door.refused["oversized"] == 1)
        good.send()
        assert good.is_acknowledged()
        assert door.receiver.connections.open_count == 1


def test_unfinished_messages_of_all_are_bounded(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    """Many connections with an allowed part of a message are closed beyond what all may hold."""
    monkeypatch.setattr(weighing, "MAX_ALL_UNFINISHED", 8 << 20)
    with opened() as (door, where), ExitStack() as stack:
        good = connect(where)
        assert good.is_in()
        part = b"\x03" + (1 << 20).to_bytes(8, "big") + bytes((1 << 20) - 1)
        for _ in range(20):
            stranger = stack.enter_context(_raw(where))
            _shake_hands(stranger)
            with suppress(OSError):
                stranger.sendall(part)
        wait_for(lambda: door.refused["oversized"] >= 12)
        good.send()
        assert good.is_acknowledged()


def test_connections_are_weighed_when_the_process_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is asked about many connections once memory has grown, and otherwise twice a second."""
    clock, asked, resident = Clock(), list[int](), 100 << 20
    numbers = range(weighing.FEW + 1)
    clock.now_s = 10.0

    def count_read(number: int) -> int:
        asked.append(number)
        return 0

    monkeypatch.setattr(weighing, "count_read", count_read)
    monkeypatch.setattr(weighing, "_resident_bytes", lambda: resident)
    scales = weighing.Scales(clock_s=clock)

    def asks_after(wait_s: float) -> bool:
        clock.now_s += wait_s
        asked.clear()
        scales.look(numbers, lambda: True)
        return asked == [*numbers]

    assert asks_after(0.0)
    assert asks_after(weighing.QUICK_S)  # The connection was new.
    assert not asks_after(weighing.LOOK_S)
    resident += weighing.GROWN_BYTES
    assert not asks_after(weighing.LOOK_S)
    resident += 1
    assert asks_after(weighing.LOOK_S)
    resident -= 20 << 20
    assert not asks_after(weighing.LOOK_S)
    resident += 20 << 20
    assert asks_after(weighing.LOOK_S)
    scales.forget(7)
    assert asks_after(weighing.LOOK_S)
    assert asks_after(weighing.QUICK_S)
    assert not asks_after(weighing.LOOK_S)
    assert asks_after(weighing.IDLE_LOOK_S)
    numbers = range(weighing.FEW)
    assert asks_after(weighing.LOOK_S)


def test_whole_messages_are_not_weighed(connect: Connect) -> None:
    """A publisher that sends far more than an unfinished message may have, in whole ones, is not cut."""
    with opened() as (door, where):
        good = connect(where)
        assert good.is_in()
        for _ in range(30):
            good.socket.send_multipart([TOPIC, b"", bytes(1 << 20)])
        wait_for(lambda: len(door.messages) >= 30)
        assert not door.refused


@pytest.mark.process
@pytest.mark.slow
def test_a_flood_of_connections_leaves_descriptors_for_others(tmp_path: Path, connect: Connect) -> None:
    """With few file descriptors the limit of connections is lower, so libzmq and SQLite have enough."""
    program = (
        "import resource, sys; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "from ztrace_collector.service import Options, collect\n"
        "options = Options('tcp://127.0.0.1:0', Path(sys.argv[1]))\n"
        "collect(options, ready=lambda where: print(where, flush=True))"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "t.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            where = child.stdout.readline().strip()
            strangers = [_raw(where) for _ in range(150)]
            assert all(map(_is_cut, strangers))
            publisher = connect(where)
            assert publisher.is_in()
            publisher.send()
            assert publisher.is_acknowledged()
        finally:
            child.terminate()
        _, errors = child.communicate(timeout=DEADLINE_S)
    assert (child.returncode, errors) == (0, "")


def test_the_limit_on_descriptors_is_raised() -> None:
    """A soft limit of file descriptors that is too low is raised as far as the hard limit allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with opened() as (door, _where):
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert soft >= door.receiver.connections.limit + min(connections.RESERVE, soft // 2) > 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_flood_does_not_starve_a_quiet_publisher(connect: Connect) -> None:
    """A publisher's message is taken in turn while another one floods the collector."""
    with opened() as (door, where):
        flood, quiet = connect(where, number=1), connect(where, number=2)
        assert flood.is_in()
        assert quiet.is_in()
        large = flood.sender.message(1, bytes(1 << 20))
        ended = threading.Event()

        def send() -> None:
            while not ended.is_set():
                with suppress(zmq.Again):
                    flood.socket.send_multipart(large, zmq.NOBLOCK)
                flood.socket.poll(1)
                with suppress(zmq.Again):
                    flood.socket.recv(zmq.NOBLOCK)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            wait_for(lambda: door.count(flood.sender.incarnation) > 50)
            for _ in range(5):
                before = door.count(flood.sender.incarnation)
                quiet.send()
                assert quiet.is_acknowledged()
                assert door.count(flood.sender.incarnation) - before < 100
        finally:
            ended.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.process
def test_rubbish_costs_a_good_publisher_nothing(tmp_path: Path) -> None:
    """Hundreds of garbage connections are closed and counted, and a publisher keeps its rate."""
    outcome = rubbish.suffer(300, 100, keyed=True, folder=tmp_path)
    assert outcome.rate_during > 0.7 * outcome.rate_before  # Tolerates a busy machine.
    assert (outcome.attack["cut"], outcome.attack["idle cut"]) == (300, 100)
    assert outcome.refused.keys() == {"handshake_failed", "no_key"}
    # Each once, and now and then a client of another test, which still tries a port that was its own.
    assert 400 <= sum(outcome.refused.values()) < 420
    assert outcome.descriptors[1] < 40


def _raw(where: str) -> socket.socket:
    host, port = where.removeprefix("tcp://").split(":")
    return socket.create_connection((host, int(port)), DEADLINE_S)


def _is_cut(connection: socket.socket) -> bool:
    """Wait until the peer closes a connection, and close it."""
    with connection, suppress(ConnectionError):
        while connection.recv(4096):
            pass
    return True


def let_in(receiver: Receiver, *publishers: Publisher, stopping: Callable[[], bool] = lambda: True) -> None:
    """Answer the hello of each publisher, all of which have just connected."""
    for publisher in publishers:

        def is_answered(publisher: Publisher = publisher) -> bool:
            receiver.tend(Refusals().note, lambda _: None)
            if receiver.socket.poll(10):
                receiver.gather(stopping, Refusals().note)
            return bool(publisher.socket.poll(10))

        wait_for(is_answered)
        assert publisher.is_in()


def take(receiver: Receiver, count: int) -> list[list[bytes]]:
    """Return a number of messages."""
    messages: list[list[bytes]] = []

    def are_taken() -> bool:
        messages.extend(receiver.gather(lambda: True, Refusals().note))
        return len(messages) >= count

    wait_for(are_taken)
    return messages


def hear(publisher: Publisher) -> dict[bytes, int]:
    """Return the next acknowledgement that a publisher is sent."""
    assert publisher.socket.poll(1000 * DEADLINE_S)
    return unpack_acks(publisher.socket.recv())


def test_acknowledgements_of_many_publishers_come_in_parts(connect: Connect) -> None:
    """Acknowledgements are sent in as many frames as a publisher accepts, with each entry once."""
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        adopter = connect(opened.endpoint)
        let_in(opened, adopter)
        senders = [Sender() for _ in range(2 * MAX_ACKS + 1)]
        for number, sender in enumerate(senders):
            sender.incarnation = number.to_bytes(16, "big")
            adopter.socket.send_multipart(sender.data(make_span()))
        take(opened, len(senders))
        numbers = {sender.incarnation: number for number, sender in enumerate(senders)}
        opened.acknowledge(numbers)
        parts = [hear(adopter) for _ in range(3)]
    assert [len(part) for part in parts] == [MAX_ACKS, MAX_ACKS, 1]
    assert {key: number for part in parts for key, number in part.items()} == numbers


def test_acknowledgements_reach_the_connection_that_was_heard_last(connect: Connect) -> None:
    """Each incarnation is answered where it was last heard, and no other connection is."""
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        first, second, idle = (connect(opened.endpoint, number=number) for number in range(3))
        let_in(opened, first, second, idle)
        orphan = Sender(7)
        for publisher in (first, second):  # The orphan's first adopter has let go.
            publisher.socket.send_multipart(orphan.data(make_span()))
            publisher.send()
            take(opened, 2)
        numbers = {each.incarnation: 1 for each in (first.sender, second.sender, orphan)}
        opened.acknowledge(numbers | {bytes(16): 1})
        assert hear(first) == {first.sender.incarnation: 1}
        assert hear(second) == {second.sender.incarnation: 1, orphan.incarnation: 1}
        opened.broadcast(b"all")
        # What is sent over a connection arrives in order: there was nothing before.
        assert [each.socket.recv() for each in (first, second, idle)] == [b"all"] * 3


def test_connections_of_a_bounded_number_of_incarnations_are_known(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incarnations beyond the limit are forgotten, those heard least recently first."""
    monkeypatch.setattr(receiver, "MAX_ROUTES", 2)
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        publisher = connect(opened.endpoint)
        let_in(opened, publisher)
        senders = [Sender(number) for number in range(3)]
        for number in (0, 1, 0, 2):
            publisher.socket.send_multipart(senders[number].data(make_span()))
        take(opened, 4)
        opened.acknowledge({sender.incarnation: 1 for sender in senders})
        assert hear(publisher) == {senders[0].incarnation: 1, senders[2].incarnation: 1}


def _claim(where: str, identity: bytes) -> socket.socket:
    """Connect as a peer that asks for an id, and say hello."""
    stranger = _raw(where)
    ready = rubbish.READY[2:] + b"\x08Identity" + len(identity).to_bytes(4, "big") + identity
    stranger.sendall(rubbish.GREETING + bytes([4, len(ready)]) + ready)
    received = b""
    stranger.settimeout(DEADLINE_S)
    while b"READY" not in received:
        received += stranger.recv(1000)
    stranger.sendall(b"\0\0")
    while not received.endswith(WELCOME):
        received += stranger.recv(1000)
    return stranger


def test_peers_do_not_choose_their_ids(connect: Connect) -> None:
    """Peers that ask for an id in use, or for one that is used next, are connections like all others."""
    with opened() as (door, where), ExitStack() as stack:
        publisher = connect(where)
        assert publisher.is_in()
        publisher.send()
        assert publisher.is_acknowledged()
        (route,) = door.receiver.connections.routes
        number = int.from_bytes(route[1:], "big")
        for ahead in (0, 0, 3, 4, 5):
            identity = b"\0" + (number + ahead).to_bytes(4, "big")
            stack.enter_context(_claim(where, identity))
        for _ in range(2):
            stack.enter_context(_claim(where, b"mine"))
        others = [connect(where, number=number) for number in range(1, 5)]
        for other in (publisher, *others):
            assert other is publisher or other.is_in()
            other.send()
            assert other.is_acknowledged()
        assert len(set(door.receiver.connections.routes)) == 12
    assert not door.refused


def test_a_peer_that_does_not_read_delays_nobody(connect: Connect) -> None:
    """Answers to a peer that sends and never reads are dropped, and a publisher is answered beside it."""
    with opened() as (door, where), _claim(where, b"") as deaf:
        publisher = connect(where)
        assert publisher.is_in()
        hellos = b"\0\0" * 10_000
        deaf.settimeout(0.01)
        for _ in range(20):
            with suppress(TimeoutError):
                deaf.sendall(hellos)
            publisher.send()
            assert publisher.is_acknowledged()
    assert not door.refused


@pytest.mark.parametrize("kind", [zmq.XPUB, zmq.PUB, zmq.PUSH])
def test_sockets_of_other_types_are_refused(kind: int) -> None:
    """A peer whose socket is none of a publisher's, as in ztrace before, is counted and told."""
    with opened() as (door, where), zmq.Context() as context, context.socket(kind) as stranger:
        stranger.linger = 0
        stranger.connect(where)
        wait_for(lambda: door.refused["handshake_failed"])
        assert "another type of socket" in door.details["handshake_failed"]
    assert door.refused.keys() == {"handshake_failed"}


def test_requests_of_other_programs_are_left_to_the_store(connect: Connect) -> None:
    """A REQ socket's message is passed to the store, which refuses it, and disturbs no publisher."""
    with opened() as (door, where), zmq.Context() as context, context.socket(zmq.REQ) as stranger:
        stranger.linger = 0
        stranger.connect(where)
        stranger.send(b"GET /")
        wait_for(lambda: door.messages)
        publisher = connect(where)
        assert publisher.is_in()
        publisher.send()
        assert publisher.is_acknowledged()
        assert not stranger.poll(0)
    assert door.messages[0] == [b"", b"GET /"]


@pytest.fixture
def until_late() -> Iterator[Callable[[], bool]]:
    """Yield a function that ends a gathering at a deadline, which must not have been reached afterwards."""
    deadline_s = time.monotonic() + DEADLINE_S
    late: list[bool] = []

    def stopping() -> bool:
        late.append(time.monotonic() > deadline_s)
        return late[-1]

    yield stopping
    assert not any(late)


def test_a_hello_is_answered_without_gathering(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, until_late: Callable[[], bool]
) -> None:
    """Gathering ends at once after a hello alone, so that the next connection is authenticated."""
    monkeypatch.setattr(receiver, "GATHER_S", 1e6)
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        for number in range(3):
            let_in(opened, connect(opened.endpoint, number=number), stopping=until_late)


def test_a_publisher_with_a_full_window_is_not_kept_waiting(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, until_late: Callable[[], bool]
) -> None:
    """Gathering ends with as many messages of a connection as its publisher has in flight."""
    monkeypatch.setattr(receiver, "GATHER_S", 1e6)
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        peer = connect(opened.endpoint)
        let_in(opened, peer)
        for _ in range(receiver.MAX_OF_ONE):
            peer.send()
        assert len(opened.gather(until_late, Refusals().note)) == receiver.MAX_OF_ONE


def test_a_stream_is_gathered_until_other_work_is_due(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a stream, messages that arrive later share a transaction, until something else is ready."""
    monkeypatch.setattr(receiver, "GATHER_S", 0.0)
    monkeypatch.setattr(receiver, "MAX_GATHER_S", 1e6)
    monkeypatch.setattr(receiver, "STREAM_BYTES_PER_S", 1e-6)
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        publisher = connect(opened.endpoint)
        let_in(opened, publisher)
        opened.tend(Refusals().note, print)  # Reads the events of the connection.
        context = opened.socket.context
        alarm, bell = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        with alarm, bell:
            alarm.bind("inproc://alarm")
            bell.connect("inproc://alarm")
            opened.poller.register(alarm, zmq.POLLIN)
            later = [lambda: bell.send(b""), publisher.send, publisher.send]

            def stopping() -> bool:
                if later:
                    later.pop()()
                return False

            publisher.send()
            take(opened, 1)
            assert len(opened.gather(stopping, Refusals().note)) == 2


def test_a_goodbye_within_a_stream_is_answered_soon(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a publisher, whose process waits for its answer, ends gathering as without a stream."""
    monkeypatch.setattr(receiver, "MAX_GATHER_S", 1e6)
    monkeypatch.setattr(receiver, "STREAM_BYTES_PER_S", 1e-6)
    with Receiver("tcp://127.0.0.1:0", None) as opened:
        publisher = connect(opened.endpoint)
        let_in(opened, publisher)
        publisher.send()
        take(opened, 1)
        publisher.socket.send_multipart(publisher.sender.bye())
        assert len(opened.gather(lambda: False, Refusals().note)) == 1
