"""``ztrace rpc``: serve, inspect, call, try and measure RPC services from the shell.

One idea: a service describes itself, and words of the command line become arguments by this description. A
server of zerorpc tells less, and is called in the same way.
"""

from typing import ClassVar

import click

from ztrace_viewer.commands.lazy import LazyGroup, Place


class _Rpc(LazyGroup):
    """The commands of ``ztrace rpc``."""

    package = __name__
    places: ClassVar = {
        "serve": Place("serving", "serve", "Serve a module, class or object."),
        "inspect": Place("inspecting", "inspect", "Show the methods of a service."),
        "call": Place("calling", "call", "Call a method, and print its result."),
        "repl": Place("repl", "repl", "Call methods interactively."),
        "bench": Place("measuring", "bench", "Measure the calls of a method."),
        "ping": Place("measuring", "ping", "Measure the round trip to a server."),
        "queue": Place("queue", "queue", "Show the jobs of a queue, retry or drop them."),
    }


@click.group(cls=_Rpc)
def rpc() -> None:
    """Serve, call, inspect, try and measure RPC services.

    The services are those of ztrace.rpc and of zerorpc. ADDR is an address such as tcp://127.0.0.1:4242.

    \b
    Example:
      ztrace rpc serve time --bind tcp://127.0.0.1:4242
      ztrace rpc call tcp://127.0.0.1:4242 strftime %Y/%m/%d
    """
