"""``ztrace show``: one call tree."""

import time

import click

from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.commands.answering import find_links, print_json
from ztrace_viewer.commands.completing import complete_traces
from ztrace_viewer.commands.options import json_option, limit_option, store_option
from ztrace_viewer.documents.profile import SpanStack
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.interrupts import ignored
from ztrace_viewer.queries.identifiers import find_trace
from ztrace_viewer.queries.stacks import read_span_stacks
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.terminal.saying import say
from ztrace_viewer.trees.clocks import MEASURED, RAW
from ztrace_viewer.trees.finding import find_span
from ztrace_viewer.trees.tree import flatten

#: Lines of text that a person can still look through.
DEFAULT_LINES = 200


@click.command()
@click.argument("trace", metavar="TRACE", shell_complete=complete_traces)
@store_option
@limit_option(DEFAULT_LINES, "Most lines of text; 0 for all.", minimum=0)
@json_option
@click.option("--flat", is_flag=True, help="With --json, a list of spans with their depth instead of a tree.")
@click.option(
    "--clocks",
    type=click.Choice([MEASURED, RAW]),
    default=MEASURED,
    show_default=True,
    metavar="NAME",
    help="Clocks of other hosts: measured by calls, or raw as stored.",
)
@click.option("--span", "span_id", metavar="ID", help="Only this span, by its id or name, and all of it.")
@click.option(
    "--stacks", "with_stacks", is_flag=True, help="With --span, the code that ran and waited in it."
)
@click.option("--pin", is_flag=True, help="Keep the tree when others are thinned.")
@click.option("--unpin", is_flag=True, help="Undo --pin.")
def show(
    trace: str,
    database: Source,
    limit: int,
    as_json: bool,
    flat: bool,
    clocks: str,
    span_id: str | None,
    with_stacks: bool,
    pin: bool,
    unpin: bool,
) -> None:
    """Show one call tree.

    TRACE is the beginning of a trace id listed by 'ztrace slow'. Each line is a call with its time and a bar
    on the tree's time scale: blocks are own time, lines are waits for other calls. An arrow between service
    and method marks a call as its caller saw it. Calls that take most of the time are bold; an exception is
    below the call that raised it. Unfinished calls have their state, and missing calls the reason.

    \b
    Example:
      ztrace show 019a4c7e11d04f2b
      ztrace show 019a4c7e11d04f2b --span billing.charge --stacks
      ztrace show 019a4c7e11d04f2b --pin
    """
    if flat and not as_json:
        raise click.UsageError("--flat is a form of the JSON document; add --json")
    if flat and span_id is not None:
        raise click.UsageError("--flat and --span exclude each other; give one of them")
    if with_stacks and span_id is None:
        raise click.UsageError("--stacks is the code of one span; add --span")
    if pin and unpin:
        raise SettingsError("--pin and --unpin exclude each other", hint="give one of them")
    if pin or unpin:
        return _pin(database, trace, undo=unpin, as_json=as_json)
    now_ns = time.time_ns()
    with open_store(database) as store:
        try:
            trace_id = find_trace(store, trace)
            document = read_tree(store, trace_id, now_ns, measured=clocks == MEASURED)
            span = None if span_id is None else find_span(document, span_id)
            stacks = None
            if span is not None and with_stacks:
                stacks = read_span_stacks(store, trace_id, bytes.fromhex(span["span_id"]), span["service"])
        except NotFoundError:
            if as_json:
                print_json({})
            raise
    if span is not None:
        return _show_span(database, span, document["trace_id"], stacks, now_ns, as_json=as_json)
    if as_json:
        return print_json(flatten(document) if flat else document)
    from ztrace_viewer.render.call_tree import draw_tree
    from ztrace_viewer.terminal.screen import open_screen, write_all

    screen = open_screen()
    write_all(screen, draw_tree(document, screen.width, limit or None, now_ns, find_links(database)))


def _pin(database: Source, trace: str, *, undo: bool, as_json: bool) -> None:
    """Pin a tree or undo that, and confirm it in a line or a document."""
    from ztrace_viewer.queries.stores.requesting import pin as write_pin

    with open_store(database) as store:
        trace_id = find_trace(store, trace)
    with ignored():
        write_pin(database, trace_id, undo=undo)
    if as_json:
        return print_json({"trace_id": trace_id.hex(), "pinned": not undo})
    told = "is not pinned any more" if undo else "is pinned: thinning keeps it"
    say(f"{trace_id.hex()} {told}")


def _show_span(
    database: Source,
    span: SpanDocument,
    trace_id: str,
    stacks: list[SpanStack] | None,
    now_ns: int,
    *,
    as_json: bool,
) -> None:
    if as_json:
        return print_json(span if stacks is None else {**span, "stacks": stacks})
    from ztrace_viewer.render.span import draw_span
    from ztrace_viewer.terminal.screen import open_screen, write_all

    screen = open_screen()
    write_all(screen, draw_span(span, trace_id, stacks, screen.width, now_ns, find_links(database)))
