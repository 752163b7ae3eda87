"""Process of one service: ``python -m ztrace_viewer.demo.service NAME COLLECTOR FOLDER``.

One idea: tracing takes `configure` and `instrument`, and nothing else in here.
"""

import sys

import gevent
import zerorpc

import ztrace
from ztrace_viewer import lifeline
from ztrace_viewer.demo.shop import AddressOf, Billing, Front, Mail, Orders, Stock


def serve(name: str, address_of: AddressOf) -> None:
    """Run a service until the demo ends."""
    server = _make_server(name, address_of)
    server.bind(address_of(name))
    hub = gevent.get_hub()
    stopper = hub.loop.async_()
    stopper.start(gevent.spawn, server.stop)
    lifeline.hold(stopper.send)
    lifeline.report_ready()
    server.run()


def _make_server(name: str, address_of: AddressOf) -> "zerorpc.Server | zerorpc.Puller":
    match name:
        case "front":
            return zerorpc.Server(Front(address_of))
        case "orders":
            return zerorpc.Server(Orders(address_of))
        case "billing":
            return zerorpc.Server(Billing())
        case "stock":
            return zerorpc.Server(Stock())
        case "mail":
            return zerorpc.Puller(Mail())
    raise ValueError(f"there is no service {name}")


def main() -> None:
    """Trace this process, and run its service."""
    name, collector, folder = sys.argv[1:]
    ztrace.configure(service=name, endpoint=collector)
    ztrace.instrument("zerorpc")
    serve(name, lambda service: f"ipc://{folder}/{service}")


if __name__ == "__main__":
    main()
