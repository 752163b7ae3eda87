"""``ztrace rpc call``: one call of a method."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.options import database_option
from ztrace_viewer.commands.rpc.arguments import WordsCommand, key_option, read_call
from ztrace_viewer.commands.rpc.completing import complete_remote_methods

if TYPE_CHECKING:
    from ztrace.rpc import AsyncClient


@click.command(cls=WordsCommand)
@click.argument("address", metavar="ADDR")
@click.argument("method", shell_complete=complete_remote_methods)
@click.argument("words", metavar="[ARG|NAME=VALUE]...", nargs=-1)
@click.option(
    "--args", "json_args", metavar="JSON", help="All arguments: an array, or an object of keywords."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Longest time of the call.",
)
@key_option
@click.option("--trace", "show_tree", is_flag=True, help="Show the call tree afterwards.")
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON, texts too.")
def call(
    address: str,
    method: str,
    words: tuple[str, ...],
    json_args: str | None,
    timeout_s: float | None,
    key: str | None,
    show_tree: bool,
    database: Path,
    as_json: bool,
) -> None:
    """Call a method, and print its result.

    An ARG that is JSON is its value, and any other is a text. NAME=VALUE is a keyword argument if the method
    has a parameter of this name; after -- there are none. A text is printed as it is, anything else as JSON,
    and the items of a stream on a line each as they come. The traceback of a method that raises is printed,
    with exit status 1. Where a collector listens at ZTRACE_ENDPOINT, the call is traced, and the trace's id
    is printed on standard error.

    \b
    Example:
      ztrace rpc call tcp://127.0.0.1:4242 charge visa amount=12
      ztrace rpc call tcp://127.0.0.1:4242 charge visa --trace
      ztrace rpc call tcp://127.0.0.1:4242 charge --args '["visa", 12]'
    """
    from ztrace_viewer.commands.rpc.asking import ask, describe, find_method, print_call, telling
    from ztrace_viewer.commands.rpc.tracing import require_tracing, show_trace, tracing

    literal = WordsCommand.literal()
    if json_args is not None and (words or literal):
        raise SettingsError("--args excludes other arguments", hint="give all of them in it")

    if show_tree:
        require_tracing()
    trace_ids: list[str] = []

    async def run(client: "AsyncClient") -> None:
        found = find_method(await describe(client, address), method, address)
        args, kwargs = read_call(found, words, literal, json_args)
        with tracing(method, trace_ids):
            await print_call(client, method, args, kwargs, as_json=as_json)

    try:
        with telling(method):
            ask(address, run, key=key, timeout_s=timeout_s)
    finally:
        if show_tree and trace_ids:
            show_trace(trace_ids[0], database)
