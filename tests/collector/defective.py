"""Collector with a defect in it: ``python -m tests.collector.defective PLACE BIND FILE``.

The place names a function that raises TypeError whenever it meets a span called "defect". The program prints
its endpoints, for publishers and for OTLP over HTTP, each on a line.
"""

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from ztrace.addresses import Address
from ztrace_collector.checking import failures, messages
from ztrace_collector.checking.columns import Columns
from ztrace_collector.forwarding.forwarder import Forwarder
from ztrace_collector.otlp.listening.servers import Listening, Servers
from ztrace_collector.otlp.mapping import incoming
from ztrace_collector.otlp.sending.destinations import read_destinations
from ztrace_collector.receiving.adopting import Adopter
from ztrace_collector.receiving.inbox import Inbox
from ztrace_collector.receiving.receiver import Receiver
from ztrace_collector.service import Options, collect
from ztrace_collector.storing import contents, retention
from ztrace_collector.storing.retention import Limits
from ztrace_collector.tables.accounts import Account
from ztrace_collector.tables.figures import MethodFigures
from ztrace_collector.tables.known import KnownSpans
from ztrace_collector.tables.traces import Traces
from ztrace_collector.tables.unfinished import Unfinished

#: Name of a span that meets the defect.
MARK = "defect"
#: Sequence number of a publisher's message that meets the defect in functions that see no span.
NUMBER = 5


def is_marked(value: Any) -> bool:
    """Return whether a value has the mark in it, at any depth."""
    if isinstance(value, Columns):
        return MARK in value.name
    if isinstance(value, bytes | bytearray):
        return MARK.encode() in value
    if isinstance(value, str):
        return value == MARK
    if isinstance(value, list | tuple):
        return any(map(is_marked, value))
    return hasattr(value, "SerializeToString") and is_marked(value.SerializeToString())


def replace(place: Any, **functions: Callable[..., Any]) -> None:
    """Replace functions of a module or a class."""
    for name, function in functions.items():
        setattr(place, name, function)


def when_marked(place: Any, name: str) -> None:
    """Make a function fail when an argument has the mark."""
    function = getattr(place, name)

    def fail(*arguments: Any, **named: Any) -> Any:
        if any(map(is_marked, arguments)):
            raise TypeError("an injected defect")
        return function(*arguments, **named)

    replace(place, **{name: fail})


def always(place: Any, name: str) -> None:
    """Make a function fail whatever it is called with."""

    def fail(*arguments: Any, **named: Any) -> Any:
        raise KeyError("an injected defect")

    replace(place, **{name: fail})


def every_other(place: Any, name: str) -> None:
    """Make every other call of a function fail."""
    function, counter = getattr(place, name), count()

    def fail(*arguments: Any, **named: Any) -> Any:
        if next(counter) % 2:
            raise IndexError("an injected defect")
        return function(*arguments, **named)

    replace(place, **{name: fail})


def fail_account() -> None:
    """Make an account fail with the message of one number, in whatever is done with it."""
    receive = Account.receive

    def fail(self: Account, header: Any, *arguments: Any) -> Any:
        if header.sequence == NUMBER and header.kind == 1:
            raise AssertionError("an injected defect")
        return receive(self, header, *arguments)

    replace(Account, receive=fail)


def fail_late() -> None:
    """Make a transaction fail as it writes the figures that a marked span is part of."""
    add, write = MethodFigures.add, MethodFigures.write

    def remember(self: Any, batch: Columns, methods: Any) -> None:
        self.__dict__["marked"] = getattr(self, "marked", False) or is_marked(batch)
        add(self, batch, methods)

    def fail(self: Any) -> None:
        marked, self.__dict__["marked"] = getattr(self, "marked", False), False
        if marked:
            raise ZeroDivisionError("an injected defect")
        write(self)

    replace(MethodFigures, add=remember, write=fail)


PLACES: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "reading a batch": lambda: when_marked(contents, "decode_spans"),
    "reading a parcel": lambda: when_marked(contents, "read_parcel"),
    "checking columns": lambda: when_marked(messages, "make_columns"),
    "adding to traces": lambda: when_marked(Traces, "add"),
    "adding to figures": lambda: when_marked(MethodFigures, "add"),
    "adding unfinished spans": lambda: when_marked(Unfinished, "add"),
    "finding known spans": lambda: when_marked(KnownSpans, "split"),
    "reading an exception": lambda: when_marked(failures._Reading, "failure"),
    "writing figures": fail_late,
    "accounting": fail_account,
    "mapping OTLP": lambda: when_marked(incoming, "read_request"),
    "deleting": lambda: always(retention, "used_bytes"),
    "adopting": lambda: always(Adopter, "step"),
    "sending on": lambda: always(Forwarder, "step"),
    "tending connections": lambda: every_other(Receiver, "tend"),
}


def main() -> None:
    """Run the collector until SIGTERM."""
    place, bind, database = sys.argv[1:]
    PLACES[place]()
    servers: list[Servers] = []

    def listen(inbox: Inbox, say: Callable[[str], None]) -> Servers:
        servers.append(Servers(Listening(Address("127.0.0.1", 0)), inbox, say))
        return servers[0]

    def announce(endpoint: str) -> None:
        print(endpoint, f"http://{servers[0].http}", sep="\n", flush=True)

    options = Options(
        bind,
        Path(database),
        limits=Limits(max_bytes=1 << 40),
        adopt=Path(database).parent / "spool" if place == "adopting" else None,
        companions=[listen],
        destinations=read_destinations(["http://127.0.0.1:1"], [], {}) if place == "sending on" else (),
    )
    collect(options, ready=announce)


if __name__ == "__main__":
    main()
