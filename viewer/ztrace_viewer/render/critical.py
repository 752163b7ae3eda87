"""Critical path of a call tree on the terminal, as its time by call; bars show which spans are beside it."""

from collections import Counter

from rich.cells import cell_len
from rich.text import Text

from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.tree import walk


def draw_critical_calls(tree: TreeDocument, width: int) -> Text | None:
    """Return the line with the calls of the first root's critical path, the largest first.

    Returns:
        None if the root has not ended, or if the path is the root alone.
    """
    root = tree["roots"][0]
    times_ns: Counter[str] = Counter()
    for span, _ in walk([root]):
        if span["critical_ns"]:
            times_ns[name_call(span["service"], span["name"], span["kind"])] += span["critical_ns"]
    if not root["duration_ns"] or len(times_ns) < 2:
        return None
    line = Text("critical path: ")
    left = len(times_ns)
    for name, time_ns in times_ns.most_common():
        between = "" if left == len(times_ns) else ", "
        percent = round(100 * time_ns / root["duration_ns"])
        call = f"{between}{name} {format_duration(time_ns)} ({percent}%)"
        more = f", {plural(left - 1, 'more call')}" if left > 1 else ""
        if not percent or cell_len(line.plain) + cell_len(call) + cell_len(more) > width:
            break
        line.append(call)
        left -= 1
    if left == len(times_ns):
        return None
    if left:
        line.append(f", {plural(left, 'more call')}")
    return line
