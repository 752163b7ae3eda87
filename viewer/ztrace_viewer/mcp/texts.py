"""Answers as text that is bounded, and a call tree as a list with the ids of its spans."""

import io
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from ztrace_viewer.documents.errors import GroupSummary
from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call, write_all

#: Characters of an answer: some 5,000 tokens.
MAX_CHARACTERS = 16_000
#: Columns of a drawing.
WIDTH = 140
#: Digits of a span's id.
_DIGITS = 8
#: Equal calls of one parent that are listed, and those beyond which they are added up.
_LISTED, _EQUAL = 2, 4
#: Characters of a message and of an attribute.
_MESSAGE, _VALUE = 300, 500


def write_text(lines: Iterable[Text]) -> str:
    """Return lines of a drawing as text."""
    out = io.StringIO()
    write_all(
        Console(file=out, width=WIDTH, no_color=True, highlight=False, markup=False, emoji=False), lines
    )
    return cut("\n".join(line.rstrip() for line in out.getvalue().splitlines()))


def cut(text: str) -> str:
    """Return a text within its bound; what is left out is said in its last line."""
    if len(text) <= MAX_CHARACTERS:
        return text
    kept = text[: MAX_CHARACTERS - 200].rpartition("\n")[0]
    left = text.count("\n") - kept.count("\n")
    return f"{kept}\n… {plural(left, 'more line')} left out; ask for less: a limit, a shorter time, one span"


def tell_groups(groups: Sequence[GroupSummary]) -> str:
    """Return errors, one a line, with the place in the code where each began."""
    return "\n".join(map(_tell_group, groups))


def _tell_group(group: GroupSummary) -> str:
    frame = find_own_frame(group["frames"])
    place = f" at {_tell_frame(frame)}" if frame else ""
    state = "" if group["state"] == "open" else f", {group['state']}"
    origin = name_call(group["service"], group["name"])
    return (
        f"{group['group'][:_DIGITS]}  {plural(group['count'], 'time')}{state}"
        f"  {clean(group['type'])}: {clean(group['template'])[:_MESSAGE]}  in {origin}{place}"
    )


def find_own_frame(frames: Sequence[Frame]) -> Frame | None:
    """Return the innermost frame of the program's own code, or of any code."""
    own = [frame for frame in frames if frame["in_app"]] or frames
    return own[-1] if own else None


def _tell_frame(frame: Frame) -> str:
    return f"{clean(frame['file'])}:{frame['line']} in {clean(frame['function'])}"


def tell_tree(tree: TreeDocument, roots: Sequence[SpanDocument], least_ns: int, depth: int) -> str:
    """Return a call tree as a list: a call a line, with its times, its start and the beginning of its id.

    Args:
        tree: the tree.
        roots: the tree's roots, or the span to begin at.
        least_ns: calls that took less are counted, unless they failed.
        depth: levels that are listed.
    """
    missing = sorted({entry["reason"] for entry in tree["missing"]})
    head = [
        f"trace {tree['trace_id']}",
        format_duration(tree["duration_ns"]) if tree["duration_ns"] is not None else "unfinished",
        plural(tree["span_count"], "span"),
        f"{tree['error_count']} failed",
        f"incomplete: {', '.join(missing)}" if missing else "complete",
    ]
    lines = ["  ".join(head), "time, own time, start after the trace's, span id; * is on the critical path"]
    pending: list[tuple[SpanDocument | str, int]] = [(root, 0) for root in reversed(roots)]
    while pending:
        item, level = pending.pop()
        indent = "  " * level
        if isinstance(item, str):
            lines.append(indent + item)
            continue
        lines.extend(indent + line for line in _tell_span(item, tree["start_ns"]))
        if level + 1 < depth:
            below = [(each, level + 1) for each in _list_children(item["children"], least_ns)]
            pending.extend(reversed(below))
        elif item["children"]:
            lines.append(
                f"{indent}  … {plural(len(item['children']), 'call')} below; a greater depth lists them"
            )
    return cut("\n".join(lines))


def _tell_span(span: SpanDocument, start_ns: int) -> Iterator[str]:
    time = "unfinished" if span["duration_ns"] is None else format_duration(span["duration_ns"])
    own = "" if span["self_ns"] is None else f"  own {format_duration(span['self_ns'])}"
    start = format_duration(max(0, span["start_ns"] - start_ns))
    name = name_call(span["service"], span["name"], span["kind"])
    status = "" if span["status"] == "ok" else f"  {span['status']}"
    mark = "*" if span["critical_ns"] else ""
    yield f"{name}{mark}  {time}{own}  +{start}  {span['span_id'][:_DIGITS]}{status}"
    if span["exception"]:
        yield f"  {tell_exception(span['exception'])}"


def tell_exception(exception: ExceptionDocument) -> str:
    """Return an exception on one line, with the place in the code."""
    frame = find_own_frame(exception["frames"])
    place = f"  {_tell_frame(frame)}: {clean(frame['code'])}" if frame else ""
    group = f"  error {exception['group'][:_DIGITS]}" if exception["group"] and exception["origin"] else ""
    text = f"{clean(exception['type'])}: {clean(exception['message'])[:_MESSAGE]}"
    return f"{exception['how']} {text}{place}{group}"


def _list_children(children: Sequence[SpanDocument], least_ns: int) -> Iterator[SpanDocument | str]:
    """Yield calls in their order; many equal ones are the longest and a sum."""
    short = 0
    equal: dict[tuple[str, str, str, str], list[SpanDocument]] = {}
    for child in children:
        if child["status"] == "ok" and (child["duration_ns"] or 0) < least_ns:
            short += 1
            continue
        equal.setdefault((child["service"], child["name"], child["kind"], child["status"]), []).append(child)
    for calls in equal.values():
        if len(calls) <= _EQUAL:
            yield from calls
            continue
        calls.sort(key=lambda call: -(call["duration_ns"] or 0))
        yield from calls[:_LISTED]
        total = format_duration(sum(call["duration_ns"] or 0 for call in calls[_LISTED:]))
        yield f"… {len(calls) - _LISTED:,} more calls like this, shorter, {total} in all"
    if short:
        yield f"… {plural(short, 'shorter call')}"


def tell_attributes(span: SpanDocument) -> list[str]:
    """Return a span's process and attributes, one a line."""
    instance = span["instance"]
    lines = [f"process {instance['pid']} on {clean(instance['host'])}"]
    return lines + [
        f"{clean(key)} = {clean(str(value))[:_VALUE]}" for key, value in span["attributes"].items()
    ]
