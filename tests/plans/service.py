"""Process of one service: ``python -m tests.plans.service NAME COLLECTOR FOLDER``.

It prints its address, then reads the addresses of all services, and serves until its standard input ends.
"""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.server import SimpleXMLRPCServer

import ztrace
from tests.plans.logs import Log
from tests.plans.planning import NAMES
from tests.plans.working import Worker

#: Threads that serve raw ZeroMQ: more than there are requests at a time.
_THREADS = 8

#: Methods of a service by name.
Methods = dict[str, Callable[[str], None]]
Tell = Callable[[str], None]


class Methodical:
    """Object with the methods."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def ask(self, argument: str) -> None:
        """Serve a call."""
        self._methods["ask"](argument)

    def fetch(self, argument: str) -> None:
        """Serve a call."""
        self._methods["fetch"](argument)

    def place(self, argument: str) -> None:
        """Serve a call."""
        self._methods["place"](argument)


def serve_zerorpc(methods: Methods, tell: Tell) -> None:
    """Serve zerorpc, which has one thread for all calls."""
    import zerorpc
    import zmq

    server = zerorpc.Server(methods)
    server.bind("tcp://127.0.0.1:0")
    tell(server._events._socket.getsockopt_string(zmq.LAST_ENDPOINT))
    server.run()


def serve_zmq(methods: Methods, tell: Tell) -> None:
    """Serve raw ZeroMQ by REP sockets in threads behind a proxy."""
    import zmq

    context = zmq.Context()

    def work() -> None:
        socket = context.socket(zmq.REP)
        socket.connect("inproc://work")
        while True:
            request: Any = socket.recv_json()
            try:
                methods[request["name"]](request["argument"])
            except Exception as error:
                socket.send_string(str(error) or "error")
            else:
                socket.send_string("")

    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    front.bind("tcp://127.0.0.1:*")
    back.bind("inproc://work")
    for _ in range(_THREADS):
        threading.Thread(target=work, daemon=True).start()
    tell(front.getsockopt_string(zmq.LAST_ENDPOINT))
    zmq.proxy(front, back)


def serve_rpyc(methods: Methods, tell: Tell) -> None:
    """Serve rpyc, with a thread for each connection."""
    import rpyc
    from rpyc.utils.server import ThreadedServer

    exposed = {f"exposed_{name}": staticmethod(method) for name, method in methods.items()}
    service = type("Service", (rpyc.Service,), exposed)
    server = ThreadedServer(service, hostname="127.0.0.1")
    tell(f"127.0.0.1:{server.port}")
    server.start()


class _Server(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


def serve_xmlrpc(methods: Methods, tell: Tell) -> None:
    """Serve xmlrpc, with a thread for each connection."""
    server = _Server(("127.0.0.1", 0), logRequests=False, allow_none=True)
    for name in methods:
        server.register_function(methods[name], name)  # type: ignore[arg-type]
    tell(f"http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()


def serve_pyro5(methods: Methods, tell: Tell) -> None:
    """Serve Pyro5, with a thread for each connection."""
    from Pyro5.api import Daemon, expose

    exposed = {name: vars(Methodical)[name] for name in NAMES}
    daemon = Daemon("127.0.0.1", 0)
    tell(str(daemon.register(expose(type("Exposed", (Methodical,), exposed))(methods))))
    daemon.requestLoop()


def serve_managers(methods: Methods, tell: Tell) -> None:
    """Serve a manager, with a thread for each connection."""
    from tests.plans.clients import KEY, Manager

    Manager.register("worker", lambda: Methodical(methods))
    server: Any = Manager(("127.0.0.1", 0), KEY).get_server()
    tell(f"127.0.0.1:{server.address[1]}")
    server.serve_forever()


def main(name: str, collector: str, folder: str) -> None:
    """Trace this process, and run its service."""
    ztrace.configure(name, collector)
    ztrace.instrument()
    from tests.plans.clients import make_clients  # Imports the libraries.

    worker = Worker(Log(Path(folder), name), {})

    def make(method: str) -> Callable[[str], None]:
        def serve(argument: str) -> None:
            worker.serve(method, argument)

        serve.__name__ = method  # As rpyc has it at the server.
        return serve

    methods = {method: make(method) for method in NAMES}
    serve: Any = globals()[f"serve_{name}"]
    tell: Tell = lambda address: print(address, flush=True)  # noqa: E731
    threading.Thread(target=serve, args=(methods, tell), daemon=True).start()
    worker.clients.update(make_clients(json.loads(sys.stdin.readline())))
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
