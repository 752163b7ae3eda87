"""A service on the terminal: signatures, and docstrings below them."""

from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.commands.rpc.services import Method, Service
from ztrace_viewer.terminal.characters import clean, clean_lines
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.screen import UNNAMED


def draw_service(service: Service, address: str) -> Iterator[Text]:
    """Yield the lines of a service: its methods with the first lines of their docstrings."""
    spoken = f"ztrace.rpc {service.version}" if service.version else "zerorpc"
    told = f"  {clean(address)}  {spoken}  {plural(len(service.methods), 'method')}"
    yield Text.assemble((clean(service.name) or UNNAMED, "bold"), (told, "dim"))
    for method in service.methods.values():
        yield Text()
        yield from draw_method(method, whole=False)


def draw_method(method: Method, *, whole: bool) -> Iterator[Text]:
    """Yield the lines of a method: its signature, and its docstring or the first line of it."""
    line = Text(method.signature(), "bold")
    if method.is_stream:
        line.append("  stream", "not bold cyan")
    yield line
    lines = clean_lines(method.doc or "")
    for each in lines if whole else lines[:1]:
        if each or whole:
            yield Text(f"    {each}".rstrip(), "dim")
