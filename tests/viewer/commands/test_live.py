"""``ztrace profile --live``: requests to running processes, with a real collector and scripted publishers."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import zmq

from tests.collector.messages import make_profile, make_span, rows
from tests.collector.peers import Peer
from tests.collector.test_service import process
from tests.viewer.commands.test_process import MAIN, environment
from tests.viewer.conftest import Run
from tests.ztrace.waiting import wait_for
from ztrace.records import DECLINED, FINISHED, STARTED
from ztrace.wire import REQUEST, Request, unpack_request
from ztrace_collector.storing.store import Store

pytestmark = pytest.mark.process

#: What a scripted publisher does with a request: takes samples; begins, and exits; declines; is of a version
#: that does not know requests.
TAKES, BEGINS, DECLINES, IGNORES = "takes", "begins", "declines", "ignores"


class Service(threading.Thread):
    """A publisher that beats, and handles requests as it is told to."""

    def __init__(self, context: "zmq.Context[Any]", endpoint: str, number: int, name: str, does: str) -> None:
        super().__init__()
        self._peer = Peer(context, endpoint, number)
        self._peer.sender.service = name
        self._does = does
        self._ending = threading.Event()
        self.requests: list[Request] = []
        self.incarnation = self._peer.sender.incarnation

    def run(self) -> None:
        """Beat until the end, and answer requests once."""
        peer, beat_s = self._peer, 0.0
        while not self._ending.is_set():
            if time.monotonic() >= beat_s and not (self.requests and self._does == BEGINS):
                peer.send(peer.sender.beat())
                beat_s = time.monotonic() + 0.5
            while peer.socket.poll(20):
                frame = peer.socket.recv()
                if frame.startswith(REQUEST) and self._does != IGNORES:
                    self._answer(unpack_request(frame))
        peer.socket.close()

    def end(self) -> None:
        """End the thread, without a word to the collector."""
        self._ending.set()
        self.join(20)
        assert not self.is_alive()

    def _answer(self, request: Request) -> None:
        sender = self._peer.sender
        is_known = any(each.nonce == request.nonce for each in self.requests)
        if is_known or request.service not in ("", sender.service):
            return
        self.requests.append(request)
        if self._does == DECLINES:
            self._peer.send(
                sender.profile(make_profile(answers=[[request.nonce, DECLINED]], samples=0, sums=[]))
            )
            return
        now_ns = time.time_ns()
        told = make_profile(answers=[[request.nonce, STARTED]], start_ns=now_ns, end_ns=now_ns)
        self._peer.send(sender.profile(told))
        if self._does == BEGINS:
            self._peer.send(sender.bye())
            return
        self._peer.send(sender.data(make_span(len(self.requests), start_ns=now_ns)))
        self._peer.send(sender.profile(told._replace(answers=[[request.nonce, FINISHED]])))


#: Numbers of the services, each an incarnation of its own.
_numbers = count()

#: Function that starts a service.
Start = Callable[[str, str], Service]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return the database of a collector, and its endpoint."""
    path = tmp_path_factory.mktemp("live") / "ztrace.db"
    with process(path) as (_, endpoint):
        yield path, endpoint


@pytest.fixture
def start(place: tuple[Path, str]) -> Iterator[Start]:
    """Return a function that starts a service of a name, which the collector knows when it returns."""
    path, endpoint = place
    with ExitStack() as stack:
        context: zmq.Context[Any] = stack.enter_context(zmq.Context())

        def begin(name: str, does: str) -> Service:
            service = Service(context, endpoint, next(_numbers), name, does)
            service.start()
            stack.callback(service.end)
            known = "SELECT id FROM instances WHERE instance_id = ?"
            wait_for(lambda: rows(path, known, service.incarnation.hex()))
            return service

        yield begin


def live(run: Run, path: Path, service: str, *more: str) -> Any:
    """Run the command."""
    arguments = ["--db", str(path), "--service", service, "--seconds", "1", *more]
    return run("profile", "--live", *arguments)


def test_running_processes_are_profiled(run: Run, place: tuple[Path, str], start: Start) -> None:
    """Each process of the service is asked once; its trees and its code are shown, and no request is left."""
    path, _ = place
    services = [start("shop", TAKES), start("shop", TAKES), start("bank", TAKES)]
    result = live(run, path, "shop", "--hz", "20", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (charge,) = document["paths"]
    assert charge["calls"] == 2
    assert charge["run_share"] == 0.5
    assert {each["state"] for each in charge["stacks"]} == {"run", "wait"}
    assert sum(each["ns"] for each in charge["stacks"]) == 4 * 40_000_000
    assert document["uncounted"] == []
    assert [len(each.requests) for each in services] == [1, 1, 0]
    assert services[0].requests[0][1:3] == ("shop", 20)
    assert rows(path, "SELECT id FROM profile_requests") == []
    stages = [line.split()[0] for line in result.stderr.splitlines()]
    assert stages == ["asking", "profiling", "counting"]


def test_code_of_running_calls_is_shown(run: Run, place: tuple[Path, str], start: Start) -> None:
    """A process that has gone is told, and the code of calls without a tree is shown."""
    path, _ = place
    start("gone", BEGINS)
    result = live(run, path, "gone", "--seconds", "10")
    assert result.exit_code == 0, result.output
    assert "code of calls that are in no counted tree" in result.stdout
    assert "render shop.py:9 < main shop.py:3" in result.stdout
    assert "1 process of 'gone': gone before the end" in result.stderr


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (DECLINES, "profiling is off in 1 process of '{}'; start them without ZTRACE_PROFILE=off"),
        (IGNORES, "1 process of '{}' did not answer; upgrade their ztrace"),
    ],
)
def test_processes_that_take_no_samples_are_told(
    run: Run,
    place: tuple[Path, str],
    start: Start,
    does: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that declines, and one that is too old, are one line with the reason and what to do."""
    monkeypatch.setattr("ztrace_viewer.commands.live.ANSWERED_S", 1.0)
    start(does, does)
    result = live(run, place[0], does)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"ztrace: {told.format(does)}"
    assert result.stdout == ""


def test_no_process_is_told(run: Run, place: tuple[Path, str], tmp_path: Path) -> None:
    """Without a process of the service, or without a collector, nothing is asked."""
    path, _ = place
    result = live(run, path, "nobody")
    assert (result.exit_code, result.stderr) == (
        1,
        "ztrace: no process of 'nobody' is connected; see 'ztrace status'\n",
    )
    alone = tmp_path / "alone.db"
    Store(alone).close()
    result = live(run, alone, "nobody")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ztrace: no collector writes to {alone}; start one with 'ztrace up")
    assert live(run, tmp_path / "none.db", "shop").exit_code == 2


def test_ctrl_c_ends_the_command_alone(place: tuple[Path, str], start: Start) -> None:
    """Ctrl-C ends the command at once, withdraws the request, and prints no traceback."""
    path, _ = place
    service = start("patient", IGNORES)
    command = [sys.executable, "-c", MAIN, "profile", "--live", "--service", "patient", "--db", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as asking:
        wait_for(lambda: rows(path, "SELECT id FROM profile_requests"))
        asking.send_signal(signal.SIGINT)
        out, told = asking.communicate(timeout=20)
    assert (asking.returncode, out) == (130, "")
    assert "Traceback" not in told
    assert rows(path, "SELECT id FROM profile_requests") == []
    assert service.is_alive()
