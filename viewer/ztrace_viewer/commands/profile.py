"""``ztrace profile``: where the time of many call trees goes, by call path."""

import sys
import time

import click

from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.completing import complete_roots
from ztrace_viewer.commands.options import (
    json_option,
    limit_option,
    service_option,
    store_option,
    time_options,
)
from ztrace_viewer.documents.profile import VersionProfile
from ztrace_viewer.queries.profile import read_profile, read_versions
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.conditions import TreeKind
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.terminal.saying import write_out

#: Formats of files, which have all paths.
_FILES = ("svg", "html", "collapsed", "speedscope", "pprof")


@click.command()
@click.argument("root", metavar="[SERVICE.METHOD]", required=False, shell_complete=complete_roots)
@store_option
@time_options
@service_option("Only paths that end in this service.")
@click.option("--errors", is_flag=True, help="Only trees of which a span failed.")
@click.option(
    "--by",
    type=click.Choice(["service.version"]),
    metavar="KEY",
    help="service.version: a profile for each version of the roots' services, or of --service.",
)
@limit_option(60, "Most paths to list, those with the most critical time.")
@click.option("--all", "everything", is_flag=True, help="List all paths, also those with little time.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "json", *_FILES]),
    default="text",
    show_default=True,
    metavar="NAME",
    help="text, json; svg or html for a picture; collapsed, speedscope or pprof for other programs.",
)
@click.option("--live", is_flag=True, help="First have running processes sample their code.")
@click.option(
    "--seconds", type=int, default=10, show_default=True, metavar="N", help="With --live, for how long."
)
@click.option(
    "--hz", type=int, default=50, show_default=True, metavar="N", help="With --live, samples a second."
)
@json_option
def profile(
    root: str | None,
    database: Source,
    since: int | None,
    until: int | None,
    service: str | None,
    errors: bool,
    by: str | None,
    limit: int,
    everything: bool,
    format_name: str,
    live: bool,
    seconds: int,
    hz: int,
    as_json: bool,
) -> None:
    """Show where the time of many call trees goes, by call path.

    Without SERVICE.METHOD, all trees are shown by their roots. CRITICAL is the share of the roots' time that
    was spent in a call while the root waited for it, OWN the share of a call's own time, which is more than
    the root's where calls run side by side; 'after' is work after the answer, which no root waits for. A tree
    counts in the minute in which its root ended, seconds after its last span has arrived; the time is widened
    to whole minutes, and to hours after six hours.

    RUNS and WAITS are shares of a call's own time; - is unknown. With --live, the running processes, or those
    of --service, take samples of their code; their trees are shown.

    \b
    Example:
      ztrace profile front.checkout --since 1h
      ztrace profile front.checkout --by service.version
      ztrace profile --live --service front --seconds 30
      ztrace profile --format html > shop.html
    """
    if by is not None and (live or format_name in _FILES):
        raise click.UsageError("--by prints text or JSON; leave out --live and other formats")
    if format_name == "pprof" and sys.stdout.isatty():
        raise click.UsageError("a file of pprof is not text; add '> shop.pb.gz'")
    most = None if everything or format_name in _FILES else limit
    if live:
        if since is not None or until is not None:
            raise click.UsageError("--live takes a new profile; leave out --since and --until")
        from ztrace_viewer.commands.live import take_profile

        since = time.time_ns()
        take_profile(database, service, hz, seconds)
    elif {"seconds", "hz"} & _given():
        raise click.UsageError("--seconds and --hz are of a profile that is taken now; add --live")
    selection = Selection(since, until, service)
    if by is not None:
        is_json = as_json or format_name == "json"
        return _profile_versions(by, database, root, selection, most, errors, is_json)
    most_code = None
    if format_name == "text" and not as_json:
        from ztrace_viewer.render.code import MOST_CODE

        most_code = MOST_CODE  # Reading code takes most of the time.
    with open_store(database) as store:
        document = read_profile(
            store,
            root,
            selection,
            most,
            time.time_ns(),
            trees=TreeKind(errors),
            most_code=most_code,
            with_uncounted=live,
        )
    found = bool(document["paths"] or document["uncounted"])
    if as_json or format_name == "json":
        return print_json(document, found=found)
    if not found:
        end_with_nothing(f"no {'failed ' if errors else ''}call trees", database, selection)
    if format_name == "pprof":
        from ztrace_viewer.export.pprof import write_pprof

        sys.stdout.buffer.write(write_pprof(document))
        return
    if format_name != "text":
        from ztrace_viewer.export.profiles import WRITERS

        return write_out(WRITERS[format_name](document))
    from ztrace_viewer.render.profile import draw_profile
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_profile(document, screen.width, whole=everything))


def _profile_versions(
    by: str,
    database: Source,
    root: str | None,
    selection: Selection,
    limit: int | None,
    errors: bool,
    as_json: bool,
) -> None:
    """Print a profile for each version."""
    now_ns = time.time_ns()
    with open_store(database) as store:
        versions: list[VersionProfile] = [
            {
                "version": version,
                "profile": read_profile(
                    store,
                    root,
                    selection,
                    limit,
                    now_ns,
                    trees=TreeKind(errors, version, is_own=selection.service is not None),
                ),
            }
            for version in read_versions(store, root, selection, now_ns, failed=errors)
        ]
    if as_json:
        return print_json({"by": by, "versions": versions}, found=bool(versions))
    if not versions:
        end_with_nothing(f"no {'failed ' if errors else ''}call trees", database, selection)
    from ztrace_viewer.render.profile import draw_versions
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_versions(versions, screen.width, whole=limit is None))


def _given() -> set[str]:
    """Return the names of the options on the command line."""
    context = click.get_current_context()
    named = ((name, context.get_parameter_source(name)) for name in context.params)
    return {name for name, source in named if source is not None and source.name == "COMMANDLINE"}
