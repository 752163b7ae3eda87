"""Process of one service: ``python -m ztrace_viewer.demo.service NAME COLLECTOR FOLDER``.

One idea: tracing takes `configure` and `instrument`, and nothing else in here. Each process imports the
libraries of its service alone.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import ztrace
from ztrace_viewer import lifeline

if TYPE_CHECKING:
    import zerorpc


def serve(name: str, folder: str) -> None:
    """Run a service until the demo ends."""
    match name:
        case "mail":
            from ztrace_viewer.demo import mail

            mail.serve(f"ipc://{folder}/mail", f"{folder}/loyalty", f"ipc://{folder}/courier", _report_ready)
        case "loyalty":
            from ztrace_viewer.demo import loyalty

            loyalty.serve(f"{folder}/loyalty", _report_ready)
        case "courier":
            from ztrace_viewer.demo import courier

            courier.serve(f"ipc://{folder}/courier", _report_ready)
        case _:
            _serve_zerorpc(name, lambda service: f"ipc://{folder}/{service}")


def _report_ready(stop: Callable[[], None]) -> None:
    lifeline.hold(stop)
    lifeline.report()


def _serve_zerorpc(name: str, address_of: Callable[[str], str]) -> None:
    import gevent

    server = _make_server(name, address_of)
    server.bind(address_of(name))
    hub = gevent.get_hub()
    stopper = hub.loop.async_()
    stopper.start(gevent.spawn, server.stop)
    _report_ready(stopper.send)
    server.run()


def _make_server(name: str, address_of: Callable[[str], str]) -> "zerorpc.Server":
    import zerorpc

    from ztrace_viewer.demo.shop import Billing, Front, Orders, Stock

    match name:
        case "front":
            return zerorpc.Server(Front(address_of))
        case "orders":
            return zerorpc.Server(Orders(address_of))
        case "billing":
            return zerorpc.Server(Billing())
        case "stock":
            return zerorpc.Server(Stock())
    raise ValueError(f"there is no service {name}")


def main() -> None:
    """Trace this process, and run its service."""
    name, collector, folder = sys.argv[1:]
    ztrace.configure(service=name, endpoint=collector, version=ztrace.__version__)
    ztrace.instrument()
    serve(name, folder)


if __name__ == "__main__":
    main()
