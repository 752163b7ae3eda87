"""``ztrace rpc queue``: the jobs of a queue."""

from typing import TYPE_CHECKING

import click

from ztrace.errors import SettingsError, quote
from ztrace_viewer.commands.answering import end_with_nothing, print_json
from ztrace_viewer.commands.options import json_option, limit_option
from ztrace_viewer.commands.rpc.arguments import key_option
from ztrace_viewer.commands.statuses import NOTHING_FOUND
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.saying import say

if TYPE_CHECKING:
    from ztrace.rpc import AsyncClient

#: What can be done with a queue.
_STATUS, _LIST, _RETRY, _DROP = ("status", "list", "retry", "drop")
#: States of jobs that are not done.
_STATES = ("waiting", "delayed", "running", "dead")


@click.command()
@click.argument("address", metavar="ADDR")
@click.argument(
    "action",
    type=click.Choice([_STATUS, _LIST, _RETRY, _DROP]),
    metavar="[list|retry|drop]",
    default=_STATUS,
)
@click.argument("jobs", metavar="[ID]...", nargs=-1)
@click.option(
    "--state", type=click.Choice(_STATES), metavar="STATE", help=f"List only {', '.join(_STATES)} jobs."
)
@limit_option(100, "Most jobs to list.")
@key_option
@json_option
def queue(
    address: str,
    action: str,
    jobs: tuple[str, ...],
    state: str | None,
    limit: int,
    key: str | None,
    as_json: bool,
) -> None:
    """Show the jobs of a queue, retry or drop them.

    ADDR is the address of a ztrace.rpc.Queue. Without a further word the numbers of its jobs and its workers
    are shown. list shows the jobs that are not done, with their ids; retry puts dead jobs back, all of them
    or those with the given ids; drop removes jobs, and cancels those that run.

    \b
    Example:
      ztrace rpc queue tcp://127.0.0.1:4300
      ztrace rpc queue tcp://127.0.0.1:4300 list --state dead
      ztrace rpc queue tcp://127.0.0.1:4300 retry
    """
    if jobs and action in (_STATUS, _LIST):
        raise SettingsError(f"{action} takes no ids", hint="retry and drop do")
    if action == _DROP and not jobs:
        raise SettingsError("drop needs the ids of jobs", hint=f"see 'ztrace rpc queue {address} list'")
    answer = _ask(address, key, action, [state, limit] if action == _LIST else list(jobs))
    document = answer if isinstance(answer, dict) else {"jobs": answer}
    found = action == _STATUS or bool(document["jobs"])
    if as_json:
        return print_json(document, found=found)
    if action in (_RETRY, _DROP):
        say(f"{plural(int(str(document['jobs'])), 'job')} {'put back' if action == _RETRY else 'dropped'}")
        if not found:
            click.get_current_context().exit(NOTHING_FOUND)
        return
    from ztrace_viewer.render.jobs import draw_jobs, draw_queue
    from ztrace_viewer.terminal.screen import open_screen, write

    if not found:
        end_with_nothing(f"no {state} jobs" if state else "no jobs")
    screen = open_screen()
    draw = draw_queue if action == _STATUS else draw_jobs
    write(screen, *draw(document, screen.width))


def _ask(address: str, key: str | None, name: str, args: list[object]) -> object:
    """Return the answer of a queue.

    Raises:
        SettingsError: the server at the address is no queue.
    """
    from ztrace_viewer.commands.rpc.asking import ask, ask_first, telling

    async def run(client: "AsyncClient") -> object:
        listed = await ask_first(client, address, "_zerorpc_list")
        if not isinstance(listed, list) or not {_STATUS, _LIST, _RETRY, _DROP} <= set(listed):
            raise SettingsError(f"{quote(address)} is no queue", hint=f"see 'ztrace rpc inspect {address}'")
        return await ask_first(client, address, name, *args)

    with telling(name):
        return ask(address, run, key=key)
