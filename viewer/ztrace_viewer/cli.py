"""The command line: table of the commands, and the printing of their errors."""

import os
from collections.abc import Sequence

import click

from ztrace_viewer.commands.completion import COMPLETE_VARIABLE
from ztrace_viewer.commands.lazy import LazyGroup, Place
from ztrace_viewer.commands.statuses import INTERRUPTED, NOTHING_FOUND, WRONG_INPUT
from ztrace_viewer.terminal.saying import complain, complain_lines

#: Every command, in the order of ``--help``.
COMMANDS = {
    "up": Place("collecting", "up", "Collect spans into one file; start here."),
    "collect": Place("collecting", "collect", "Run the collector alone."),
    "web": Place("web", "web", "Serve the page, and the query API of Jaeger for Grafana."),
    "open": Place("opening", "open_", "Open the page in the browser."),
    "keys": Place("keys", "keys", "Create, list and revoke the keys of services."),
    "demo": Place("demo", "demo", "Run a small traced shop of real services, and show its traces."),
    "slow": Place("slow", "slow", "List the slowest call trees."),
    "find": Place("find", "find", "Find calls by name, attribute, duration and outcome."),
    "errors": Place("errors", "errors", "List exceptions, grouped by their origin."),
    "error": Place("errors", "error", "Show one group of errors: the way from the caller to the origin."),
    "show": Place("show", "show", "Show one call tree."),
    "stats": Place("stats", "stats", "Show figures per method: calls, errors, p50, p95, p99, total."),
    "profile": Place("profile", "profile", "Show where the time of many call trees goes, by call path."),
    "diff": Place("diff", "diff", "Show which call paths made trees slower or faster."),
    "map": Place("map", "map_", "Show which services call which."),
    "explain": Place("explain", "explain", "Show what sets the slow trees of a root apart."),
    "tail": Place("tail", "tail", "Follow call trees and errors as they arrive."),
    "status": Place("status", "status", "Show publishers, and what is stored, lost and refused, and why."),
    "export": Place("exporting", "export", "Write call trees for other programs, or send them to one."),
    "import": Place("importing", "import_", "Store call trees from files of ztrace and other programs."),
    "clickhouse": Place(
        "clickhouse", "clickhouse", "Prepare a ClickHouse database for the spans of collectors."
    ),
    "rpc": Place("rpc", "rpc", "Serve, call, inspect, try and measure RPC services."),
    "mcp": Place("mcp", "mcp", "Answer AI agents on standard input and output."),
    "completion": Place("completion", "completion", "Print a shell's script for completion."),
}


class _Ztrace(LazyGroup):
    """The commands of ztrace; every ztrace error is printed on one line."""

    package = "ztrace_viewer.commands"
    places = COMMANDS

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a ztrace error is printed on one line and sets the exit status."""
        from ztrace.errors import NotFoundError, ZtraceError

        try:
            return super().invoke(ctx)
        except ZtraceError as error:
            complain(f"ztrace: {' '.join(str(error).split())}")
            ctx.exit(NOTHING_FOUND if isinstance(error, NotFoundError) else WRONG_INPUT)


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from ztrace import __version__

        click.echo(f"ztrace {__version__}")
        ctx.exit()


@click.group(cls=_Ztrace, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
def ztrace() -> None:
    """Trace the calls between Python services.

    \b
    Start with
      ztrace demo       to see it work, or
      ztrace up         and a service with ZTRACE_ENDPOINT=tcp://127.0.0.1:4710
    then ask
      ztrace slow       which call trees are slow?
      ztrace errors     where did an exception start?
      ztrace status     was anything lost?

    Exit status: 0, 1 for nothing found, 2 for a usage or input error.
    """


def _explain_usage(error: click.ClickException) -> str:
    """Return a usage error on one line, with the nearest names or the command that prints the usage."""
    # Messages repeat what was typed, which may have been pasted.
    from ztrace.errors import MAX_MESSAGE

    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context is not None else "ztrace"
    text, hint = error.format_message(), f"see '{path} --help'"
    if isinstance(error, click.exceptions.NoSuchCommand | click.NoSuchOption):
        text = error.message
        if error.possibilities:
            hint = f"did you mean {' or '.join(error.possibilities)}?"
    text = " ".join(text.split()).rstrip(".")
    return f"{path}: {text[:1].lower()}{text[1:MAX_MESSAGE]}; {hint}"


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Click's own ``main`` is bypassed: it handles closed pipes and Ctrl-C differently.

    Returns:
        The exit status.
    """
    if wanted := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        return shell_complete(ztrace, {}, "ztrace", COMPLETE_VARIABLE, wanted)
    try:
        with ztrace.make_context("ztrace", list(arguments)) as ctx:
            ztrace.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        complain_lines(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        complain(_explain_usage(error))
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return 0
