"""``ztrace rpc serve``: a module, class or object on the network."""

import os
from pathlib import Path

import click

from ztrace.addresses import parse_port
from ztrace.errors import EndpointError, quote

#: Address at which clients connect without --bind.
DEFAULT_BIND = "tcp://127.0.0.1:4242"


def before_bind() -> None:
    """Do nothing: `reloading` has a child wait here, with the program imported."""


@click.command()
@click.argument("target", metavar="MODULE[:NAME]")
@click.option(
    "--bind",
    "endpoint",
    default=DEFAULT_BIND,
    show_default=True,
    metavar="ENDPOINT",
    help="Where clients connect, as in tcp://127.0.0.1:4242 or ipc:///run/billing; port * takes a free one.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of 'ztrace keys' with those of the clients that may connect.",
)
@click.option("--unsafe", is_flag=True, help="Serve modules too with which a caller can run anything.")
@click.option("--reload", is_flag=True, help="Restart when a Python file in the current folder changes.")
def serve(target: str, endpoint: str, keys: Path | None, unsafe: bool, reload: bool) -> None:
    """Serve a module, class or object.

    A module of the current folder, or any other that can be imported, is served with the functions that it
    defines; NAME is a class, object or mapping in it. The methods are printed at the start. An address that
    other machines can reach needs keys. Calls are traced under the module's name or ZTRACE_SERVICE, if
    ZTRACE_ENDPOINT is set or a collector listens on this machine. Ctrl-C or SIGTERM stops the server once
    its open calls have ended.

    \b
    Example:
      ztrace rpc serve billing --bind tcp://127.0.0.1:4242 --reload
      ztrace rpc serve shop:Orders
    """
    if reload:
        from ztrace_viewer.commands.rpc.reloading import serve_versions

        return serve_versions(target, endpoint, keys, unsafe=unsafe)
    import ztrace
    from ztrace import rpc
    from ztrace_viewer.commands.rpc.targets import load
    from ztrace_viewer.commands.rpc.tracing import has_collector

    _check(endpoint)
    thing = load(target, Path.cwd())
    if os.environ.get("ZTRACE_ENDPOINT") or has_collector():
        ztrace.configure(os.environ.get("ZTRACE_SERVICE") or target.partition(":")[0])
    before_bind()
    rpc.serve(thing, endpoint, keys=keys, unsafe=unsafe)


def _check(endpoint: str) -> None:
    """Refuse a port that ZeroMQ would cut to 16 bits."""
    port = endpoint.rpartition(":")[2]
    if endpoint.startswith("tcp://") and port != "*":
        try:
            parse_port(port)
        except ValueError as error:
            raise EndpointError(
                f"cannot bind {quote(endpoint)}: {error}", hint=f"as in {DEFAULT_BIND}"
            ) from None
