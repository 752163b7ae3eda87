"""Critical path of a call tree on the terminal, as its time by call; bars show which spans are beside it."""

from collections import Counter

from rich.cells import cell_len
from rich.text import Text

from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.render.skew import find_end, find_start
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.tree import walk


def draw_after_answer(tree: TreeDocument, width: int, now_ns: int) -> Text | None:
    """Return the line with what consumers did after the end of the first root, the longest first.

    Returns:
        None if the root has not ended, or nothing was done after it.
    """
    root = tree["roots"][0]
    if root["duration_ns"] is None:
        return None
    answer_ns = find_end(root, now_ns)
    times_ns: Counter[str] = Counter()
    pending = [root]
    while pending:
        span = pending.pop()
        if span["kind"] != "consumer" or span is root:
            pending.extend(span["children"])
            continue
        late_ns = find_end(span, now_ns) - max(find_start(span), answer_ns)
        if late_ns > 0:
            times_ns[name_call(span["service"], span["name"], span["kind"])] += late_ns
    if not times_ns:
        return None
    told = ", ".join(f"{name} {format_duration(time_ns)}" for name, time_ns in times_ns.most_common())
    line = Text(f"after the answer: {told}")
    line.truncate(width, overflow="ellipsis")
    return line


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
