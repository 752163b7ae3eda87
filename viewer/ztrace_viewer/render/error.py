"""One exception group on the terminal: what it is, how it travelled, and where it was raised."""

from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.characters import clean
from ztrace_viewer.documents import ErrorDocument, Hop
from ztrace_viewer.moments import format_ago
from ztrace_viewer.render.tracebacks import draw_exception, headline, shorten_type
from ztrace_viewer.screen import name_call, plural

#: How an exception came to a span of the chain.
_HOW = {
    "raised": "raised here",
    "passed": "passed on",
    "wrapped": "wrapped what came",
    "replaced": "replaced what came",
}


def draw_error(document: ErrorDocument, width: int, now_ns: int) -> Iterator[Text]:
    """Yield the lines of a group: its facts, its latest way from the caller to the origin, the traceback."""
    group = document["group"]
    yield Text(headline(group["type"], group["message"]), style="bold red")
    yield Text.assemble(
        ("error ", "dim"),
        clean(group["group"]),
        ("  began in ", "dim"),
        (name_call(group["service"], group["name"], group["kind"]), "bold"),
    )
    first, last = format_ago(group["first_ns"], now_ns), format_ago(group["last_ns"], now_ns)
    yield Text(f"{plural(group['count'], 'time')} · first {first} · last {last}")
    yield Text()
    yield Text.assemble(("from the caller to the origin, in trace ", "dim"), group["trace_id"])
    for depth, hop in enumerate(document["hops"]):
        yield from _draw_hop(hop, min(depth, 12), hop["span_id"] == group["origin_span_id"])
    if not document["hops"]:
        yield Text("  its spans are not stored", style="yellow")
    yield Text()
    exception = document["exception"]
    if exception is None:
        yield Text("the exception itself is not stored", style="yellow")
    else:
        yield from draw_exception(exception, width)


def _draw_hop(hop: Hop, depth: int, origin: bool) -> Iterator[Text]:
    line = Text("  " * depth + ("└╴" if depth else "  "), style="dim")
    line.append(name_call(hop["service"], hop["name"], hop["kind"]), "bold not dim" if origin else "not dim")
    if hop["how"] is None:
        line.append("  not seen here: handled below", "dim")
    else:
        line.append(f"  {_name_exception(hop)} ", "bold red not dim" if origin else "red not dim")
        line.append(_HOW.get(hop["how"], clean(hop["how"])))
    yield line


def _name_exception(hop: Hop) -> str:
    """Return the class's name; a remote error's message begins with the name it had in the other process."""
    name = shorten_type(hop["type"] or "")
    remote, colon, _ = clean(hop["message"] or "").partition(": ")
    return remote if name == "RemoteError" and colon else name
