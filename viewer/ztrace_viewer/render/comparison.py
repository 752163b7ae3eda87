"""Comparisons on the terminal: the changes of call paths, first those that are sure."""

from collections.abc import Iterator

from rich.text import Text

from ztrace_viewer.documents.comparison import DiffDocument, ExplainDocument, PathChange
from ztrace_viewer.documents.profile import PathStep
from ztrace_viewer.queries.comparison import MIN_UNITS
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.render.thinned import draw_thinned
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call

_COLUMNS = (
    Column("CHANGE", right=True),
    Column("WHY", flexible=20, goes=1),
    Column("BY CHANCE", right=True, goes=2),
    Column("CALL PATH", flexible=24),
)
_VALUES = (
    Column("SLOW", right=True),
    Column("REST", right=True),
    Column("BY CHANCE", right=True, goes=1),
    Column("ATTRIBUTE", flexible=24),
)
#: Steps of a path that are shown, its last ones.
_STEPS = 3
#: Probability below which no digits are told.
_TINY = 1e-5


def draw_diff(document: DiffDocument, width: int) -> Iterator[Text]:
    """Yield the lines of a comparison."""
    before, after = document["before"], document["after"]
    unit = {60: "minute", None: "tree"}.get(document["unit_s"], "hour")
    told = f" a tree  ({before['traces']:,} and {plural(after['traces'], 'tree')}"
    if document["unit_s"] is not None:
        told += f"; {before['minutes']:,} and {plural(after['minutes'], unit)}"
    elif before["traces"] + after["traces"] < (document["sampled_of"] or 0):
        told += f", of {document['sampled_of']:,}"
    head = Text.assemble((_signed(document["total_change_ns"]), "bold"), f"{told})")
    yield head
    yield from draw_thinned(document["thinned_until_ns"], "trees")
    sure = [path for path in document["paths"] if path["sure"]]
    if sure:
        yield Text()
        yield from draw_grid(_COLUMNS, [_draw_path(path) for path in sure], width)
    left = sum(1 for path in document["paths"] if not path["sure"] and path["change_ns"])
    short = MIN_UNITS - min(before["minutes"], after["minutes"])
    if short > 0:
        needed = f"{MIN_UNITS} trees" if unit == "tree" else f"{MIN_UNITS} {unit}s with trees"
        wait = (
            "choose a longer time"
            if unit == "tree"
            else f"wait {plural(short, unit)}, or choose a longer time"
        )
        yield Text(f"nothing is sure yet: each side needs {needed}; {wait}", "yellow")
    elif document["smallest_seen_ns"] is not None:
        smallest = format_duration(round(document["smallest_seen_ns"]))
        yield Text(f"not sure: {plural(left, 'path')}; a change of ±{smallest} would have been seen", "dim")


def draw_explanation(document: ExplainDocument, width: int) -> Iterator[Text]:
    """Yield the lines about what sets slow trees apart."""
    slow = document["slow"]
    head = Text.assemble((clean(document["root"]), "bold"))
    over = format_duration(slow["over_ns"])
    head.append(f"  {plural(slow['traces'], 'tree')} over {over}, compared with {document['rest']:,} others")
    yield head
    yield from draw_thinned(document["thinned_until_ns"], "shares")
    values = document["attributes"]
    if values:
        yield Text()
        rows = [
            (
                Text(f"{value['share_slow']:.0%}", "bold yellow"),
                Text(f"{value['share_rest']:.0%}"),
                Text(_chance(value["p"])),
                Text(f"{clean(value['key'])} = {clean(value['value'])}", "bold"),
            )
            for value in values
        ]
        yield from draw_grid(_VALUES, rows, width)
    sure = [path for path in document["paths"] if path["sure"]]
    if sure:
        yield Text()
        yield from draw_grid(_COLUMNS, [_draw_path(path) for path in sure], width)
    if not values and not sure:
        yield Text("no attribute and no call path sets them apart for sure", "dim")


def _chance(p: float) -> str:
    return "<0.001%" if p < _TINY else f"{p:.2%}"


def _draw_path(path: PathChange) -> tuple[Text, ...]:
    steps = path["path"]
    named = " > ".join(_name(step) for step in steps[-_STEPS:])
    return (
        Text(_signed(path["change_ns"]), "bold red" if path["change_ns"] > 0 else "bold green"),
        Text(_explain(path)),
        Text(_chance(path["p"])),
        Text(f"{'… > ' if len(steps) > _STEPS else ''}{named}", "bold"),
    )


def _explain(path: PathChange) -> str:
    each = f"each {_time(path['each_before_ns'])} → {_time(path['each_after_ns'])}"
    calls = f"{path['calls_before']:,.2f} → {path['calls_after']:,.2f} calls a tree"
    return {"slower": each, "more calls": calls, "both": f"{each}, {calls}"}.get(path["cause"], path["cause"])


def _signed(change_ns: float) -> str:
    sign = "+" if change_ns > 0 else "-" if change_ns < 0 else "±"
    return f"{sign}{format_duration(round(abs(change_ns)))}"


def _time(time_ns: float | None) -> str:
    return format_duration(None if time_ns is None else round(time_ns))


def _name(step: PathStep) -> str:
    return name_call(step["service"], step["name"], step["kind"]) if step["service"] else clean(step["name"])
