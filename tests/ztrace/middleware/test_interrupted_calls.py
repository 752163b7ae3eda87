"""Exceptions of signals and timeouts that arrive in the wrappers of ZeroMQ and rpyc."""

import gc
from collections.abc import Callable
from itertools import count

import pytest
import rpyc
import zmq

import ztrace
from tests.ztrace.interrupting import EVENTS, Interrupter, Limit, interrupt
from tests.ztrace.middleware.test_rpyc import connected
from tests.ztrace.recording import Recorder
from tests.ztrace.waiting import wait_for
from ztrace.context import get_current, make_current
from ztrace.middleware import zmq as middleware

middleware.install()

#: Instructions and lines from one place to the next.
STEPS = {"opcode": 29, "line": 2}


def places(event: str, run: Callable[[Interrupter], list[str]], factor: int = 1) -> dict[str, list[str]]:
    """Interrupt a scenario at one place after the other, and return what was found wrong, by place."""
    wrong: dict[str, list[str]] = {}
    number, interrupter = 0, None
    # Scenarios collect garbage: without what other tests have left, which takes longer than all else.
    gc.collect()
    gc.freeze()
    while interrupter is None or interrupter.raised:
        interrupter = Interrupter(event, number, Limit)
        found = run(interrupter)
        if found:
            wrong[f"{number} {interrupter.place}"] = found
        number += STEPS[event] * factor
    assert number > 10 * STEPS[event] * factor
    return wrong


def look(recorder: Recorder, counts: dict[str, int], interrupter: Interrupter, caught: object) -> list[str]:
    """Return what is wrong after a scenario."""
    found = []
    if interrupter.raised and type(caught) is not Limit:
        found.append(f"raised {caught!r}")
    if get_current() is not None:
        found.append(f"current {get_current()!r}")
        make_current(None)
    if recorder.register:
        found.append(f"open {[getattr(span, 'name', span) for span in recorder.register]}")
        recorder.register.clear()
    if len(recorder.spans) != len({span.span_id for span in recorder.spans}):
        found.append("recorded twice")
    if counts:
        found.append(f"failed {counts}")
        counts.clear()
    recorder.queue.clear()
    return found


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    "kinds", [(zmq.REP, zmq.REQ), (zmq.ROUTER, zmq.REQ), (zmq.PULL, zmq.PUSH), (zmq.SUB, zmq.PUB)]
)
def test_zmq(recorder: Recorder, counts: dict[str, int], event: str, kinds: tuple[int, int]) -> None:
    """An interrupted send or receive leaves no span open once its socket is closed."""
    numbers = count()

    def run(interrupter: Interrupter) -> list[str]:
        server, client = (context.socket(kind) for kind in kinds)
        address = f"inproc://{next(numbers)}"  # An address is free some time after its socket is closed.
        server.bind(address)
        client.connect(address)
        ztrace.carry(client)
        if kinds[0] == zmq.SUB:
            server.subscribe(b"")

        def scenario() -> None:
            with ztrace.span("outer"):
                client.send(b"a")
                if kinds[1] != zmq.REQ:
                    client.send_multipart([b"b", b"c"])
            if kinds[0] == zmq.ROUTER:
                server.send_multipart(server.recv_multipart(zmq.NOBLOCK))
            else:
                server.recv(zmq.NOBLOCK)
            if kinds[0] == zmq.REP:
                server.send(b"b")
            if kinds[1] == zmq.REQ:
                client.recv(zmq.NOBLOCK)
            else:
                server.recv_multipart(zmq.NOBLOCK)

        gc.collect()  # Monitors of the last interrupted call: an exception raised as they are closed is lost.
        caught = interrupt(scenario, interrupter)
        server.close()
        client.close()
        return look(recorder, counts, interrupter, caught)

    with zmq.Context() as context:
        assert places(event, run) == {}


@pytest.mark.parametrize("event", EVENTS)
def test_rpyc(recorder: Recorder, counts: dict[str, int], event: str) -> None:
    """An interrupted call of rpyc leaves no span open, and the connection goes on."""
    with connected(sync_request_timeout=3) as connection:
        connection.root.echo(0)
        wait_for(lambda: not recorder.register)
        recorder.queue.clear()
        echo, fail = connection.root.echo, connection.root.fail
        later = rpyc.async_(echo)

        def scenario() -> None:
            with ztrace.span("outer"):
                echo(1)
                later(1).wait()
                try:
                    fail("no")
                except ValueError:
                    pass

        def run(interrupter: Interrupter) -> list[str]:
            caught = interrupt(scenario, interrupter)
            connection.ping()  # Whatever is under way is done.
            wait_for(lambda: len(recorder.register) <= 1)
            return look(recorder, counts, interrupter, caught)

        assert places(event, run, 3) == {}
