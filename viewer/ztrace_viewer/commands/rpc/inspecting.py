"""``ztrace rpc inspect``: the methods of a service."""

import click

from ztrace.errors import SettingsError
from ztrace_viewer.commands.rpc.arguments import key_option
from ztrace_viewer.commands.rpc.completing import complete_remote_methods
from ztrace_viewer.terminal.saying import write_out


@click.command()
@click.argument("address", metavar="ADDR")
@click.argument("method", required=False, shell_complete=complete_remote_methods)
@key_option
@click.option("--openrpc", is_flag=True, help="Print an OpenRPC document.")
@click.option("--stub", is_flag=True, help="Print typed interfaces of the service, a Python module.")
def inspect(address: str, method: str | None, key: str | None, openrpc: bool, stub: bool) -> None:
    """Show the methods of a service.

    Each method has its signature with types, and the first line of its docstring; METHOD shows the whole of
    one. A server of zerorpc tells names of parameters, but no types.

    \b
    Example:
      ztrace rpc inspect tcp://127.0.0.1:4242
      ztrace rpc inspect tcp://127.0.0.1:4242 --stub > billing_api.py
    """
    from dataclasses import replace

    from ztrace_viewer.commands.rpc.asking import ask, describe, find_method

    if openrpc and stub:
        raise SettingsError("--openrpc and --stub exclude each other", hint="give one of them")
    service = ask(address, lambda client: describe(client, address), key=key)
    if method is not None:
        service = replace(service, methods={method: find_method(service, method, address)})
    if openrpc:
        from ztrace_viewer.commands.rpc.openrpc import write_openrpc

        write_out(write_openrpc(service, address))
    elif stub:
        from ztrace_viewer.commands.rpc.stubs import write_stub

        write_out(write_stub(service))
    else:
        from ztrace_viewer.commands.rpc.drawing import draw_method, draw_service
        from ztrace_viewer.terminal.screen import open_screen, write

        if method is not None:
            write(open_screen(), *draw_method(service.methods[method], whole=True))
        else:
            write(open_screen(), *draw_service(service, address))
