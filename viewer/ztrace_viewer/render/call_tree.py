"""One call tree on the terminal: guides, names, durations, and bars on one time scale.

One idea: a line is label, time and bar in columns that are fixed before the first line is drawn; the tree is
then written from top to bottom without looking back, so its size and depth do not matter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from ztrace_viewer.characters import clean
from ztrace_viewer.documents import Missing, SpanDocument, TreeDocument
from ztrace_viewer.durations import format_duration
from ztrace_viewer.moments import format_ago, format_moment
from ztrace_viewer.render.bars import Scale, draw_bar
from ztrace_viewer.render.tracebacks import HOW_WORDS, draw_exception, shorten_type
from ztrace_viewer.screen import name_call, plural
from ztrace_viewer.tree import cover, walk

#: A span takes the time when this share of the tree's is its own.
_HOT_SHARE = 0.2
#: Children alike in a row from which on they are folded, and how many are then still shown.
_FOLD_FROM, _FOLD_KEEP = 8, 3
#: Columns from which on there is room for the bar, and for own times too.
_BAR_FROM, _SELF_FROM = 56, 76
_TIME_WIDTH = 8


@dataclass(frozen=True, slots=True)
class _Columns:
    label: int
    self_time: bool
    scale: Scale


@dataclass(frozen=True, slots=True)
class _Node:
    """A span to be drawn, or as ``fold`` (count, total) the children left out in its place."""

    span: SpanDocument
    guide: str
    guide_below: str
    fold: tuple[int, int] | None = None


def draw_tree(tree: TreeDocument, width: int, limit: int | None, now_ns: int) -> Iterator[Text]:
    """Yield the lines of a tree.

    Args:
        tree: the document.
        width: columns of the screen.
        limit: lines of spans and exceptions at most, None for all.
        now_ns: for "3m ago".
    """
    yield from _header(tree, now_ns)
    hot = _find_hot(tree)
    notable = _find_notable(tree, hot)
    columns = _lay_out(tree, width)
    yield Text()
    yield _column_heads(columns)
    origins = _name_origins(tree)
    lines = 0
    pending = _children(tree["roots"], "", notable, columns, top=True)
    left = tree["span_count"]
    while pending:
        node = pending.pop()
        drawn = list(_draw_node(node, columns, hot, origins, width))
        if limit is not None and lines and lines + len(drawn) > limit:
            yield Text(f"… {plural(left, 'more span')}; --limit 0 shows all", style="bold")
            return
        lines += len(drawn)
        yield from drawn
        if node.fold is None:
            left -= 1
            pending.extend(_children(node.span["children"], node.guide_below, notable, columns))


def _header(tree: TreeDocument, now_ns: int) -> Iterator[Text]:
    root = tree["roots"][0]
    head = Text("trace ", style="dim")
    head.append(tree["trace_id"], "not dim")
    head.append("  ")
    head.append(name_call(root["service"], root["name"]), "bold not dim")
    head.append(f"  {format_duration(tree['duration_ns'])}", "bold not dim")
    yield head
    moment, ago = format_moment(tree["start_ns"]), format_ago(tree["start_ns"], now_ns)
    facts = [moment if moment == ago else f"{moment} ({ago})", plural(tree["span_count"], "span")]
    facts.append(plural(len(tree["services"]), "service"))
    line = Text(" · ".join(facts))
    errors = tree["error_count"]
    line.append(" · ")
    line.append(plural(errors, "error") if errors else "no errors", "bold red" if errors else "")
    line.append(" · ")
    line.append("complete" if tree["complete"] else "incomplete", "" if tree["complete"] else "bold yellow")
    yield line
    for text in _tell_missing(tree["missing"]):
        yield Text(f"  {text}", style="yellow")


def _tell_missing(missing: Sequence[Missing]) -> Iterator[str]:
    for reason, count in Counter(clean(entry["reason"]) for entry in missing).items():
        first = next(entry for entry in missing if clean(entry["reason"]) == reason)
        where = f"span {first['span_id']}" if "span_id" in first else ""
        if "parent_id" in first:
            where += f", parent {first['parent_id']}"
        others = f" and {plural(count - 1, 'other')}" if count > 1 else ""
        yield f"{reason}: {where}{others}"


def _find_hot(tree: TreeDocument) -> set[int]:
    """Return (by identity) the spans that take the time: a large own share, or the largest."""
    spans = [(span["self_ns"] or 0, id(span)) for span, _ in walk(tree["roots"])]
    threshold = (tree["duration_ns"] or 0) * _HOT_SHARE
    hot = {key for self_ns, key in spans if self_ns >= threshold > 0}
    largest = max(spans)
    return hot | {largest[1]} if largest[0] else hot


def _name_origins(tree: TreeDocument) -> dict[str, str]:
    """Return, for the spans in which an exception was first raised, what they are shown as."""
    return {
        span["span_id"]: name_call(span["service"], span["name"], span["kind"])
        for span, _ in walk(tree["roots"])
        if span["exception"] is not None and span["exception"]["origin"]
    }


def _find_notable(tree: TreeDocument, hot: set[int]) -> set[int]:
    """Return the spans that must not be folded away: something below or in them is worth seeing."""
    notable: set[int] = set()
    for span, _ in reversed(list(walk(tree["roots"]))):
        if id(span) in hot or span["status"] != "ok" or any(id(each) in notable for each in span["children"]):
            notable.add(id(span))
    return notable


def _lay_out(tree: TreeDocument, width: int) -> _Columns:
    widest = 0
    for number, (span, depth) in enumerate(walk(tree["roots"])):
        if number == 2_000:  # Enough to know how wide it is.
            break
        widest = max(widest, 2 * depth + cell_len(name_call(span["service"], span["name"], span["kind"])))
    self_time = width >= _SELF_FROM
    times = (_TIME_WIDTH + 1) * (2 if self_time else 1)
    most = width - times - 1 if width < _BAR_FROM else (width - times) * 11 // 20
    label = max(8, min(widest, most))
    bar = width - label - times - 2 if width >= _BAR_FROM else 0
    # Consumers and skewed clocks may go on after the root has ended.
    ends = [span["start_ns"] + (span["duration_ns"] or 0) for span, _ in walk(tree["roots"])]
    return _Columns(label, self_time, Scale(tree["start_ns"], max(*ends, tree["start_ns"] + 1), bar))


def _column_heads(columns: _Columns) -> Text:
    head = "CALL".ljust(columns.label) + " " + "TIME".rjust(_TIME_WIDTH)
    if columns.self_time:
        head += " " + "OWN".rjust(_TIME_WIDTH)
    if width := columns.scale.width:
        end = format_duration(columns.scale.end_ns - columns.scale.start_ns)
        head += "  0" + end.rjust(width - 1)
    return Text(head, style="dim")


def _children(
    spans: Sequence[SpanDocument], guide: str, notable: set[int], columns: _Columns, *, top: bool = False
) -> list[_Node]:
    """Return the nodes for siblings, the first one last, with runs of the same call folded."""
    shown: list[tuple[SpanDocument, tuple[int, int] | None]] = []
    begin = 0
    while begin < len(spans):
        end = begin + 1
        while end < len(spans) and _alike(spans[begin], spans[end], notable):
            end += 1
        keep = end if end - begin < _FOLD_FROM else begin + _FOLD_KEEP
        shown.extend((span, None) for span in spans[begin:keep])
        if keep < end:
            total_ns = sum(span["duration_ns"] or 0 for span in spans[keep:end])
            shown.append((spans[keep], (end - keep, total_ns)))
        begin = end
    # Deep down only the last levels' guides fit.
    guide = guide[-(columns.label // 2 // 2 * 2) :]
    nodes = []
    for place, (span, fold) in enumerate(shown):
        last = place == len(shown) - 1
        own, below = ("", "") if top else (("└╴", "  ") if last else ("├╴", "│ "))
        nodes.append(_Node(span, guide + own, guide + below, fold))
    return nodes[::-1]


def _alike(one: SpanDocument, other: SpanDocument, notable: set[int]) -> bool:
    return (
        id(one) not in notable
        and id(other) not in notable
        and (one["service"], one["name"], one["kind"]) == (other["service"], other["name"], other["kind"])
    )


def _draw_node(
    node: _Node, columns: _Columns, hot: set[int], origins: Mapping[str, str], width: int
) -> Iterator[Text]:
    span = node.span
    line = Text(node.guide, style="dim")
    if node.fold is not None:
        count, total_ns = node.fold
        line.append(f"… {count:,} more like this, {format_duration(total_ns)} in all")
        yield line
        return
    failed, heavy = span["status"] == "error", id(span) in hot
    style = "bold red" if failed else "bold yellow" if heavy else "not dim"
    line.append(name_call(span["service"], span["name"], span["kind"]), style)
    line.truncate(columns.label, overflow="ellipsis", pad=True)
    open_ended = span["duration_ns"] is None
    time = "unended" if open_ended else format_duration(span["duration_ns"])
    line.append(f" {time:>{_TIME_WIDTH}}", "yellow" if open_ended else "not dim")
    if columns.self_time:
        line.append(f" {format_duration(span['self_ns']):>{_TIME_WIDTH}}", "bold yellow" if heavy else "")
    if columns.scale.width:
        line.append("  ")
        _append_bar(line, span, columns.scale, "red" if failed else "yellow" if heavy else "cyan")
    line.rstrip()
    yield line
    yield from _draw_failure(node, origins, width)


def _append_bar(line: Text, span: SpanDocument, scale: Scale, style: str) -> None:
    start_ns, duration_ns = span["start_ns"], span["duration_ns"]
    end_ns = None if duration_ns is None else start_ns + duration_ns
    waits = []
    if end_ns is not None:
        children = [
            (child["start_ns"], child["start_ns"] + child["duration_ns"])
            for child in span["children"]
            if child["duration_ns"] is not None and child["kind"] != "consumer"
        ]
        waits = cover(children, start_ns, end_ns)
    for character, own in draw_bar(scale, start_ns, end_ns, waits):
        line.append(character, f"{style} not dim" if own else "dim")


def _draw_failure(node: _Node, origins: Mapping[str, str], width: int) -> Iterator[Text]:
    exception = node.span["exception"]
    if exception is None:
        return
    guide = node.guide_below + ("│ " if node.span["children"] else "  ")
    if exception["frames"] or exception["origin"]:
        for part in draw_exception(exception, width - len(guide)):
            yield Text.assemble((guide, "dim"), part)
    if not exception["origin"]:
        origin = origins.get(
            exception["origin_span_id"], f"span {exception['origin_span_id']}, not in this tree"
        )
        words = f"{HOW_WORDS.get(exception['how'], '')}from {origin}"
        if not exception["frames"]:
            words = f"{shorten_type(exception['type'])} {words}"
        yield Text.assemble((guide, "dim"), (f"↑ {words}", "red"))
