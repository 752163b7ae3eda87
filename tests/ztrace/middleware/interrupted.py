"""Process whose calls are interrupted in ztrace's code: ``python -m …middleware.interrupted STEP``.

Each scenario, a client's or a server's part of a call, is interrupted at every STEPth line of ztrace's code.
The other part runs in another process. Prints one JSON object: by scenario, how many places were tried, and
what was found wrong, by place.
"""

import gc
import json
import logging
import multiprocessing.connection
import multiprocessing.reduction
import os
import pickle
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import managers
from typing import Any
from xmlrpc import client as xmlrpc_client
from xmlrpc.server import SimpleXMLRPCServer

import Pyro5.api
from Pyro5.socketutil import SocketConnection

import ztrace
from tests.ztrace.interrupting import Interrupter, Limit, interrupt
from tests.ztrace.middleware.managing import KEY, Manager, Shop
from tests.ztrace.recording import Recorder
from ztrace import diagnostics, spans
from ztrace.context import get_current, make_current
from ztrace.middleware import executors, tasks
from ztrace.middleware.trailers import make_trailer
from ztrace.spans import SERVER

memory = Recorder()
#: Context of a caller.
_CONTEXT = b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-03"


class Executor(ProcessPoolExecutor):
    """Executor that runs each task at once, in this process."""


def submit_here(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Run a task at once, and pickle what would go to another process and back."""
    future: Future[Any] = Future()
    try:
        future.set_result(pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(fn))(*args, **kwargs))))
    except Exception as error:
        future.set_exception(error)
    return future


def serve(addresses: Any) -> None:
    """Serve in this process, with a thread for each library, and tell the addresses."""
    server: Any = Manager(("127.0.0.1", 0), KEY).get_server()
    threading.Thread(target=server.accepter, daemon=True).start()
    server.stop_event = threading.Event()
    web = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    web.register_instance(Shop())
    web.register_multicall_functions()
    threading.Thread(target=web.serve_forever, daemon=True).start()
    daemon = Pyro5.api.Daemon("127.0.0.1", 0)
    uri = daemon.register(Counter(), "shop")
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    addresses.send((server.address, web.server_address[1], str(uri)))
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()


def start_servers() -> dict[str, Any]:
    """Start the servers in another process; return proxies of them, and servers for requests here.

    A tracer in one thread while other threads run the same code crashes Python 3.12.
    """
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("fork").Process(target=serve, args=(there,), daemon=True).start()
    manager_address, port, uri = here.recv()
    manager: Any = Manager(manager_address, KEY)
    manager.connect()
    web = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    web.register_instance(Shop())
    web.register_multicall_functions()
    daemon = Pyro5.api.Daemon("127.0.0.1", 0)
    daemon.register(Counter(), "shop")
    return {
        "managers": manager.shop(),
        "xmlrpc": xmlrpc_client.ServerProxy(f"http://127.0.0.1:{port}"),
        "dispatcher": web,
        "pyro5": Pyro5.api.Proxy(uri),
        "daemon": daemon,
    }


@Pyro5.api.expose
class Counter:
    """A shop with a stream."""

    def add(self, a: int, b: int) -> int:
        """Return the sum."""
        return a + b

    def count(self) -> Any:
        """Yield numbers."""
        yield from range(2)


def serve_manager() -> None:
    """Serve one request of a manager's client, whose answer nobody reads."""
    ours, theirs = socket.socketpair()
    server: Any = managers.Server.__new__(managers.Server)
    server.stop_event, server.id_to_obj = threading.Event(), {"1": (Shop(), {"echo"}, None)}
    with multiprocessing.connection.Connection(ours.detach()) as conn, theirs:
        peer = multiprocessing.connection.Connection(theirs.detach())
        packed = pickle.dumps(("1", "echo", (b"x",), {}))
        peer.send_bytes(packed + make_trailer(_CONTEXT))
        with socket.socket(fileno=multiprocessing.reduction.DupFd(peer.fileno()).detach()) as half:
            half.shutdown(socket.SHUT_WR)
        try:
            server.serve_client(conn)
        except SystemExit:
            pass
        finally:
            peer.close()


def dispatch(web: Any, method: str, *params: Any) -> None:
    """Dispatch a call by xmlrpc."""
    web._marshaled_dispatch(xmlrpc_client.dumps(params, method).encode())


def serve_pyro(daemon: Any, method: str) -> None:
    """Serve one request of a client by Pyro5, whose answer nobody reads."""
    ours, theirs = socket.socketpair()
    with theirs:
        serializer = Pyro5.serializers.serializers["serpent"]
        data = serializer.dumpsCall("shop", method, (1, 2), {})
        message = Pyro5.protocol.SendingMessage(
            Pyro5.protocol.MSG_INVOKE, 0, 1, serializer.serializer_id, data, annotations={"ZTRC": _CONTEXT}
        )
        theirs.sendall(message.data)
        connection = SocketConnection(ours)
        try:
            daemon.handleRequest(connection)
        finally:
            connection.close()


def make_scenarios(peers: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return what is interrupted, by name."""
    executor: Any = Executor.__new__(Executor)

    def manager() -> Any:
        # A new connection: an exception between a request and its answer leaves the answer unread.
        peers["managers"]._tls.__dict__.pop("connection", None)
        return peers["managers"]

    def multicall() -> None:
        calls: Any = xmlrpc_client.MultiCall(peers["xmlrpc"])
        calls.add(1, 2)
        calls.refuse(1)
        list(calls())

    return {
        "submit": lambda: executor.submit(abs, 1).result(),
        "submit error": lambda: executor.submit(abs, "x").result(),
        "task": lambda: tasks.Task(abs, "abs", SERVER, _CONTEXT)(1),
        "xmlrpc's client": lambda: peers["xmlrpc"].add(1, 2),
        "xmlrpc's multicall": multicall,
        "xmlrpc's server": lambda: dispatch(peers["dispatcher"], "add", 1, 2),
        "xmlrpc's server, error": lambda: dispatch(peers["dispatcher"], "refuse", 1),
        "xmlrpc's server, multicall": lambda: dispatch(
            peers["dispatcher"], "system.multicall", [{"methodName": "add", "params": [1, 2]}]
        ),
        "Pyro5's client": lambda: peers["pyro5"].add(1, 2),
        "Pyro5's stream": lambda: list(peers["pyro5"].count()),
        "Pyro5's server": lambda: serve_pyro(peers["daemon"], "add"),
        "Pyro5's server, unknown": lambda: serve_pyro(peers["daemon"], "steal"),
        # Last: see `gc.disable`.
        "manager's client": lambda: manager().echo(b"x"),
        "manager's client, error": lambda: manager().refuse("x"),
        "manager's server": serve_manager,
    }


def check(work: Callable[[], object], interrupter: Interrupter, expected: type[BaseException]) -> list[str]:
    """Interrupt a scenario at one place, and return what is wrong afterwards."""
    wrong = []
    with ztrace.span("outer") as outer:
        caught = interrupt(work, interrupter)
        if caught is not None and type(caught) not in (Limit, expected):
            wrong.append(f"raised {caught!r}")
        if caught is not None:  # Its traceback keeps streams and buffers alive.
            traceback.clear_frames(caught.__traceback__)
            caught = None
        if get_current() is not outer:
            wrong.append(f"current {get_current()!r}")
            make_current(outer)
    if memory.register:
        gc.collect()  # A stream that its reader has lost.
    if memory.register or outer.open_children:
        names = [getattr(span, "name", span) for span in memory.register]
        wrong.append(f"open {names} {outer.open_children}")
    if tasks.open_tasks:
        wrong.append(f"tasks {tasks.open_tasks}")
        tasks.open_tasks.clear()
    if diagnostics.counts:
        wrong.append(f"failed {diagnostics.counts}")
        diagnostics.counts.clear()
    memory.register.clear()
    memory.queue.clear()
    return wrong


def run(work: Callable[[], object], step: int) -> dict[str, Any]:
    """Interrupt a scenario at every stepth place."""
    try:
        work()
        expected: type[BaseException] = Limit
    except Exception as error:
        expected = type(error)
    memory.register.clear()
    wrong: dict[str, list[str]] = {}
    number, interrupter = -step, None
    while interrupter is None or interrupter.raised:
        number += step
        interrupter = Interrupter("line", number, Limit)
        found = check(work, interrupter, expected)
        if found:
            wrong[f"{number} {interrupter.place}"] = found
    return {"places": number // step, "wrong": wrong}


def main(step: int) -> None:
    """Interrupt each scenario."""
    logging.getLogger("ztrace").setLevel(logging.CRITICAL)
    logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL)
    # Python 3.12 may crash as it collects what the exceptions of an interrupted connection keep: a view of a
    # buffer that is freed first, without ztrace as well.
    gc.disable()
    sys.unraisablehook = lambda _: None
    threading.excepthook = lambda _: None
    ztrace.instrument("managers", "xmlrpc", "pyro5")
    ProcessPoolExecutor.submit = submit_here  # type: ignore[method-assign]
    executors.install()
    spans.publisher = memory  # type: ignore[assignment]
    scenarios = make_scenarios(start_servers())
    print(json.dumps({name: run(work, step) for name, work in scenarios.items()}), flush=True)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
