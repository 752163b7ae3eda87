"""The same frames against a server of zerorpc 0.6.3 and one of ztrace.rpc, each in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ztrace.programs import ROOT
from tests.ztrace.rpc.conformance import requests, streams
from tests.ztrace.rpc.conformance.cases import Case, item, later, request
from tests.ztrace.rpc.conformance.raw import HEARTBEAT, Event, RawClient

pytestmark = pytest.mark.process

#: Cases of all kinds
CASES = (*requests.CASES, *streams.CASES)

#: Period of the servers' heartbeats; channels are lost after about three.
HEARTBEAT_S = 0.5


@contextmanager
def serving(library: str) -> Iterator[str]:
    """Run a server of the library, and yield its endpoint."""
    process = subprocess.Popen(
        [sys.executable, "tests/ztrace/rpc/conformance/serve.py", library, str(HEARTBEAT_S)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def zerorpc_server() -> Iterator[str]:
    """Yield the endpoint of a zerorpc server."""
    with serving("zerorpc") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def own_server() -> Iterator[str]:
    """Yield the endpoint of a server of ztrace.rpc."""
    with serving("ztrace") as endpoint:
        yield endpoint


def answers(endpoint: str, case: Case, expected: tuple[Event, ...]) -> tuple[Event, ...]:
    """Send a case's messages, and return the answers, without addresses in memory."""
    with RawClient(endpoint) as client:
        first, *others = case.sent
        client.send(*(first if isinstance(first, tuple) else (b"", first)))
        # As a client does: zerorpc drops a grant that comes before it has opened the channel.
        events = client.read(1) if others else []
        for frame in others:
            client.send(b"", frame)
        events += client.read(len(expected) - len(events))
        return tuple(_without_addresses(event) for event in events + client.read_rest())


def _without_addresses(event: Event) -> Event:
    if event.name != "ERR" or not isinstance(event.args, list):
        return event
    # Later versions of Python add a guess to the last line.
    texts = [re.sub(r"\. Did you mean: .*", "", text) for text in event.args]
    return event._replace(args=[re.sub("0x[0-9a-f]+", "0x…", text) for text in texts])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_zerorpc_answers(zerorpc_server: str, case: Case) -> None:
    """A zerorpc server gives the answers that the table has, so the table is true."""
    assert answers(zerorpc_server, case, case.answers) == case.answers


def heartbeats(endpoint: str, version: int) -> list[Event]:
    """Open a stream, send a heartbeat if the version is below 2, and return the stream's first two events."""
    channel = f"beat-{version}"
    with RawClient(endpoint) as client:
        client.send(b"", request("count", [3], channel, v=version))
        events = client.read(1)
        if version < 2:
            client.send(b"", later(HEARTBEAT, [0], channel))
        return events + client.read(1, heartbeats=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_own_answers(own_server: str, case: Case) -> None:
    """A server of ztrace.rpc answers the same, but where the table has another answer."""
    expected = case.answers if case.ours is None else case.ours
    assert answers(own_server, case, expected) == expected


@pytest.mark.parametrize("version", [1, 2, 3])
def test_zerorpc_heartbeats(zerorpc_server: str, version: int) -> None:
    """A zerorpc server sends heartbeats with a zero, to version 1 once the peer has sent one."""
    channel = f"beat-{version}"
    assert heartbeats(zerorpc_server, version) == [item(0, channel), Event(channel, HEARTBEAT, [0])]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_own_heartbeats(own_server: str, version: int) -> None:
    """A server of ztrace.rpc sends heartbeats as zerorpc's does."""
    channel = f"beat-{version}"
    assert heartbeats(own_server, version) == [item(0, channel), Event(channel, HEARTBEAT, [0])]


def test_own_servers_survive_what_ends_zerorpc(own_server: str) -> None:
    """An event for a channel that is a list or a map, after which zerorpc is deaf, is ignored."""
    with RawClient(own_server) as client:
        for channel in ([1], {"a": 1}):
            client.send(b"", later("_zpc_more", [1], channel))
            client.send(b"", request("echo", ["x"], response_to=channel))
        assert client.read_rest() == []
