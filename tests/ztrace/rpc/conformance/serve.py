"""Program that serves the conformance tests' service, by zerorpc or by ztrace.rpc, and prints its endpoint.

Arguments: the library, and the period of heartbeats in seconds.
"""

import inspect
import os
import sys
import threading

import zmq

from tests.ztrace.rpc.conformance.service import Service


def _serve_zerorpc(heartbeat_s: float) -> None:
    import zerorpc

    for name, method in list(vars(Service).items()):
        if inspect.isgeneratorfunction(method):
            setattr(Service, name, zerorpc.stream(method))
    server = zerorpc.Server(Service(), name="Service", heartbeat=heartbeat_s)
    server.bind("tcp://127.0.0.1:0")
    print(server._events._socket.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    server.run()


def _serve_ztrace(heartbeat_s: float) -> None:
    from ztrace import rpc

    server = rpc.Server(Service(), "tcp://127.0.0.1:*", name="Service", heartbeat_s=heartbeat_s).start()
    print(server.endpoints[0], flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    {"zerorpc": _serve_zerorpc, "ztrace": _serve_ztrace}[sys.argv[1]](float(sys.argv[2]))
