"""Attacks on a collector and its page, and what they cost others: memory, time to stop, spans, answers.

One idea: the cost of one input of at most 1 MB is measured in the process attacked, as growth of its resident
memory and as processor time, which do not depend on how busy the machine is.
"""

import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import zmq

from tests.collector.messages import Sender, make_profile, make_span
from tests.faults import rubbish
from tests.faults.bombs import BOMBS
from tests.faults.running import Length
from tests.faults.stage import COMMAND, DEADLINE_S, Collector, Stage, wait_for
from tests.faults.table import Row
from tests.ports import find_port
from ztrace.records import Profile
from ztrace.wire import BEAT

#: Figures of the attacks: growth of memory, processor time of one input, and time to stop after SIGTERM.
MAX_GROWN_MB, MAX_BUSY_S, MAX_STOP_S = 100.0, 5.0, 5.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """Growth of a process's peak memory, and processor time used."""

    grown_mb: float
    busy_s: float


def _status(pid: int, name: str) -> float:
    """Return a figure of a process in MB."""
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def _busy_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


@contextmanager
def measured(pid: int) -> Iterator[list[Cost]]:
    """Yield a list that has the cost at the end of the block."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # Reset the peak.
    resident, busy_s = _status(pid, "VmRSS"), _busy_s(pid)
    cost: list[Cost] = []
    yield cost
    cost.append(Cost(_status(pid, "VmHWM") - resident, _busy_s(pid) - busy_s))


def stop(collector: Collector) -> float:
    """Stop a collector, and return the seconds it took."""
    begun_s = time.monotonic()
    collector.stop()
    return time.monotonic() - begun_s


def bomb(length: Length) -> Row:
    """Send each kind of small body that becomes large, and stop the collector while it reads some."""
    worst, worst_kind, busiest, busiest_kind = 0.0, "", 0.0, ""
    with Stage() as stage:
        port = find_port()
        collector = stage.collector("--otlp-listen", f"127.0.0.1:{port}")
        pid = collector.process.pid
        for kind, make in BOMBS.items():
            made = make()
            assert len(made.content) <= 1_100_000, kind
            with measured(pid) as cost:
                made.send(port, DEADLINE_S)
            if cost[0].grown_mb >= worst:
                worst, worst_kind = cost[0].grown_mb, kind
            if cost[0].busy_s >= busiest:
                busiest, busiest_kind = cost[0].busy_s, kind
        bombs = [make() for make in BOMBS.values()]
        threads = [threading.Thread(target=made.send, args=(port, DEADLINE_S)) for made in bombs]
        for thread in threads:
            thread.start()
        stopped_s = stop(collector)
        for thread in threads:
            thread.join()
    return Row(
        f"{len(BOMBS)} kinds of small, expanding OTLP bodies",
        f"each under {MAX_GROWN_MB:.0f} MB and {MAX_BUSY_S:.0f} s, stops within {MAX_STOP_S:.0f} s",
        f"{worst:.0f} MB ({worst_kind}), {busiest:.1f} s ({busiest_kind}), stops in {stopped_s:.1f} s",
        0,
        worst < MAX_GROWN_MB and busiest < MAX_BUSY_S and stopped_s < MAX_STOP_S,
    )


def never_end(length: Length) -> Row:
    """Send a message of ever more frames to the publishers' port."""
    sent = 0
    with Stage() as stage:
        collector = stage.collector()
        host, _, port = collector.endpoint.removeprefix("tcp://").rpartition(":")
        unit = b"\x03" + (200_000).to_bytes(8, "big") + bytes(200_000)
        with (
            measured(collector.process.pid) as cost,
            closing(socket.create_connection((host, int(port)), DEADLINE_S)) as stranger,
        ):
            stranger.sendall(rubbish.GREETING + rubbish.READY)
            while b"READY" not in stranger.recv(1000):
                pass
            with suppress(OSError):
                while sent < 4 << 30:
                    stranger.sendall(unit)
                    sent += len(unit)
        stopped_s = stop(collector)
    # As fast as the machine can send until the next look at the connection.
    most_mb = 4 * MAX_GROWN_MB
    return Row(
        "a message that never ends",
        f"the connection is cut, under {most_mb:.0f} MB, stops within {MAX_STOP_S:.0f} s",
        f"cut after {sent >> 20} MiB, grows {cost[0].grown_mb:.0f} MB, stops in {stopped_s:.1f} s",
        0,
        sent < 4 << 30 and cost[0].grown_mb < most_mb and stopped_s < MAX_STOP_S,
    )


def half_ask(length: Length) -> Row:
    """Open connections with half a request to OTLP's port and the page's, and ask both."""
    count = int(length.of(1_000, 300))
    answered = asked = 0
    with Stage() as stage, ExitStack() as stack:
        otlp, web = find_port(), find_port()
        collector = stage.collector("--otlp-listen", f"127.0.0.1:{otlp}")
        page = stage.start(
            "-c", COMMAND, "web", "--db", str(collector.database), "--listen", f"127.0.0.1:{web}"
        )
        wait_for(lambda: _ask(web, "GET", "/", b""), "the page answers")
        for port, head in ((otlp, b"POST /v1/traces HTTP/1.1\r\n"), (web, b"GET / HTTP/1.1\r\n")):
            for number in range(count):
                half = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
                with suppress(OSError):
                    half.sendall(head + (b"Content-Length: 9\r\n\r\n{" if number % 2 else b"X: "))
            for _ in range(5):
                asked += 1
                answered += _ask(port, "POST" if port == otlp else "GET", head.split()[1].decode(), b"{}")
        begun_s = time.monotonic()
        page.terminate()
        page.wait(DEADLINE_S)
        stopped_s = max(time.monotonic() - begun_s, stop(collector))
    return Row(
        f"{count:,} half requests to the page and to OTLP",
        f"every whole request is answered, both stop within {MAX_STOP_S:.0f} s",
        f"{answered} of {asked} answered, stop in {stopped_s:.1f} s",
        0,
        answered == asked and stopped_s < MAX_STOP_S,
    )


def push_out(length: Length) -> Row:
    """Fill a file of bounded size with accounts and spans of one service beside those of another."""
    accounts, batches = int(length.of(40_000, 8_000)), int(length.of(4_000, 600))
    with Stage() as stage:
        collector = stage.collector("--max-size", "100MB")
        with publishing(collector.endpoint) as publisher:
            victim = Sender(0, "shop")
            publisher.send_multipart(victim.data(*(make_span(n) for n in range(1_000))))
            wait_for(lambda: _count(collector, "shop") == 1_000, "spans are stored")
            with measured(collector.process.pid) as cost:
                for number in range(accounts):
                    beat = Sender(1, "evil")
                    beat.incarnation = os.urandom(16)
                    beat.mended = {f"{number} {each}".ljust(60): 1 for each in range(60)}
                    send(publisher, beat.message(BEAT, host="h" * 256))
                evil = Sender(2, "evil")
                for number in range(batches):
                    spans = [
                        make_span(2_000 + 100 * number + each, attributes={"note": "x" * 2_000})
                        for each in range(100)
                    ]
                    evil.floor, evil.retired = evil.sequence, evil.created
                    send(publisher, evil.data(*spans))
                wait_for(lambda: _count(collector, "evil", "spans_created") >= evil.created, "all is stored")
            begun_s = time.monotonic()
            stage.command("status", "--db", str(collector.database))
            status_s = time.monotonic() - begun_s
        kept = _count(collector, "shop")
        stopped_s = stop(collector)
    return Row(
        f"{accounts:,} accounts and {100 * batches:,} large spans of another service, with --max-size",
        f"no span of others deleted, under {MAX_GROWN_MB:.0f} MB, status within 10 s",
        f"{kept:,} of 1,000 kept, grows {cost[0].grown_mb:.0f} MB, status in {status_s:.1f} s,"
        f" stops in {stopped_s:.1f} s",
        1_000 - kept,
        kept == 1_000 and cost[0].grown_mb < MAX_GROWN_MB and status_s < 10 and stopped_s < MAX_STOP_S,
    )


def make_up_code(length: Length) -> Row:
    """Send profiles of code that does not exist, under many names of services, beside those of another."""
    messages = int(length.of(100, 10))
    with Stage() as stage:
        collector = stage.collector()
        with publishing(collector.endpoint) as publisher:
            victim = Sender(0, "shop")
            publisher.send_multipart(victim.profile(_now(make_profile())))
            with measured(collector.process.pid) as cost:
                for number in range(messages):
                    evil = Sender(1, f"evil{number % 50}")
                    evil.incarnation = os.urandom(16)
                    send(publisher, evil.profile(_make_code(number)))
                send(publisher, victim.profile(_now(make_profile(texts=[*"abcd", "charge"]))))
                wait_for(lambda: _count(collector, "shop", "samples_stored") == 4, "all is stored")
            with closing(sqlite3.connect(collector.database)) as db:
                (stacks,) = db.execute("SELECT count(*) FROM stacks").fetchone()
                query = "SELECT count(*) FROM frames WHERE function IN ('load', 'render', 'c', 'd')"
                (kept,) = db.execute(query).fetchone()
        stopped_s = stop(collector)
    return Row(
        f"{messages:,} profiles of 30,000 made-up stacks, of 50 services",
        f"code of others kept, under {MAX_GROWN_MB:.0f} MB, under {MAX_BUSY_S:.0f} s of CPU each",
        f"{kept} of 4 lines kept, {stacks:,} stacks, grows {cost[0].grown_mb:.0f} MB,"
        f" {cost[0].busy_s / messages:.1f} s of CPU each, stops in {stopped_s:.1f} s",
        4 - kept,
        kept == 4
        and cost[0].grown_mb < MAX_GROWN_MB
        and cost[0].busy_s < MAX_BUSY_S * messages
        and stopped_s < MAX_STOP_S,
    )


def _now(profile: Profile) -> Profile:
    """Return a profile that was taken just now."""
    return profile._replace(start_ns=time.time_ns(), end_ns=time.time_ns())


def _make_code(number: int) -> Profile:
    """Return a profile with as many new lines and stacks as a message holds."""
    frames, stacks = 20_000, 30_000
    lines = range(number * frames, (number + 1) * frames)
    return _now(
        Profile(
            first=0,
            samples=1,
            start_ns=0,
            end_ns=0,
            answers=[],
            texts=["evil.py", "f", "work"],
            frames=[each for line in lines for each in (0, 1, line)],
            stacks=[each for stack in range(stacks) for each in (stack // 3, stack % frames)],
            methods=[2, 2],
            sums=[each for stack in range(16_000) for each in (0, 1 + stack, 0, 1)],
            spans=[],
        )
    )


def _ask(port: int, method: str, path: str, body: bytes) -> bool:
    """Return whether a whole request is answered."""
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status in (200, 401, 403)
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def publishing(endpoint: str) -> Iterator["zmq.Socket[bytes]"]:
    """Yield the socket of a publisher that the collector has answered; it is closed afterwards."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as publisher:
        publisher.setsockopt(zmq.PROBE_ROUTER, 1)
        publisher.sndtimeo = int(1000 * DEADLINE_S)
        publisher.linger = 0
        publisher.connect(endpoint)
        assert publisher.poll(int(1000 * DEADLINE_S))
        publisher.recv()
        yield publisher


def send(publisher: "zmq.Socket[bytes]", message: list[bytes]) -> None:
    """Send a message, and ignore what the collector says."""
    publisher.send_multipart(message)
    while publisher.poll(0):
        publisher.recv()


def _count(collector: Collector, service: str, column: str = "") -> int:
    """Return a service's spans in the file, or the sum of a column of its accounts."""
    query = (
        f"SELECT total({column}) FROM publishers JOIN instances ON instances.id = instance WHERE service = ?"
        if column
        else "SELECT count(*) FROM spans JOIN instances ON instances.id = instance WHERE service = ?"
    )
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True)) as db:
        return int(db.execute(query, (service,)).fetchone()[0])
