"""Peers that block, are killed or exit during a call."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Child, Fleet, Outcome, run_both
from tests.ztrace.middleware.zerorpc.journal import read_journals
from tests.ztrace.middleware.zerorpc.trees import (
    Unlogged,
    compare,
    find,
    origins,
    predict_served,
    ways,
)
from tests.ztrace.waiting import wait_for

pytestmark = pytest.mark.process

LOST = "zerorpc.exceptions.LostRemote"
#: Possible reasons for a killed caller's missing span, before and after its process is known to be gone.
NOT_STORED = {"still running", "not traced", "ended with its process"}


@contextmanager
def doomed(fleet: Fleet) -> Iterator[Child]:
    """Start another service, which the test ends."""
    child = fleet.start_service("doomed", "--doomed")
    try:
        yield child
    finally:
        fleet.forget_service("doomed")


def _serving(fleet: Fleet, token: str) -> bool:
    return any(entry.kind == "server" for entry in read_journals(fleet.folder, token))


def test_lost_remote(traced: Fleet, plain: Fleet) -> None:
    """A server that sends no heartbeats is lost to its client, and its own span ends normally."""
    outcome, reference = run_both(traced, plain, "lost_remote")
    assert outcome.seen == reference.seen == [[LOST, "Lost remote after 0.4s heartbeat"]]
    tree = traced.check(outcome)
    assert ways(tree) == [("client", "driver", "raised", "Lost remote after 0.4s heartbeat")]
    assert find(tree, "server", "front")["status"] == "ok"


def test_lost_remote_of_an_asynchronous_call(traced: Fleet, plain: Fleet) -> None:
    """zerorpc raises LostRemote in the greenlet that started an asynchronous call, and the call times out."""
    outcome, reference = run_both(traced, plain, "asynchronous_lost_remote")
    assert outcome.seen == reference.seen
    assert outcome.seen[0][0] == LOST
    token = f"{outcome.token}.0"
    errors = {("client", token): "zerorpc.exceptions.TimeoutExpired"}
    traced.check(outcome, Unlogged(errors=errors))


def test_server_killed_in_the_call(traced: Fleet, plain: Fleet) -> None:
    """The caller of a killed server records a lost remote, and the server's span never ends."""
    with doomed(traced), doomed(plain):
        outcomes = run_both(traced, plain, "call_doomed")
    assert outcomes[0].seen == outcomes[1].seen == [[LOST, "Lost remote after 0.4s heartbeat"]]
    unlogged = Unlogged(unserved={f"{outcomes[0].token}.0"})
    tree = traced.check(outcomes[0], unlogged, killed=True)
    assert origins(tree) == {("client", "driver")}


def test_server_killed_in_a_stream(traced: Fleet, plain: Fleet) -> None:
    """A stream whose server is killed ends with LostRemote in the reader."""
    with doomed(traced), doomed(plain):
        outcomes = run_both(traced, plain, "lost_in_stream")
    assert outcomes[0].seen[-1] == outcomes[1].seen[-1] == [LOST, "Lost remote after 0.4s heartbeat"]
    unlogged = Unlogged(unserved={f"{outcomes[0].token}.0"})
    tree = traced.check(outcomes[0], unlogged, killed=True)
    assert find(tree, "client", "driver")["status"] == "error"


def test_client_killed_in_the_call(traced: Fleet) -> None:
    """The server of a killed client records a lost remote, and its tree reports the missing parent."""
    driver = traced.start_driver("--doomed", name="victim")
    command = traced.command("call_brittle")
    driver.say(json.dumps(command))
    token = f"{command['token']}.0"
    served = wait_for(
        lambda: [e for e in read_journals(traced.folder, command["token"]) if e.kind == "server" and e.end_ns]
    )
    assert served[0].error == LOST
    expected = predict_served(token, served, Unlogged())
    tree = traced.wait_for_tree(traced.find_trace(token), 1)
    compare(tree, expected, Unlogged(), complete=False)
    (missing,) = tree["missing"]
    assert missing["reason"] in NOT_STORED
    assert missing["parent_id"] == tree["roots"][0]["parent_id"]


def test_a_method_that_ends_the_server(traced: Fleet, plain: Fleet) -> None:
    """A method that raises SystemExit ends its process, and its span is stored first."""
    statuses = []
    outcomes = []
    for fleet in (traced, plain):
        with doomed(fleet) as child:
            outcomes.append(fleet.run("call_quitter"))
            statuses.append(child.process.wait(20))
    assert statuses == [3, 3]
    assert outcomes[0].seen == outcomes[1].seen
    tree = traced.check(outcomes[0])
    assert origins(tree) == {("client", "driver"), ("server", "doomed")}


def test_a_stopped_server_goes_on(traced: Fleet) -> None:
    """A server stopped and continued by signals ends its span after its client has given up."""
    with doomed(traced) as child:
        command = traced.command("stopped_server")
        traced.driver.say(json.dumps(command))
        wait_for(lambda: _serving(traced, command["token"]))
        child.process.send_signal(signal.SIGSTOP)
        outcome = Outcome(command["token"], json.loads(traced.driver.hear()))
        child.process.send_signal(signal.SIGCONT)
        assert outcome.seen[0][0] == LOST
        served = wait_for(
            lambda: [e for e in traced.entries(outcome.token) if e.kind == "server" and e.end_ns]
        )
        tree = traced.check(outcome)
        assert (find(tree, "server", "doomed")["status"] == "error") == (served[0].error is not None)
        assert child.finish() == 0


def test_a_server_that_is_not_there(traced: Fleet, plain: Fleet) -> None:
    """A call without a server ends with zerorpc's timeout or LostRemote, whichever comes first."""
    endpoint = "tcp://127.0.0.1:9"
    nobody = {"front": {"rpc": endpoint, "brittle": endpoint}}
    seen = []
    for scenario in ("short_of_breath", "call_nobody"):
        args = ["echo"] if scenario == "short_of_breath" else []
        for fleet in (traced, plain):
            command = fleet.command(scenario, *args, endpoints=nobody)
            outcome = Outcome(command["token"], fleet.driver.ask(command))
            seen.append(outcome.seen)
            if fleet is traced:
                traced.check(outcome)
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert [each[0][0].rpartition(".")[2] for each in seen[::2]] == ["TimeoutExpired", "LostRemote"]
