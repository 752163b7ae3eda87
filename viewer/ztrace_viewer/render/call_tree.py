"""One call tree on the terminal: guides, names, durations, and bars on one time scale.

One idea: the columns of label, time and bar are fixed before the first line is drawn, and the tree is then
drawn from top to bottom in one pass, at any size and depth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from rich.cells import cell_len
from rich.text import Text

from ztrace_viewer.documents.trees import Missing, SpanDocument, TreeDocument
from ztrace_viewer.render.bars import BESIDE, Scale, draw_bar
from ztrace_viewer.render.critical import draw_after_answer, draw_critical_calls
from ztrace_viewer.render.failures import draw_failure
from ztrace_viewer.render.gaps import end_so_far, tell_complete, tell_missing, tell_unfinished, tell_unjoined
from ztrace_viewer.render.relations import draw_links, find_outlasting
from ztrace_viewer.render.skew import find_end, find_start, tell_clocks, tell_skew, walk_timed
from ztrace_viewer.render.span_events import draw_events
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_ago, format_moment
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.arrangement import cover
from ztrace_viewer.trees.tree import walk

#: Share of the tree's time from which on a span's own time is highlighted.
_HOT_SHARE = 0.2
#: Equal siblings in a row that are folded, and the number of them that is still shown.
_FOLD_FROM, _FOLD_KEEP = 8, 3
#: Least width of the screen for the bar, and for own times.
_BAR_FROM, _SELF_FROM = 56, 76
_TIME_WIDTH = 8
#: Mark of a failed span, beside its colour.
_FAILED = "✗ "


@dataclass(frozen=True, slots=True)
class _Columns:
    """Layout that all lines of a tree share.

    Attributes:
        outlasting: lines below spans that outlast their parent, by identity.
    """

    label: int
    self_time: bool
    scale: Scale
    now_ns: int
    trace_id: str
    outlasting: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class _Node:
    """A span to draw, or the siblings folded in its place.

    Attributes:
        depth: levels above it, shown where not all of their guides fit.
        fold: (count, total duration) of the folded siblings.
        missing: reason that is drawn above, in the place of the span's parent.
    """

    span: SpanDocument
    depth: int
    guide: str
    guide_below: str
    fold: tuple[int, int] | None = None
    missing: Missing | None = None


def draw_tree(
    tree: TreeDocument, width: int, limit: int | None, now_ns: int, links: Links = NO_LINKS
) -> Iterator[Text]:
    """Yield the lines of a tree.

    Args:
        tree: the document.
        width: columns of the screen.
        limit: most lines of spans and exceptions; None for all.
        now_ns: present time, for ages and for spans without an end.
        links: links from ids to the page.
    """
    yield from _header(tree, now_ns, links)
    for told, style in ((tell_clocks(tree), ""), (tell_skew(tree), "yellow")):
        if told:
            line = Text(told, style=style)
            line.truncate(width, overflow="ellipsis")
            yield line
    for drawn_line in (draw_critical_calls(tree, width), draw_after_answer(tree, width, now_ns)):
        if drawn_line is not None:
            yield drawn_line
    hot = _find_hot(tree)
    notable = _find_notable(tree, hot)
    columns = _lay_out(tree, width, now_ns)
    yield Text()
    yield _column_heads(columns)
    origins = _name_origins(tree)
    lines = 0
    pending = _top(tree, notable, columns)
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
            below = _children(node.span["children"], node.guide_below, node.depth + 1, notable, columns)
            pending.extend(below)
    if tree["missing"]:
        yield Text(tell_complete(tree["missing"]), style="bold yellow")


def _header(tree: TreeDocument, now_ns: int, links: Links) -> Iterator[Text]:
    # A root that is an orphan may begin earlier.
    root = next((root for root in tree["roots"] if root["parent_id"] is None), tree["roots"][0])
    head = Text("trace ", style="dim")
    head.append(tree["trace_id"], links.trace(tree["trace_id"], "not dim"))
    head.append("  ")
    head.append(name_call(root["service"], root["name"]), "bold not dim")
    open_ended = tree["duration_ns"] is None
    taken = f">{_time_so_far(root, now_ns)}" if open_ended else format_duration(tree["duration_ns"])
    head.append(f"  {taken}", "bold not dim")
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


def _time_so_far(span: SpanDocument, now_ns: int) -> str:
    return format_duration(end_so_far(span, now_ns) - span["start_ns"])


def _find_hot(tree: TreeDocument) -> set[int]:
    """Return the identities of spans with a large share of own time, and of the span with the largest."""
    spans = [(span["self_ns"] or 0, id(span)) for span, _ in walk(tree["roots"])]
    threshold = (tree["duration_ns"] or 0) * _HOT_SHARE
    hot = {key for self_ns, key in spans if self_ns >= threshold > 0}
    # Of several largest the first, so that a tree is always drawn the same.
    largest_ns, first = max(spans, key=lambda each: each[0])
    return hot | {first} if largest_ns else hot


def _name_origins(tree: TreeDocument) -> dict[str, str]:
    """Return the names of the spans in which an exception, or a failure without one, began, by id."""
    return {
        span["span_id"]: name_call(span["service"], span["name"], span["kind"])
        for span, _ in walk(tree["roots"])
        if (span["status"] == "error" if span["exception"] is None else span["exception"]["origin"])
    }


def _find_notable(tree: TreeDocument, hot: set[int]) -> set[int]:
    """Return the identities of spans that are never folded: slow, failed or open, and their ancestors."""
    notable: set[int] = set()
    for span, _ in reversed(list(walk(tree["roots"]))):
        if id(span) in hot or span["status"] != "ok" or any(id(each) in notable for each in span["children"]):
            notable.add(id(span))
    return notable


def _lay_out(tree: TreeDocument, width: int, now_ns: int) -> _Columns:
    widest = 0
    below = 2 if any("parent_id" in entry for entry in tree["missing"]) else 0
    for number, (span, depth) in enumerate(walk(tree["roots"])):
        if number == 2_000:  # A sample that is large enough.
            break
        name = name_call(span["service"], span["name"], span["kind"])
        mark = cell_len(_FAILED) if span["status"] == "error" else 0
        widest = max(widest, below + 2 * depth + mark + cell_len(name))
    self_time = width >= _SELF_FROM
    times = (_TIME_WIDTH + 1) * (2 if self_time else 1)
    most = width - times - 1 if width < _BAR_FROM else (width - times) * 11 // 20
    label = max(8, min(widest, most))
    bar = width - label - times - 2 if width >= _BAR_FROM else 0
    # Consumers may end after the root. Times of another clock would make all others too small to see.
    ends = [find_end(span, now_ns) for span in walk_timed(tree)] or [tree["start_ns"]]
    scale = Scale(tree["start_ns"], max(*ends, tree["start_ns"] + 1), bar)
    outlasting = find_outlasting(tree["roots"], now_ns)
    return _Columns(label, self_time, scale, now_ns, tree["trace_id"], outlasting)


def _column_heads(columns: _Columns) -> Text:
    head = "CALL".ljust(columns.label) + " " + "TIME".rjust(_TIME_WIDTH)
    if columns.self_time:
        head += " " + "OWN".rjust(_TIME_WIDTH)
    if width := columns.scale.width:
        end = format_duration(columns.scale.end_ns - columns.scale.start_ns)
        head += "  0" + end.rjust(width - 1)
    return Text(head, style="dim")


def _top(tree: TreeDocument, notable: set[int], columns: _Columns) -> list[_Node]:
    """Return the nodes of the roots, the first one last, orphans grouped by their missing parent."""
    entries = {entry.get("span_id"): entry for entry in tree["missing"] if "parent_id" in entry}
    groups: list[tuple[str | None, list[SpanDocument]]] = []
    orphans: dict[str | None, list[SpanDocument]] = {}
    for root in tree["roots"]:
        parent_id = root["parent_id"] if root["span_id"] in entries else None
        if parent_id in orphans:
            orphans[parent_id].append(root)
        elif parent_id is None and groups and groups[-1][0] is None:
            groups[-1][1].append(root)
        else:
            groups.append((parent_id, [root]))
            if parent_id is not None:
                orphans[parent_id] = groups[-1][1]
    nodes: list[_Node] = []
    for parent_id, spans in reversed(groups):
        below = _children(spans, "", 0 if parent_id is None else 1, notable, columns)
        if parent_id is not None:
            below[-1] = replace(below[-1], missing=entries[spans[0]["span_id"]])
        nodes.extend(below)
    return nodes


def _children(
    spans: Sequence[SpanDocument], guide: str, depth: int, notable: set[int], columns: _Columns
) -> list[_Node]:
    """Return the nodes of siblings, the first one last, with runs of the same call folded."""
    shown: list[tuple[SpanDocument, tuple[int, int] | None]] = []
    begin = 0
    while begin < len(spans):
        end = begin + 1
        while end < len(spans) and _alike(spans[begin], spans[end], notable, columns):
            end += 1
        keep = end if end - begin < _FOLD_FROM else begin + _FOLD_KEEP
        shown.extend((span, None) for span in spans[begin:keep])
        if keep < end:
            total_ns = sum(span["duration_ns"] or 0 for span in spans[keep:end])
            shown.append((spans[keep], (end - keep, total_ns)))
        begin = end
    # At great depth only the guides of the last levels fit.
    guide = guide[-(columns.label // 2 // 2 * 2) :]
    nodes = []
    for place, (span, fold) in enumerate(shown):
        last = place == len(shown) - 1
        own, below = (("└╴", "  ") if last else ("├╴", "│ ")) if depth else ("", "")
        nodes.append(_Node(span, depth, guide + own, guide + below, fold))
    return nodes[::-1]


def _alike(one: SpanDocument, other: SpanDocument, notable: set[int], columns: _Columns) -> bool:
    return (
        id(one) not in notable
        and id(other) not in notable
        and (one["service"], one["name"], one["kind"]) == (other["service"], other["name"], other["kind"])
        and (id(one) in columns.outlasting) == (id(other) in columns.outlasting)
    )


def _draw_node(
    node: _Node, columns: _Columns, hot: set[int], origins: Mapping[str, str], width: int
) -> Iterator[Text]:
    span = node.span
    if node.missing is not None:
        gap = Text(tell_missing(node.missing, columns.now_ns), style="yellow")
        gap.truncate(width, overflow="ellipsis")
        yield gap
    line = Text(_mark_depth(node), style="dim")
    if node.fold is not None:
        count, total_ns = node.fold
        line.append(f"… {count:,} more like this, {format_duration(total_ns)} in all")
        yield line
        return
    failed, heavy = span["status"] == "error", id(span) in hot
    style = "bold red" if failed else "bold yellow" if heavy else "not dim"
    line.append(_FAILED if failed else "", style)
    line.append(name_call(span["service"], span["name"], span["kind"]), style)
    line.truncate(columns.label, overflow="ellipsis", pad=True)
    open_ended = span["duration_ns"] is None
    taken = span["duration_ns"]
    time = f">{_time_so_far(span, columns.now_ns)}" if open_ended else format_duration(taken)
    line.append(f" {time:>{_TIME_WIDTH}}", "yellow" if open_ended else "not dim")
    if columns.self_time:
        line.append(f" {format_duration(span['self_ns']):>{_TIME_WIDTH}}", "bold yellow" if heavy else "")
    if columns.scale.width:
        line.append("  ")
        _append_bar(line, span, columns.scale, "red" if failed else "yellow" if heavy else "cyan")
    line.rstrip()
    yield line
    for told in (
        tell_unfinished(span, columns.now_ns),
        tell_unjoined(span),
        columns.outlasting.get(id(span)),
    ):
        if told:
            fate = Text.assemble((_guide_inside(node), "dim"), (told, "yellow"))
            fate.truncate(width, overflow="ellipsis")
            yield fate
    yield from draw_links(span, columns.trace_id, _guide_inside(node), width)
    yield from draw_events(span, _guide_inside(node), width, slow=heavy)
    yield from draw_failure(span, _guide_inside(node), origins, width)


def _append_bar(line: Text, span: SpanDocument, scale: Scale, style: str) -> None:
    start_ns, duration_ns = find_start(span), span["duration_ns"]
    end_ns = None if duration_ns is None else start_ns + duration_ns
    waits = []
    if end_ns is not None:
        children = [
            (find_start(child), find_start(child) + child["duration_ns"])
            for child in span["children"]
            if child["duration_ns"] is not None and child["kind"] != "consumer"
        ]
        waits = cover(children, start_ns, end_ns)
    beside = span["critical_ns"] == 0
    for own, run in groupby(draw_bar(scale, start_ns, end_ns, waits), itemgetter(1)):
        cells = "".join(character for character, _ in run)
        line.append(BESIDE * len(cells) if own and beside else cells, f"{style} not dim" if own else "dim")


def _mark_depth(node: _Node) -> str:
    """Return the guide of a node, with its depth in front if the guides of the outer levels are left out."""
    if len(node.guide) >= 2 * node.depth:
        return node.guide
    mark = f"{node.depth}⋮"
    return mark + node.guide[len(mark) :] if len(mark) < len(node.guide) else f"{mark} "


def _guide_inside(node: _Node) -> str:
    """Return the guide of the lines below a span."""
    return node.guide_below + ("│ " if node.span["children"] else "  ")
