"""``ztrace diff``: which call paths changed, between two stretches of time or two kinds of trees."""

import time

import click

from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.completing import complete_roots
from ztrace_viewer.commands.options import (
    Stretch,
    json_option,
    limit_option,
    store_option,
    time_options,
)
from ztrace_viewer.documents.comparison import DiffDocument
from ztrace_viewer.queries.comparison import compare
from ztrace_viewer.queries.contrasts import compare_slow, compare_values
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.opening import open_store
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.queries.versions import VERSION_KEY, compare_versions


@click.command()
@click.argument("root", metavar="[SERVICE.METHOD]", required=False, shell_complete=complete_roots)
@store_option
@click.option("--before", metavar="A..B", help="Time to compare with; with --by, a value.")
@click.option("--after", metavar="C..D", help="Time that is compared; with --by, a value.")
@click.option("--by", metavar="KEY", help="Compare trees by service.version, or by an attribute.")
@click.option("--slow", is_flag=True, help="Compare the slowest 5% of a root's trees with the rest.")
@time_options
@limit_option(None, "Most paths to list, those with the largest change.")
@json_option
def diff(
    root: str | None,
    database: Source,
    before: str | None,
    after: str | None,
    by: str | None,
    slow: bool,
    since: int | None,
    until: int | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show which call paths made trees slower or faster.

    Two stretches of time are compared. Changes are of a path's own time on the critical path, for each tree;
    over all paths they add up to the change of the root. They are tested by minutes, and by hours if the time
    began more than six hours ago. A change is sure if fewer than 5% of such findings come by chance. Each
    side needs six minutes.

    --by service.version compares two versions of the roots' services, the last two by default. --by with the
    name of an attribute compares the trees of SERVICE.METHOD that have one value with those that have
    another, or with all others. --slow compares its slowest trees with the rest. --since and --until choose
    their time.

    \b
    Example:
      ztrace diff front.checkout --before 14:00..14:20 --after 15:00..15:20
      ztrace diff --before 2h..1h --after 1h..
      ztrace diff --by service.version --before 1.2 --after 1.3
      ztrace diff front.checkout --by card --after visa --since 1h
      ztrace diff front.checkout --slow
    """
    selection, now_ns = Selection(since, until), time.time_ns()
    if slow and (by is not None or before is not None or after is not None):
        raise click.UsageError("--slow compares with the rest; leave out --by, --before and --after")
    if by == "":
        raise click.UsageError("--by is empty; give service.version, or the name of an attribute")
    if by not in (None, VERSION_KEY) and before is None and after is None:
        raise click.UsageError(f"give a value of {by} with --before, --after, or both")
    if by is None and not slow:
        if selection.in_time:
            raise click.UsageError("--before and --after are the time; leave out --since and --until")
        one, other = _read_stretch("before", before), _read_stretch("after", after)
        with open_store(database) as store:
            return _print(compare(store, root, one, other, limit, now_ns), as_json)
    if root is None and by != VERSION_KEY:
        raise click.UsageError("trees of one root are compared; give SERVICE.METHOD")
    with open_store(database) as store:
        if by == VERSION_KEY:
            document = compare_versions(store, root, before, after, selection, limit, now_ns)
        elif by is None:
            document = compare_slow(store, root or "", selection, limit)
        else:
            document = compare_values(store, root or "", by, before, after, selection, limit)
    _print(document, as_json)


def _print(document: DiffDocument, as_json: bool) -> None:
    found = bool(document["before"]["traces"] and document["after"]["traces"])
    if as_json:
        return print_json(document, found=found)
    if not found:
        side = "before" if document["after"]["traces"] else "after"
        end_with_nothing(f"no call trees in --{side}")
    from ztrace_viewer.render.comparison import draw_diff
    from ztrace_viewer.terminal.screen import open_screen, write

    screen = open_screen()
    write(screen, *draw_diff(document, screen.width))


def _read_stretch(name: str, value: str | None) -> tuple[int, int]:
    """Return the stretch of time in an option."""
    context = click.get_current_context()
    option = next(each for each in context.command.params if each.name == name)
    if value is None:
        raise click.MissingParameter(ctx=context, param=option)
    return Stretch().convert(value, option, context)
