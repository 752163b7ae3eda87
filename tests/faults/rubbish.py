"""Garbage connections to the collector while a publisher sends: ``python -m tests.faults.rubbish``.

One idea: three processes. The collector is the real one, the publisher's rate is measured by its
acknowledgements, and the attacker holds each connection until the collector closes it.
"""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import zmq

from tests.collector.messages import Sender, make_span, refusals
from ztrace.enrolment import Enrolment
from ztrace.wire import ACK, WELCOME, unpack_acks
from ztrace_collector.receiving.keys import KeyFolder

#: Publisher's spans per batch and interval between batches.
BATCH_SPANS, PERIOD_S = 512, 0.025
#: Duration of the undisturbed measurement for comparison, and deadline of any step.
ALONE_S, DEADLINE_S = 3.0, 120
#: Number of garbage connections held at once, and time for the collector to close each.
HELD, CUT_S = 500, 6.0

#: Greeting and READY command of a ZeroMQ 4 peer without keys.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
#: Data sent by the attacker's connections, in turn.
RUBBISH = {
    "random bytes": b"",
    "HTTP": b"GET / HTTP/1.1\r\nHost: ztrace\r\n\r\n",
    "half a greeting": GREETING[:11],
    "8 GiB frame": GREETING + READY + b"\x02" + (8 << 30).to_bytes(8, "big"),
    "8 GiB command": GREETING + b"\x06" + (8 << 30).to_bytes(8, "big"),
    "an old ZeroMQ": b"\x01\x00" + b"\x07\x00ztrace" * 3,
}

_COLLECT = """
import sys
from pathlib import Path
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.service import Options, collect
keys = KeyFolder(Path(sys.argv[3])) if len(sys.argv) > 3 else None
collect(Options(sys.argv[1], Path(sys.argv[2]), keys), ready=lambda endpoint: print(endpoint, flush=True))
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of an attack.

    Attributes:
        rate_before: spans per second acknowledged to the publisher before the attack.
        rate_during: spans per second acknowledged during the attack.
        attack: numbers of the attacker's connections by their fate.
        refused: the collector's counts.
        memory_mib: the collector's peak resident memory.
        descriptors: the collector's largest number of file descriptors, and the number afterwards.
    """

    rate_before: float
    rate_during: float
    attack: dict[str, float]
    refused: dict[str, int]
    memory_mib: float
    descriptors: tuple[int, int]


class Good:
    """Publisher that sends a batch every `PERIOD_S`, up to a limit of unacknowledged batches."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, key: Enrolment | None
    ) -> None:
        self.acknowledged = 0
        self._sender = Sender(service="billing")
        self._number = 0
        self._dealer = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.PROBE_ROUTER, 1),
            (zmq.IMMEDIATE, 1),
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 3000),
        ):
            self._dealer.setsockopt(option, value)
        if key is not None:
            self._dealer.curve_serverkey, self._dealer.curve_publickey = key.server_public, key.public
            self._dealer.curve_secretkey = key.secret
        self._dealer.connect(endpoint)
        assert self._dealer.poll(1000 * DEADLINE_S)
        assert self._dealer.recv() == WELCOME

    def send_for(self, seconds: float, until: "subprocess.Popen[str] | None" = None) -> float:
        """Send for a time, or until a process exits; return the spans acknowledged per second."""
        begun_s = next_s = time.monotonic()
        before = self.acknowledged
        deadline_s = begun_s + (seconds if until is None else DEADLINE_S)
        while time.monotonic() < deadline_s and (until is None or until.poll() is None):
            if time.monotonic() >= next_s and self._sender.sequence - self.acknowledged < 32:
                self._dealer.send_multipart(self._batch())
                next_s += PERIOD_S
            self._dealer.poll(max(1, min(int(1000 * (next_s - time.monotonic())), 25)))
            self._listen()
        return BATCH_SPANS * (self.acknowledged - before) / (time.monotonic() - begun_s)

    def close(self) -> None:
        """Wait until everything is acknowledged, and close the socket."""
        deadline_s = time.monotonic() + 10
        while self.acknowledged < self._sender.sequence and time.monotonic() < deadline_s:
            self._dealer.poll(100)
            self._listen()
        assert self.acknowledged == self._sender.sequence
        self._dealer.close()

    def _batch(self) -> list[bytes]:
        first, self._number = self._number, self._number + BATCH_SPANS
        return self._sender.data(*map(make_span, range(first, self._number)))

    def _listen(self) -> None:
        while self._dealer.poll(0):
            frame = self._dealer.recv()
            if frame.startswith(ACK):
                acks = unpack_acks(frame)
                self.acknowledged = acks.get(self._sender.incarnation, self.acknowledged)


def suffer(connections: int, idle: int, *, keyed: bool, folder: Path) -> Outcome:
    """Run an attack, and return its results.

    Args:
        connections: the number of garbage connections.
        idle: the number of connections that send nothing.
        keyed: whether the collector has keys.
        folder: the folder for files.
    """
    key, arguments = None, ["tcp://127.0.0.1:0", str(folder / "rubbish.db")]
    if keyed:
        keys = KeyFolder(folder / "keys")
        keys.create()
        key = keys.add("billing")
        arguments.append(str(keys.path))
    with ExitStack() as stack:
        collector = stack.enter_context(_running([sys.executable, "-c", _COLLECT, *arguments]))
        assert collector.stdout is not None
        endpoint = collector.stdout.readline().strip()
        good = Good(stack.enter_context(zmq.Context()), endpoint, key)
        stack.enter_context(closing(good))
        before = good.send_for(ALONE_S)
        command = [sys.executable, "-m", "tests.faults.rubbish", "--attack", endpoint]
        attack = stack.enter_context(_running([*command, str(connections), str(idle)]))
        watch = stack.enter_context(_running([sys.executable, "-c", _WATCH, str(collector.pid)]))
        during = good.send_for(0, until=attack)
        good.send_for(4.0)  # Covers refusals that are counted late.
        memory_mib, most = _peak(watch)
        left = _descriptors(collector.pid)
        output, _ = attack.communicate(timeout=DEADLINE_S)
        good.close()
        collector.terminate()
        collector.communicate(timeout=DEADLINE_S)
        assert collector.returncode == 0
    return Outcome(
        before,
        during,
        json.loads(output),
        refusals(folder / "rubbish.db", strangers=True),
        memory_mib,
        (most, left),
    )


#: Monitor of the collector in a separate process, which does not delay the publisher.
_WATCH = """
import os, sys, time
pid, memory, files, line = sys.argv[1], 0, 0, ""
import select
while not select.select([sys.stdin], [], [], 0.1)[0]:
    try:
        files = max(files, len(os.listdir(f"/proc/{pid}/fd")))
        memory = max(memory, int(open(f"/proc/{pid}/statm").read().split()[1]))
    except OSError:
        break
print(memory * os.sysconf("SC_PAGE_SIZE") / 2**20, files)
"""


def _peak(watch: "subprocess.Popen[str]") -> tuple[float, int]:
    output, _ = watch.communicate("\n", timeout=DEADLINE_S)
    memory_mib, files = output.split()
    return float(memory_mib), int(files)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def _running(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Run a process, and kill it at the end."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def attack(endpoint: str, connections: int, idle: int) -> dict[str, float]:
    """Open the connections; return their numbers by fate."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    became: Counter[str] = Counter()
    begun_s = time.monotonic()

    def connect(data: bytes) -> socket.socket | None:
        try:
            made = socket.create_connection((host, int(port)), CUT_S)
            made.sendall(data)
        except OSError:
            became["not connected"] += 1
            return None
        return made

    silent = [made for _ in range(idle) if (made := connect(b"")) is not None]
    kinds = list(RUBBISH)
    held: list[socket.socket] = []
    for number in range(connections):
        made = connect(RUBBISH[kinds[number % len(kinds)]] or os.urandom(200))
        if made is not None:
            held.append(made)
        if len(held) == HELD or number == connections - 1:
            became.update(_wait_for_cuts(held))
            held.clear()
    became.update({f"idle {what}": count for what, count in _wait_for_cuts(silent).items()})
    return {**became, "seconds": round(time.monotonic() - begun_s, 1)}


def _wait_for_cuts(connections: list[socket.socket]) -> dict[str, int]:
    """Read from connections until they close, and return how many closed in time."""
    poller = select.poll()
    open_ones = {each.fileno(): each for each in connections}
    for each in connections:
        each.setblocking(False)
        poller.register(each, select.POLLIN)
    deadline_s = time.monotonic() + CUT_S
    while open_ones and (remaining_s := deadline_s - time.monotonic()) > 0:
        for number, _ in poller.poll(1000 * remaining_s):
            try:
                ended = not open_ones[number].recv(4096)
            except OSError:
                ended = True
            if ended:
                poller.unregister(number)
                open_ones.pop(number).close()
    left = len(open_ones)
    for each in open_ones.values():
        each.close()
    return {"cut": len(connections) - left, "left": left}


def main() -> int:
    """Print the figures; return 1 if one is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.rubbish")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--idle", type=int, default=2_000)
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attack:
        endpoint, connections, idle = arguments.attack
        print(json.dumps(attack(endpoint, int(connections), int(idle))))
        return 0
    missed = False
    for keyed in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            outcome = suffer(arguments.connections, arguments.idle, keyed=keyed, folder=Path(folder))
        share = outcome.rate_during / outcome.rate_before
        left = outcome.attack["left"] + outcome.attack["idle left"] + outcome.attack.get("not connected", 0)
        missed |= share < 0.95 or left > 0
        made = f"{arguments.connections:,} of rubbish, {arguments.idle:,} idle"
        print(f"with{'' if keyed else 'out'} keys, {made}")
        rates = f"{outcome.rate_before:,.0f} spans/s alone, {outcome.rate_during:,.0f} during"
        print(f"  good publisher     {rates}: it kept {share:.1%}")
        print(f"  connections        {outcome.attack}")
        print(f"  counted            {outcome.refused}")
        print(f"  collector's memory {outcome.memory_mib:.0f} MiB at most")
        print(f"  its descriptors    {outcome.descriptors[0]:,} at most, {outcome.descriptors[1]} afterwards")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
