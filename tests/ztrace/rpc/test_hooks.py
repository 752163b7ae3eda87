"""Hooks around calls at both ends, metadata, and what a handler knows of its call."""

import asyncio
from typing import Any

import pytest

from tests.ztrace.rpc.services import FREE, Billing
from tests.ztrace.waiting import wait_for
from ztrace import rpc
from ztrace.errors import SettingsError


class Told:
    """Service that tells what it knows of its call."""

    def tell(self) -> list[Any]:
        """Return the name, the metadata and whether there is a deadline, in the pool."""
        call = rpc.current_call()
        assert call is not None
        return [call.name, dict(call.metadata), call.remaining_s is not None, rpc.cancelled()]

    async def also_tell(self) -> list[Any]:
        """Return the same, in the loop."""
        return self.tell()

    async def refused(self) -> None:
        """Raise an exception."""
        raise ValueError("no")


@pytest.mark.parametrize("method", ["tell", "also_tell"])
def test_a_handler_knows_its_call(method: str) -> None:
    """Name, metadata and deadline of the current call are those of the client."""
    assert rpc.current_call() is None
    assert not rpc.cancelled()
    with rpc.Server(Told, FREE) as server, rpc.Client(*server.endpoints) as client:
        assert client.call(method) == [method, {}, True, False]
        with rpc.metadata(user="ann"), rpc.metadata(tenant=7):
            assert client.call(method) == [method, {"user": "ann", "tenant": 7}, True, False]
    with rpc.Server(Told, FREE) as server, rpc.Client(*server.endpoints, timeout_s=None) as client:
        assert client.call(method) == [method, {}, False, False]


def test_hooks_of_a_server_see_each_call_and_may_refuse_it() -> None:
    """`before_call` refuses by raising, and `after_call` knows how each call ended."""
    ended: list[tuple[str, str]] = []

    def authorize(call: rpc.CurrentCall) -> None:
        if call.metadata.get("user") != "ann":
            raise PermissionError(f"{call.name} needs a user")

    def note(call: rpc.CurrentCall, error: BaseException | None) -> None:
        ended.append((call.name, type(error).__name__))

    server = rpc.Server(Told(), FREE, before_call=authorize, after_call=note)
    with server, rpc.Client(*server.endpoints) as client:
        for method in ("tell", "also_tell"):
            with pytest.raises(rpc.RemoteError, match=f"PermissionError: {method} needs a user"):
                client.call(method)
        with rpc.metadata(user="ann"):
            assert client.tell()[0] == "tell"
            with pytest.raises(rpc.RemoteError, match="ValueError"):
                client.refused()
        wait_for(lambda: len(ended) == 4)
    permission = [("tell", "PermissionError"), ("also_tell", "PermissionError")]
    assert ended == [*permission, ("tell", "NoneType"), ("refused", "ValueError")]


def test_hooks_of_a_client_may_change_and_refuse_calls() -> None:
    """`before_call` adds metadata or raises, and `after_call` knows how each call ended."""
    ended: list[tuple[str, str]] = []

    def before(call: rpc.OutgoingCall) -> None:
        if call.name == "forbidden":
            raise PermissionError("not from here")
        call.metadata["user"] = "bob"
        if call.name == "other":
            call.name = "also_tell"

    def after(call: rpc.OutgoingCall, error: BaseException | None) -> None:
        ended.append((call.name, type(error).__name__))

    with rpc.Server(Told(), FREE) as server:
        with rpc.Client(*server.endpoints, before_call=before, after_call=after) as client:
            assert client.tell()[1] == {"user": "bob"}
            assert client.other()[0] == "also_tell"
            with pytest.raises(PermissionError):
                client.forbidden()

        async def run() -> None:
            async with rpc.AsyncClient(*server.endpoints, before_call=before, after_call=after) as client:
                assert (await client.other())[1] == {"user": "bob"}
                with pytest.raises(rpc.RemoteError):
                    await client.refused()

        asyncio.run(run())
    sync = [("tell", "NoneType"), ("also_tell", "NoneType"), ("forbidden", "PermissionError")]
    assert ended == [*sync, ("also_tell", "NoneType"), ("refused", "RemoteError")]


def test_modules_classes_and_mappings_are_served() -> None:
    """A module exposes its own functions, a class is instantiated, and a mapping names callables."""
    import math
    import shlex

    with rpc.Server(math, FREE) as server, rpc.Client(*server.endpoints) as client:
        assert client.sqrt(9.0) == 3.0
        assert "pi" not in server.methods
        assert client.call("_zt_inspect")["methods"]["sqrt"]["signature"] == "(x, /)"
    assert sorted(rpc.Server(shlex, FREE).methods) == ["join", "quote", "split"]
    assert "echo" in rpc.Server(Billing, FREE).methods
    assert rpc.Server({"up": str.upper}, FREE).methods == ["up"]


@pytest.mark.parametrize("name", ["os", "subprocess", "pickle", "importlib", "os.path"])
def test_dangerous_modules_are_refused(name: str) -> None:
    """A module with which a caller could run anything is served only as unsafe."""
    import importlib

    module = importlib.import_module(name)
    if name == "os.path":  # Whose name is posixpath: it only computes names.
        assert "join" in rpc.Server(module, FREE).methods
        return
    with pytest.raises(SettingsError, match="lets a caller run anything"):
        rpc.Server(module, FREE)
    assert rpc.Server(module, FREE, unsafe=True).methods


@pytest.mark.parametrize("thing", [{}, {"_hidden": print}, {"text": "x"}, {1: print}, int, object()])
def test_what_cannot_be_served_is_told(thing: object) -> None:
    """Nothing to serve, hidden names and values that cannot be called are refused in one line."""
    if thing is int:
        assert rpc.Server(thing, FREE).methods  # A number has methods.
        return
    with pytest.raises(SettingsError):
        rpc.Server(thing, FREE)


def test_a_hook_refuses_by_arguments() -> None:
    """`before_call` at a server sees the arguments, positional and by name."""

    def authorize(call: rpc.CurrentCall) -> None:
        if call.args != ["visa"] or call.kwargs.get("amount", 1) > 10:
            raise PermissionError("too much")

    with rpc.Server(Billing, FREE, before_call=authorize) as server, rpc.Client(*server.endpoints) as client:
        assert client.charge("visa", amount=10) == "visa:10"
        with pytest.raises(rpc.RemoteError, match="PermissionError: too much"):
            client.charge("visa", amount=11)
