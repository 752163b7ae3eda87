"""Calls of both clients: answers, streams, errors, keywords and timeouts."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol, assert_type

import pytest
import uvloop

from tests.ztrace.rpc.services import FREE, Billing, Refused
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace import rpc
from ztrace.rpc.blocking.parking import make_poller


@pytest.fixture(scope="module")
def server() -> Iterator[rpc.Server]:
    """Server in a thread, shared by the tests of this module."""
    with rpc.Server(Billing(), FREE) as started:
        yield started


@pytest.fixture
def billing(server: rpc.Server) -> Iterator[rpc.Client]:
    """Blocking client of the server."""
    with rpc.Client(*server.endpoints) as client:
        yield client


def test_a_call_of_each_kind_is_answered(billing: rpc.Client) -> None:
    """Plain functions, coroutines and inline functions return their results."""
    assert billing.charge("visa") == "visa:1"
    assert billing.echo({1: [None, b"x", 2.5]}) == {1: [None, b"x", 2.5]}
    assert billing.twice("a") == ["a", "a"]
    assert billing.call("echo", "call") == "call"


def test_keywords_and_defaults_reach_the_method(billing: rpc.Client) -> None:
    """Keyword arguments arrive by name, whether or not the server's version is known yet."""
    assert billing.charge(card="visa", amount=12) == "visa:12"
    assert billing.charge("visa", amount=13) == "visa:13"


@pytest.mark.parametrize("method", ["count", "tail"])
@pytest.mark.parametrize("number", [0, 1, 99, 100, 101, 1000])
def test_a_stream_has_all_items_in_order(billing: rpc.Client, method: str, number: int) -> None:
    """A stream of any length arrives whole, from the pool and from the loop."""
    assert list(billing.call(method, number)) == list(range(number))


def test_an_abandoned_stream_is_cancelled(server: rpc.Server, billing: rpc.Client) -> None:
    """A stream that is closed, or discarded, ends at the server, which has sent no more than the credit."""
    before = server.counts["cancelled"]
    stream = billing.tail(10**9)
    assert next(stream) == 0
    stream.close()
    assert list(zip(billing.count(10**9), range(2), strict=False)) == [(0, 0), (1, 1)]
    billing.echo("")  # A client's next operation tells of streams that were discarded.
    wait_for(lambda: server.counts["cancelled"] == before + 2)


def test_a_remote_exception_is_told_whole(billing: rpc.Client) -> None:
    """An error has the remote class, text, arguments, notes, traceback and causes."""
    with pytest.raises(rpc.RemoteError) as caught:
        billing.refuse()
    error = caught.value
    assert error.type == f"{Refused.__module__}.Refused"
    assert str(error) == f"{error.type}: ('no card', 3)"
    assert error.arguments == ("no card", 3)
    assert error.__notes__[0] == "ask again"
    assert "Remote Traceback (most recent call last):\n" in error.__notes__[1]
    assert "raise refused from error" in error.remote_traceback
    assert "ztrace/rpc" not in error.remote_traceback.replace("tests/ztrace/rpc", "")
    assert isinstance(error.__cause__, rpc.RemoteError)
    assert str(error.__cause__) == "KeyError: 'visa'"


def test_allowed_classes_are_raised_as_themselves(server: rpc.Server) -> None:
    """A class in `raises` is raised with its arguments and notes; no other is."""
    with rpc.Client(*server.endpoints, raises=[Refused]) as billing:
        with pytest.raises(Refused) as caught:
            billing.refuse()
        assert caught.value.args == ("no card", 3)
        assert caught.value.__notes__[0] == "ask again"
        with pytest.raises(rpc.RemoteError):
            billing.charge()


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("charg", (), "NameError: charg; did you mean charge?"),
        ("__init__", (), "NameError: __init__"),
        ("charge", (), "charge(card: str, amount: int = 1) -> str: missing a required argument: 'card'"),
        ("echo", ({"a": [1, 1 << 70]},), "the arguments of echo cannot be sent: an integer beyond 64 bits"),
    ],
)
def test_a_mistake_is_explained(
    billing: rpc.Client, method: str, arguments: tuple[object, ...], message: str
) -> None:
    """An unknown method names the nearest, wrong arguments the signature, a bad value its place."""
    with pytest.raises((rpc.RemoteError, TypeError)) as caught:
        billing.call(method, *arguments)
    assert message in str(caught.value)


def test_a_late_answer_is_a_timeout_and_cancels(server: rpc.Server, billing: rpc.Client) -> None:
    """A deadline ends the call at both ends."""
    counts = server.counts
    billing.echo("connected")

    def count_ended() -> int:
        # At a deadline the server may be first to end a call, as failed.
        return counts["cancelled"] + counts["failed"]

    calls, ended = counts["calls"], count_ended()
    with rpc.deadline(0.05), pytest.raises(rpc.DeadlineExceeded) as caught:
        billing.wait()
    assert isinstance(caught.value, TimeoutError)
    wait_for(lambda: (counts["calls"], count_ended()) == (calls + 1, ended + 1))


def test_threads_share_a_client(billing: rpc.Client) -> None:
    """Each of many threads gets the answers of its own calls."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for each in range(50):
            if (answer := billing.echo([number, each])) != [number, each]:
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_no_server_is_told_as_such() -> None:
    """A call without a connection fails in time, and names the address."""
    with rpc.Client("tcp://127.0.0.1:9", timeout_s=0.05) as client:
        with pytest.raises(rpc.DeadlineExceeded) as caught:
            client.charge("visa")
        assert "no connection to tcp://127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_asynchronous_client(
    server: rpc.Server, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Calls are awaited, streams read by ``async for``, and cancelled tasks cancel their calls."""

    async def run() -> None:
        async with rpc.AsyncClient(*server.endpoints) as billing:
            assert await billing.charge(card="visa", amount=2) == "visa:2"
            assert [each async for each in billing.tail(1000)] == list(range(1000))
            assert await asyncio.gather(*(billing.echo(each) for each in range(300))) == list(range(300))
            with pytest.raises(rpc.RemoteError):
                await billing.refuse()
            before = server.counts["cancelled"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(billing.wait(), 0.05)
            while server.counts["cancelled"] == before:
                await asyncio.sleep(0.002)
            async with rpc.Server(Billing(), FREE) as here, rpc.AsyncClient(*here.endpoints) as client:
                assert await client.charge("visa") == "visa:1"
                assert [each async for each in client.count(200)] == list(range(200))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(run(), 30))


def test_a_closed_client_fails_its_calls(server: rpc.Server) -> None:
    """Closing a client ends the calls of other threads with `PeerLost`."""
    client = rpc.Client(*server.endpoints)
    client.echo("connected")
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.wait()
        except rpc.PeerLost as error:
            errors.append(error)

    calls = server.counts["calls"]
    thread = threading.Thread(target=wait)
    thread.start()
    wait_for(lambda: server.counts["calls"] > calls)
    rpc.close(client)
    thread.join()
    assert len(errors) == 1
    with pytest.raises(rpc.PeerLost):
        client.echo("closed")


def test_an_address_in_use_is_one_line(server: rpc.Server) -> None:
    """A second server at an address is refused in one line."""
    from ztrace.errors import EndpointError

    with pytest.raises(EndpointError) as caught:
        rpc.Server(Billing(), *server.endpoints).start()
    assert "the address is in use" in str(caught.value)


def test_every_call_is_counted(server: rpc.Server) -> None:
    """Calls are answered, failed or cancelled, and none is left over."""
    counts = server.counts
    wait_for(
        lambda: counts["calls"] == counts["answered"] + counts["failed"] + counts["cancelled"],
        lambda: counts,
    )


def test_a_busy_client_keeps_its_stream() -> None:
    """A program that computes between two items longer than three periods keeps its open stream."""
    with rpc.Server(Billing(), FREE, heartbeat_s=0.1) as server:
        with rpc.Client(*server.endpoints, heartbeat_s=0.1) as client:
            stream = client.tail(200)
            first = next(stream)
            time.sleep(0.5)
            assert [first, *stream] == list(range(200))

        async def run() -> None:
            async with rpc.AsyncClient(*server.endpoints, heartbeat_s=0.1) as client:
                items: list[int] = []
                async for item in client.tail(200):
                    if not items:
                        time.sleep(0.5)  # As a program that computes does.
                    items.append(item)
                assert items == list(range(200))

        asyncio.run(run())


class Interface(Protocol):
    """Methods that a client of the tests declares."""

    def charge(self, card: str, amount: int = 1) -> str:
        """Charge a card."""
        ...

    def count(self, number: int) -> Iterator[int]:
        """Yield numbers."""
        ...


class AsyncInterface(Protocol):
    """Methods that an asynchronous client of the tests declares."""

    async def charge(self, card: str, amount: int = 1) -> str:
        """Charge a card."""
        ...

    def tail(self, number: int) -> AsyncIterator[int]:
        """Yield numbers."""
        ...


def test_an_interface_types_and_checks_calls(server: rpc.Server) -> None:
    """Within its block a client has the type of its interface, and calls that do not fit fail early."""
    with rpc.Client(*server.endpoints, interface=Interface) as billing:
        assert_type(billing, Interface)
        assert assert_type(billing.charge("visa", amount=2), str) == "visa:2"
        assert list(billing.count(3)) == [0, 1, 2]
        with pytest.raises(AttributeError, match="Interface has no method charg; did you mean charge"):
            billing.charg()  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match=r"charge\(card: str, amount: int = 1\) -> str: missing"):
            billing.charge()  # type: ignore[call-arg]

    async def run() -> None:
        async with rpc.AsyncClient(*server.endpoints, interface=AsyncInterface) as billing:
            assert assert_type(await billing.charge("visa", amount=3), str) == "visa:3"
            assert [each async for each in billing.tail(3)] == [0, 1, 2]

    asyncio.run(run())


def test_submitted_calls_run_in_the_background(server: rpc.Server) -> None:
    """`submit` returns futures, which have results or exceptions, and can be cancelled."""
    cancelled = server.counts["cancelled"]
    with rpc.Client(*server.endpoints) as billing:
        futures = [billing.submit("echo", number) for number in range(50)]
        assert [future.result(10) for future in futures] == list(range(50))
        with pytest.raises(rpc.RemoteError):
            billing.submit("refuse").result(10)
        future = billing.submit("wait")
        open_call = billing.submit("wait")
        assert billing.submit("echo", "sent after them").result(10)
        assert future.cancel()
        wait_for(lambda: server.counts["cancelled"] == cancelled + 1)
    with pytest.raises(rpc.PeerLost):
        open_call.result(10)
    wait_for(lambda: server.counts["cancelled"] == cancelled + 2)


def test_all_servers_are_gathered(server: rpc.Server) -> None:
    """`gather` has the answer or the error of each server, by its address."""
    with rpc.Server({"echo": lambda value: [value]}, FREE) as other, rpc.Server({"no": print}, FREE) as third:
        places = (*server.endpoints, *other.endpoints, *third.endpoints)
        with rpc.Client(*places) as client:
            results = rpc.gather(client.echo, 1)
        assert list(results) == list(places)
        assert [results[place] for place in places[:2]] == [1, [1]]
        assert isinstance(results[places[2]], rpc.RemoteError)

        async def run() -> None:
            async with rpc.AsyncClient(*places) as client:
                again = await rpc.gather(client.echo, value=1)
                assert [again[place] for place in places[:2]] == [1, [1]]

        asyncio.run(run())


def test_a_hedged_call_asks_a_second_server() -> None:
    """The first answer counts, and the slower call is cancelled."""

    async def slow() -> str:
        await asyncio.Event().wait()
        return "slow"

    async def quick() -> str:
        return "quick"

    with rpc.Server({"name": slow}, FREE) as first, rpc.Server({"name": quick}, FREE) as second:
        places = (*first.endpoints, *second.endpoints)

        async def run() -> None:
            async with rpc.AsyncClient(*places) as client:
                with rpc.hedge(after_s=0.02):
                    assert [await client.name() for _ in range(6)] == ["quick"] * 6

        asyncio.run(run())
        with rpc.Client(*places) as client, rpc.hedge(after_s=0.02):
            assert [client.name() for _ in range(6)] == ["quick"] * 6
            counts = first.counts
            wait_for(lambda: client.name() == "quick" and counts["calls"])
        wait_for(lambda: counts["cancelled"] == counts["calls"])


def test_a_caller_whose_answer_another_takes_is_woken() -> None:
    """A caller that polls goes on once another has received its answer, although no socket tells of it."""
    begun, may_end = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        may_end.wait(DEADLINE_S)
        return "held"

    answers: list[str] = []
    with (
        rpc.Server({"hold": hold}, FREE) as server,
        rpc.Client(*server.endpoints, heartbeat_s=None) as client,
    ):
        connections = client._connections
        connections._turn_s = 10 * DEADLINE_S

        def receive(is_over: Callable[[], bool]) -> bool:
            with connections._lock:
                connections._read()
            return is_over()

        def call() -> None:
            # Here, because other tests may have left a hub of gevent in the main thread.
            connections._pollers[False] = make_poller([connections._waker.descriptor])
            answers.append(client.hold())

        thread = threading.Thread(target=call)
        thread.start()
        wait_for(lambda: receive(begun.is_set))
        may_end.set()
        wait_for(lambda: receive(lambda: not thread.is_alive()))
    assert answers == ["held"]
