"""Report of the demo: output of commands, each below its command.

One idea: everything is drawn by the functions of the commands, and every command can be copied.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from ztrace.errors import ZtraceError
from ztrace_viewer.demo.opening import Outcome
from ztrace_viewer.documents.errors import ErrorDocument, ErrorsDocument, GroupSummary
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import shorten_groups, shorten_traces
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import SqliteStore, open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import read_error
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.error import draw_error
from ztrace_viewer.render.lists import draw_errors, draw_slow
from ztrace_viewer.render.tracebacks import shorten_type
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.saying import complain
from ztrace_viewer.terminal.screen import dim, open_screen, write

#: Trees in the list.
_TREES = 5
#: Lines of the tree.
_LINES = 48


def print_findings(outcome: Outcome) -> None:
    """Print the slowest trees and the errors, one of each in full, and further commands.

    Raises:
        ZtraceError: the shop left no trace.
    """
    for complaint in outcome.complaints:
        complain(f"ztrace: {complaint}; see {outcome.logs}")
    with open_file(outcome.database) as store:
        _Report(store, outcome).write()


class _Report:
    def __init__(self, store: SqliteStore, outcome: Outcome) -> None:
        self._store = store
        self._run = Selection(since_ns=outcome.since_ns)
        self._path = outcome.database
        self._file = shlex.quote(str(outcome.database))
        self._program = _program()
        self._screen: Console = open_screen()
        self._now_ns = time.time_ns()

    def write(self) -> None:
        slow = list_slowest(self._store, self._run, _TREES)
        errors = list_groups(self._store, self._run)
        if not slow["traces"] or not errors["groups"]:
            raise ZtraceError(f"the shop left no trace in {self._path}", hint="try a larger --seconds")
        slowest = slow["traces"][0]["trace_id"]
        error = _longest_way([read_error(self._store, group["group"]) for group in errors["groups"]])
        trace_ids = shorten_traces(self._store, [trace["trace_id"] for trace in slow["traces"]])
        groups = shorten_groups(self._store, [group["group"] for group in errors["groups"]])

        status = read_status(self._store, self._now_ns)
        lost = plural(status["spans_lost"], "span") if status["spans_lost"] else "none"
        stored = f"{plural(status['spans_stored'], 'span')} in {plural(status['traces_stored'], 'trace')}"
        self._say(Text(f"{stored} in {self._path}, {lost} lost"))

        self._head("Which call trees are slow?", f"slow --limit {_TREES}")
        write(self._screen, *draw_slow(slow, trace_ids, self._screen.width, self._now_ns))
        show = f"show {trace_ids[slowest]}"
        self._head("Where does the time of the slowest go?", show)
        tree = read_tree(self._store, bytes.fromhex(slowest))
        write(self._screen, *draw_tree(tree, self._screen.width, _LINES, self._now_ns))
        self._head("What failed?", "errors")
        write(self._screen, *draw_errors(errors, groups, self._screen.width, self._now_ns))
        tell = f"error {groups[error['group']['group']]}"
        self._head("Where did that start, and how did it travel?", tell)
        write(self._screen, *draw_error(error, self._screen.width, self._now_ns))
        self._go_on(_other_than(error, errors), groups)

    def _head(self, question: str, command: str) -> None:
        write(self._screen, Text(), Text(question, style="bold"))
        self._say(dim(self._complete(command)))
        write(self._screen, Text())

    def _go_on(self, group: GroupSummary, short_ids: Mapping[str, str]) -> None:
        ids = f"  the ids are those of the {shorten_type(group['type'])}"
        title = Text.assemble(("Next commands", "bold"), (ids, "dim"))
        write(self._screen, Text(), title)
        trace = shorten_traces(self._store, [group["trace_id"]])[group["trace_id"]]
        error = short_ids[group["group"]]
        for command in ("slow", f"show {trace}", f"error {error}", "profile", "stats", "status"):
            self._say(Text(f"  {self._complete(command)}"))
        write(self._screen, Text())
        self._say(Text.assemble(("In the browser", "bold"), f"  {self._complete('web')}"))

    def _complete(self, command: str) -> str:
        return f"{self._program} {command} --db {self._file}"

    def _say(self, line: Text) -> None:
        """Print a line that can be copied, so it is not cut at the edge of the screen."""
        self._screen.print(line, soft_wrap=True)


def _program() -> str:
    """Return the command name, with its path if the environment is not active."""
    path = sys.argv[0]
    if shutil.which("ztrace") or os.path.basename(path) != "ztrace":
        return "ztrace"
    return shlex.quote(os.path.relpath(path))


def _longest_way(errors: list[ErrorDocument]) -> ErrorDocument:
    """Return the error that passed through the most calls."""
    return max(errors, key=lambda error: len(error["hops"]))


def _other_than(error: ErrorDocument, errors: ErrorsDocument) -> GroupSummary:
    """Return a group that was not shown in full, or the shown one if it is the only one."""
    shown = error["group"]
    others = [group for group in errors["groups"] if group["group"] != shown["group"]]
    return others[0] if others else shown
