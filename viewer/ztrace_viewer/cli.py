"""The command line: table of the commands, and the printing of their errors.

One idea: a command's module is imported when the command is used. The table is all that ``--help`` needs, so
``--help`` answers at once.
"""

import io
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from ztrace_viewer.commands.statuses import INTERRUPTED, NOTHING_FOUND, WRONG_INPUT
from ztrace_viewer.terminal.saying import complain, complain_lines


class _Place(NamedTuple):
    """Place of a command, and its line in the list."""

    module: str
    name: str
    summary: str


#: Every command, in the order of ``--help``.
COMMANDS = {
    "up": _Place("collecting", "up", "Collect spans into one file; start here."),
    "collect": _Place("collecting", "collect", "Run the collector alone."),
    "web": _Place("web", "web", "Serve Jaeger's query API, for Grafana and Jaeger's own page."),
    "keys": _Place("keys", "keys", "Create, list and revoke the keys of services."),
    "demo": _Place("demo", "demo", "Run a small traced shop of real services, and show its traces."),
    "slow": _Place("slow", "slow", "List the slowest call trees."),
    "errors": _Place("errors", "errors", "List exceptions, grouped by their origin."),
    "error": _Place("errors", "error", "Show one group of errors: the way from the caller to the origin."),
    "show": _Place("show", "show", "Show one call tree."),
    "stats": _Place("stats", "stats", "Show figures per method: calls, errors, p50, p95, p99, total."),
    "profile": _Place("profile", "profile", "Show where the time of many call trees goes, by call path."),
    "diff": _Place("diff", "diff", "Show which call paths made trees slower or faster."),
    "explain": _Place("explain", "explain", "Show what sets the slow trees of a root apart."),
    "tail": _Place("tail", "tail", "Follow call trees and errors as they arrive."),
    "status": _Place("status", "status", "Show publishers, and what is stored, lost and refused, and why."),
    "export": _Place("exporting", "export", "Write call trees for other programs, or send them to one."),
    "import": _Place("importing", "import_", "Store call trees from files of ztrace and other programs."),
}


class LazyGroup(click.Group):
    """Group that imports a command when it is used, and prints every ztrace error on one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown name."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module = import_module(f"ztrace_viewer.commands.{place.module}")
        command = getattr(module, place.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])

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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
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


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Click's own ``main`` is bypassed: it handles closed pipes and Ctrl-C differently.

    Returns:
        The exit status.
    """
    try:
        with ztrace.make_context("ztrace", list(arguments)) as ctx:
            ztrace.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        # Messages repeat what was typed, which may have been pasted.
        from ztrace.errors import MAX_MESSAGE

        text = io.StringIO()
        error.show(file=text)
        complain_lines("\n".join(line[:MAX_MESSAGE] for line in text.getvalue().splitlines()))
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return 0
