"""Completion of the methods of a server."""

import click
from click.shell_completion import CompletionItem

from ztrace.errors import ZtraceError
from ztrace_viewer.commands.completing import PLAIN


def complete_remote_methods(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the methods of the server whose address is on the line."""
    from ztrace_viewer.commands.rpc.asking import ask, describe

    address = str(ctx.params.get("address"))
    try:
        methods = ask(address, lambda client: describe(client, address), key=ctx.params.get("key")).methods
    except ZtraceError:
        return []
    return [
        CompletionItem(name, help=method.signature())
        for name, method in sorted(methods.items())
        if name.startswith(incomplete) and PLAIN.fullmatch(name)
    ]
