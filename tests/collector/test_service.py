"""Collector behind a real socket, in a thread and in separate processes."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import zmq

from tests.collector.disks import fill, small_disk
from tests.collector.messages import Sender, is_balanced, make_span, refusals, row, rows
from tests.collector.peers import Connect, Peer
from tests.ztrace.waiting import wait_for
from ztrace.errors import DatabaseForeign, DatabaseInUse, EndpointError
from ztrace.wire import TOPIC
from ztrace_collector.receiving import connections
from ztrace_collector.service import Collector, Counts, Options, collect
from ztrace_collector.storing.store import Store

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60


@contextmanager
def running(path: Path, bind: str = "tcp://127.0.0.1:0") -> Iterator[str]:
    """Run a collector in a thread; yield its endpoint, and stop the collector at the end."""
    endpoints: list[str] = []
    errors: list[BaseException] = []
    collector = Collector(Options(bind, path), ready=endpoints.append)

    def run() -> None:
        try:
            collector.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: endpoints or errors)
        if endpoints:
            yield endpoints[0]
    finally:
        collector.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


COLLECT = (
    "import sys; from pathlib import Path; from ztrace_collector.service import Options, collect;"
    "collect(Options(sys.argv[1], Path(sys.argv[2])), ready=lambda endpoint: print(endpoint, flush=True))"
)


@contextmanager
def process(path: Path, bind: str = "tcp://127.0.0.1:0") -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a collector in a separate process; yield the process and its endpoint, and end the process."""
    command = [sys.executable, "-W", "error", "-c", COLLECT, bind, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, child.stdout.readline().strip()
        finally:
            if child.poll() is None:
                child.kill()


@pytest.mark.parametrize(
    "bind", ["tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://[::1]:0", "ipc://{}/c.sock"]
)
def test_spans_are_acknowledged_once_they_are_stored(
    path: Path, tmp_path: Path, connect: Connect, bind: str
) -> None:
    """Acknowledged spans are readable over another connection at once, on every transport."""
    if "::1" in bind and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with running(path, bind.format(tmp_path)) as endpoint:
        peer = connect(endpoint)
        peer.wait_for_welcome()
        peer.send(*(peer.sender.data(make_span(number)) for number in range(40)))
        peer.wait_for_ack(40)
        assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 40
        peer.send(peer.sender.bye())
    publisher = row(path, "SELECT * FROM publishers")
    assert publisher["state"] == "ended"
    assert is_balanced(publisher)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_beat_is_answered(path: Path, connect: Connect) -> None:
    """A heartbeat repeats an acknowledgement that its publisher has missed."""
    with running(path) as endpoint:
        peer = connect(endpoint)
        peer.wait_for_welcome()
        peer.send(peer.sender.data(make_span()))
        peer.wait_for_ack(1)
        peer.acknowledged = 0
        peer.send(peer.sender.beat())
        peer.wait_for_ack(1)


def test_bad_messages_do_not_disturb_others(
    path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Malformed messages and peers that speak no ZeroMQ do not affect other publishers."""
    monkeypatch.setattr(connections, "_SETTLED_S", 1.0)
    with running(path) as endpoint:
        peer, foreign = connect(endpoint), connect(endpoint, 1)
        host, port = endpoint.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        peer.wait_for_welcome()
        foreign.wait_for_welcome()
        foreign.send([TOPIC], [TOPIC + b"zzz", b"1", b"2"], [TOPIC, b"\xc1", b""])
        foreign.send(foreign.sender.data(make_span(1)))
        foreign.wait_for_ack(1)
        peer.send(peer.sender.data(make_span()))
        peer.wait_for_ack(1)
        wait_for(lambda: "handshake_failed" in refusals(path, strangers=True))
    assert refusals(path) == {"frames": 1, "foreign": 1, "undecodable": 1}
    assert refusals(path, strangers=True)["handshake_failed"] >= 1
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 2


def test_a_message_larger_than_allowed_is_cut_off(path: Path, connect: Connect) -> None:
    """A frame over the size limit disconnects its sender, and other publishers are unaffected."""
    with running(path) as endpoint:
        peer, large = connect(endpoint), connect(endpoint, 1)
        peer.wait_for_welcome()
        large.wait_for_welcome()
        large.send([TOPIC, b"header", bytes(5 << 20)])
        peer.send(peer.sender.data(make_span()))
        peer.wait_for_ack(1)
        large.wait_for_welcome()  # Reconnected.
    assert refusals(path) == {}


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into Linux's sockets")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stores_what_has_been_received(path: Path, connect: Connect, number: signal.Signals) -> None:
    """SIGTERM and SIGINT store and acknowledge everything received, and the exit is clean and quiet."""
    with process(path) as (child, endpoint):
        peer = connect(endpoint, lasting=True)
        peer.wait_for_welcome()
        peer.send(peer.sender.data(make_span()))
        peer.wait_for_ack(1)
        # Messages sent while the process is stopped stay in its socket buffers: received, not stored.
        child.send_signal(signal.SIGSTOP)
        wait_for(lambda: _is_stopped(child.pid))
        messages = [peer.sender.data(make_span(n)) for n in range(1, 50)]
        peer.send(*messages)
        wait_for(lambda: _unread_bytes(endpoint) >= sum(sum(map(len, frames)) for frames in messages))
        child.send_signal(number)
        child.send_signal(signal.SIGCONT)
        output, errors = child.communicate(timeout=DEADLINE_S)
        assert (child.returncode, output, errors) == (0, "", "")
        peer.wait_for_ack(50)
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 50
    assert sorted(os.listdir(path.parent)) == ["traces.db"]


def _is_stopped(pid: int) -> bool:
    """Return whether all threads of a process are stopped."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def _unread_bytes(endpoint: str) -> int:
    """Return the bytes in the kernel that the endpoint's owner has not received."""
    port = f":{int(endpoint.rpartition(':')[2]):04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(line[4].split(":")[1], 16) for line in lines if line[1].endswith(port) and line[3] == "01")


def test_collect_gives_signal_handlers_back(path: Path) -> None:
    """`collect` returns after SIGINT to its own process, and restores the signal handlers."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    collect(Options("tcp://127.0.0.1:0", path), ready=lambda endpoint: os.kill(os.getpid(), signal.SIGINT))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.process
def test_a_kill_loses_nothing_acknowledged_and_stores_nothing_twice(
    path: Path, tmp_path: Path, connect: Connect
) -> None:
    """With the collector killed repeatedly and unacknowledged batches resent, each span is stored once."""
    bind = f"ipc://{tmp_path}/c.sock"
    messages: list[list[bytes]] = []
    sender = Sender()
    for number in range(600):
        messages.append(sender.data(*(make_span(10 * number + n) for n in range(10))))
    peer = connect(bind)
    for kill_at in (50, 220, 430, None):
        with process(path, bind) as (child, _):
            peer.wait_for_welcome()
            sent = peer.acknowledged
            target = kill_at or len(messages)
            while peer.acknowledged < target:
                while sent < len(messages) and sent - peer.acknowledged < 32:
                    peer.send(messages[sent])
                    sent += 1
                peer.wait_for_ack(peer.acknowledged + 1)
            if kill_at is None:
                child.terminate()
            else:
                child.kill()
            child.communicate(timeout=DEADLINE_S)
        stored = row(path, "SELECT count(*) AS n, count(DISTINCT span_id) AS m FROM spans")
        assert stored["n"] == stored["m"] >= 10 * peer.acknowledged
    assert stored["n"] == 6000
    publisher = row(path, "SELECT * FROM publishers")
    assert (publisher["spans_stored"], publisher["next_sequence"]) == (6000, 600)
    assert len(rows(path, "SELECT * FROM traces")) == 6000


@pytest.mark.parametrize(
    "bind",
    [
        "tcp://0.0.0.0:4710",
        "tcp://*:4710",
        "tcp://192.168.1.5:4710",
        "tcp://[::]:4710",
        "tcp://eth0:4710",
        "tcp://127.0.0.1.example.com:4710",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:-1",
        "tcp://:4710",
        "127.0.0.1:4710",
        "udp://127.0.0.1:4710",
        "",
        "ipc://",
        "ipc:///no/such/folder/c.sock",
        "ipc:///tmp/" + "x" * 200,
        "tcp://127.999.0.1:4710",
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(path: Path, bind: str) -> None:
    """An endpoint beyond this machine or of invalid form raises a one-line error with a hint."""
    with pytest.raises(EndpointError) as raised:
        Collector(Options(bind, path)).run()
    assert raised.value.hint
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("bind", ["tcp://127.0.0.1:0", "ipc://{}/c.sock"])
def test_an_endpoint_in_use_is_refused(path: Path, tmp_path: Path, bind: str) -> None:
    """A second collector on an endpoint raises an error, and the first continues."""
    other = tmp_path / "other.db"
    with running(path, bind.format(tmp_path)) as endpoint, pytest.raises(EndpointError, match="in use"):
        Collector(Options(endpoint, other)).run()
    assert not other.exists()
    with running(other, endpoint):
        pass


@pytest.mark.process
def test_a_socket_nobody_listens_on_is_taken_over(path: Path, tmp_path: Path) -> None:
    """A stale socket file is replaced, and any other file is kept."""
    bind = f"ipc://{tmp_path}/c.sock"
    with process(path, bind) as (child, _):
        child.kill()
        child.communicate(timeout=DEADLINE_S)
    assert (tmp_path / "c.sock").is_socket()
    with running(path, bind):
        pass
    (tmp_path / "c.sock").unlink(missing_ok=True)
    (tmp_path / "c.sock").write_text("precious")
    with pytest.raises(EndpointError, match="not a socket"):
        Collector(Options(bind, path)).run()
    assert (tmp_path / "c.sock").read_text() == "precious"


def test_a_database_in_use_is_refused(path: Path) -> None:
    """A database in use raises its own error and leaves the endpoint free."""
    with Store(path), pytest.raises(DatabaseInUse):
        Collector(Options("tcp://127.0.0.1:0", path)).run()


def test_an_error_while_running_ends_the_collector_in_one_line(path: Path, connect: Connect) -> None:
    """After another program's database took the file's place, the collector ends with a one-line error."""

    def run() -> None:
        with running(path) as endpoint:
            peer = connect(endpoint)
            peer.wait_for_welcome()
            path.rename(path.with_name("moved.db"))
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE diary (day TEXT)")
            peer.send(peer.sender.data(make_span()))
            wait_for(lambda: not Path(f"{path}.lock").exists())

    with pytest.raises(DatabaseForeign, match="another program's database"):
        run()
    assert row(path, "SELECT name FROM sqlite_master") == {"name": "diary"}


@pytest.mark.process
def test_a_full_disk_holds_up_publishers_and_nobody_loses_a_span(tmp_path: Path, connect: Connect) -> None:
    """Nothing is acknowledged while the disk is full, and each span is stored once after space is freed."""
    with small_disk(tmp_path / "disk", 24) as disk:
        folder = disk or tmp_path
        path = folder / "traces.db"
        with process(path) as (child, endpoint), ExitStack() as stack:
            peer = connect(endpoint)
            peer.wait_for_welcome()
            peer.send(peer.sender.data(make_span()))
            peer.wait_for_ack(1)
            if disk:
                filler = fill(disk, leaving_kb=500)
                stack.callback(filler.unlink)
            else:
                other = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
                other.execute("BEGIN IMMEDIATE")
                stack.callback(other.execute, "ROLLBACK")
            peer.send(*(peer.sender.data(make_span(number)) for number in range(1, 30)))
            assert child.stderr is not None
            assert "holding: publishers keep their spans" in child.stderr.readline()
            assert not peer.socket.poll(700)
            stack.close()
            peer.wait_for_ack(30)
            assert child.stderr.readline() == f"ztrace: storing again in {path}\n"
            child.terminate()
            assert child.communicate(timeout=DEADLINE_S) == ("", "")
            assert child.returncode == 0
        assert row(path, "SELECT count(*) AS n, count(DISTINCT span_id) AS m FROM spans") == {
            "n": 30,
            "m": 30,
        }


@pytest.mark.process
def test_a_collector_that_holds_can_be_stopped(path: Path, connect: Connect) -> None:
    """A collector that cannot store stops at once and reports unstored messages, which are resent later."""
    with process(path) as (child, endpoint), closing(sqlite3.connect(path, isolation_level=None)) as other:
        peer = connect(endpoint)
        peer.wait_for_welcome()
        other.execute("BEGIN IMMEDIATE")
        message = peer.sender.data(make_span())
        peer.send(message)
        assert child.stderr is not None
        assert "another program is writing" in child.stderr.readline()
        child.terminate()
        _, errors = child.communicate(timeout=DEADLINE_S)
        assert child.returncode == 0
        assert errors.startswith("ztrace: ended while holding: 1 message received and not stored")
        other.execute("ROLLBACK")
    with process(path, endpoint) as (child, _):
        peer.wait_for_welcome()
        peer.send(message)
        peer.wait_for_ack(1)


@pytest.mark.slow
@pytest.mark.process
def test_a_connection_that_is_lost_with_a_full_queue_is_survived(path: Path, connect: Connect) -> None:
    """A peer that vanishes while its messages wait does not end the collector, as heartbeats would."""
    with process(path) as (child, endpoint), closing(sqlite3.connect(path, isolation_level=None)) as other:
        good, peer = connect(endpoint, 1), connect(endpoint)
        good.wait_for_welcome()
        peer.wait_for_welcome()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(zmq.Again):  # Neither libzmq nor the system takes any more.
            _send_all(peer)
        peer.socket.close()
        # Heartbeats would be due each second, and the second one would end the process.
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2.5)
        other.execute("ROLLBACK")
        good.send(good.sender.data(make_span()))
        good.wait_for_ack(1)


def _send_all(peer: Peer) -> None:
    """Send messages until none is taken for a second."""
    peer.socket.sndtimeo = 1000
    while True:
        peer.send(peer.sender.data(make_span(attributes={"text": "x" * 100_000})))


@pytest.mark.process
def test_publishers_are_answered_while_nothing_can_be_stored(path: Path, connect: Connect) -> None:
    """While the collector holds, a new publisher is answered, and all messages are stored later."""
    with process(path) as (child, endpoint), closing(sqlite3.connect(path, isolation_level=None)) as other:
        peer = connect(endpoint)
        peer.wait_for_welcome()
        other.execute("BEGIN IMMEDIATE")
        peer.send(peer.sender.data(make_span()))
        assert child.stderr is not None
        assert "another program is writing" in child.stderr.readline()
        late = connect(endpoint, 1)
        late.wait_for_welcome()
        late.send(late.sender.data(make_span(1)), late.sender.bye())
        peer.send(*(peer.sender.data(make_span(number)) for number in range(2, 300)))
        assert not peer.socket.poll(200)
        other.execute("ROLLBACK")
        late.wait_for_ack(2)
        peer.wait_for_ack(299)
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 300


def test_stop_before_run_returns_at_once(path: Path) -> None:
    """A collector stopped before `run`, or twice, ends cleanly."""
    collector = Collector(Options("tcp://127.0.0.1:0", path))
    collector.stop()
    collector.run()
    collector.stop()


def test_progress_is_given_figures_and_lines(path: Path, connect: Connect) -> None:
    """The progress display receives the collector's counts and lines."""
    endpoints: list[str] = []
    seen: list[tuple[int, int, int, bool]] = []
    said: list[str] = []
    joined: set[str] = set()

    class Display:
        def update(self, counts: Counts) -> None:
            joined.update(counts.publishers)
            connected = sum(counts.publishers.values())
            seen.append((counts.span_count, counts.refused_count, connected, counts.holding))

        def say(self, line: str) -> None:
            said.append(line)

    options = Options("tcp://127.0.0.1:0", path, progress=Display())
    collector = Collector(options, ready=endpoints.append)
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        wait_for(lambda: endpoints)
        peer = connect(endpoints[0])
        peer.wait_for_welcome()
        peer.send(peer.sender.data(make_span()))
        wait_for(lambda: (1, 0, 1, False) in seen)
        assert joined == {peer.sender.service}
        path.rename(path.with_name("elsewhere.db"))
        peer.send(peer.sender.data(make_span()))
        wait_for(lambda: said)
    finally:
        collector.stop()
        thread.join()
    assert said == [f"{path} was moved away; continuing with the file of that name, or a new one"]


def test_nothing_is_drawn_by_default(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a display, only lines are written, to stderr."""
    options = Options("tcp://127.0.0.1:0", path)
    collect(options, ready=lambda endpoint: os.kill(os.getpid(), signal.SIGTERM))
    assert capfd.readouterr() == ("", "")
    options.progress.say("a line")
    assert capfd.readouterr() == ("", "ztrace: a line\n")
