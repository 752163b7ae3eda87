"""Connections to a server for one command."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

import click

from ztrace import rpc
from ztrace.addresses import can_connect
from ztrace.errors import EndpointError, NotFoundError, SettingsError, quote
from ztrace_viewer.commands.rpc.services import Method, Service, read_service
from ztrace_viewer.commands.rpc.words import write_result
from ztrace_viewer.commands.statuses import NOTHING_FOUND
from ztrace_viewer.terminal.saying import complain, complain_lines, write_out

T = TypeVar("T")

#: Time in which a server has to answer the first question.
CONNECT_S = 3.0
#: Time that ztrace's own question is waited for once zerorpc's is answered: zerorpc-node does not answer to
#: names that it does not know.
_OWN_S = 0.5
#: Docstrings that are asked for one by one.
_MAX_TEXTS = 200


def ask(
    address: str,
    question: Callable[[rpc.AsyncClient], Awaitable[T]],
    *,
    key: str | None,
    timeout_s: float | None = None,
) -> T:
    """Connect to a server, and return the result of a coroutine with the client.

    Args:
        address: of the server.
        question: called with the client, which is closed afterwards.
        key: line that ``ztrace keys add`` has printed, for a server with keys.
        timeout_s: time that a call may take; None is unlimited.

    Raises:
        EndpointError: the address is invalid.
        SettingsError: the key is damaged.
        RpcError: a call has failed.
    """

    if not can_connect(address):
        raise EndpointError(
            f"{quote(address)} is not an address", hint="write tcp://127.0.0.1:4242 or ipc:///run/billing"
        )

    async def run() -> T:
        async with rpc.AsyncClient(address, timeout_s=timeout_s, key=key) as client:
            return await question(client)

    return asyncio.run(run())


async def describe(client: rpc.AsyncClient, address: str) -> Service:
    """Return the service of a server.

    Raises:
        EndpointError: no server answers.
    """
    service: Service | None = None
    own = asyncio.create_task(_ask_description(client, address, "_zt_inspect"))
    try:
        service = await _ask_description(client, address, "_zerorpc_inspect")
        async with asyncio.timeout(_OWN_S):
            service = await own or service
    except TimeoutError:
        pass  # A server of zerorpc-node.
    finally:
        own.cancel()
    return service if service is not None else await _list_methods(client, address)


async def ask_first(client: rpc.AsyncClient, address: str, name: str, *args: object) -> object:
    """Return the answer to a question that each server answers at once.

    Raises:
        EndpointError: no server answers.
    """
    try:
        with rpc.deadline(CONNECT_S):
            return await client.call(name, *args)
    except (rpc.DeadlineExceeded, rpc.PeerLost):
        raise EndpointError(
            f"no server answers at {quote(address)}",
            hint="start one with 'ztrace rpc serve'; one with keys needs --key",
        ) from None


async def _ask_description(client: rpc.AsyncClient, address: str, name: str) -> Service | None:
    try:
        return read_service(await ask_first(client, address, name))
    except rpc.RemoteError:
        return None


async def _list_methods(client: rpc.AsyncClient, address: str) -> Service:
    """Return the service of an old server that cannot describe its methods, with their docstrings."""
    listed = await ask_first(client, address, "_zerorpc_list")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    texts = await asyncio.gather(*(client.call("_zerorpc_help", name) for name in names[:_MAX_TEXTS]))
    docs = dict(zip(names, texts, strict=False))
    answer = await ask_first(client, address, "_zerorpc_name")
    methods = {name: {"doc": docs.get(name)} for name in names}
    service = read_service({"name": answer, "methods": methods})
    assert service is not None
    return service


def find_method(service: Service, name: str, address: str) -> Method:
    """Return a method of a service by its name.

    Raises:
        NotFoundError: there is none; the hint has the nearest names.
    """
    method = service.methods.get(name)
    if method is not None:
        return method
    near = get_close_matches(name, service.methods, 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"see 'ztrace rpc inspect {address}'"
    raise NotFoundError(f"{service.name or address} has no method {quote(name)}", hint=hint)


async def invoke(
    client: rpc.AsyncClient, name: str, args: Sequence[object], kwargs: Mapping[str, object]
) -> object:
    """Call a method, and return its result, or an iterator over the items of a stream.

    Raises:
        SettingsError: the arguments cannot be sent.
    """
    try:
        result: object = await client.call(name, *args, **kwargs)
    except TypeError as error:
        raise SettingsError(str(error)) from error
    return result


async def print_call(
    client: rpc.AsyncClient,
    name: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    as_json: bool = False,
) -> None:
    """Call a method, and print its result, or the items of a stream on a line each as they come."""
    result = await invoke(client, name, args, kwargs)
    if not isinstance(result, AsyncIterator):
        _print(result, pretty=sys.stdout.isatty(), as_json=as_json)
        return
    async for item in result:
        _print(item, pretty=False, as_json=as_json)


def _print(value: object, *, pretty: bool, as_json: bool) -> None:
    write_out(f"{write_result(value, pretty=pretty, as_json=as_json)}\n")
    sys.stdout.flush()


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Print the failure of a call, with the remote traceback, and exit with status 1."""
    try:
        yield
    except rpc.RemoteError as error:
        complain_lines(error.remote_traceback.rstrip())
        complain(f"ztrace: {name} raised {error}")
    except (rpc.DeadlineExceeded, rpc.PeerLost) as error:
        complain(f"ztrace: {error}")
    else:
        return
    click.get_current_context().exit(NOTHING_FOUND)
