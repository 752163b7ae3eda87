"""Profiles on the terminal: one tree of call paths for each root, with their shares of the time."""

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from ztrace_viewer.documents.profile import PathProfile, PathStep, ProfileDocument, VersionProfile
from ztrace_viewer.render.code import draw_code_of_methods
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call

_COLUMNS = (
    Column("CALL", flexible=24),
    Column("CRITICAL", right=True),
    Column("OWN", right=True),
    Column("CALLS/TREE", right=True, goes=2),
    Column("ERRORS", right=True, goes=1),
    Column("P50", right=True, goes=4),
    Column("P95", right=True, goes=5),
    Column("RUNS", right=True, goes=3),
    Column("WAITS", right=True, goes=3),
)
#: Share of a root's time below which a path and all below it are left out, and the share that is highlighted.
_SHOWN, _HOT = 0.01, 0.1

#: Names of the services, methods and kinds from a root to a call.
_Key = tuple[tuple[str, str, str], ...]


def draw_profile(document: ProfileDocument, width: int, *, whole: bool) -> Iterator[Text]:
    """Yield the lines of a profile.

    Args:
        document: the profile.
        width: columns of the screen.
        whole: also draw paths with little of the time.
    """
    yield _header(document)
    paths = {_key(each["path"]): each for each in document["paths"]}
    children: dict[_Key, list[_Key]] = {}
    for key in paths:
        above = key[:-1]
        while above and above not in paths:
            above = above[:-1]
        children.setdefault(above, []).append(key)
    weights = _weigh(paths)
    rows: list[tuple[Text, ...]] = []
    left_out = 0
    tops: dict[_Key, list[_Key]] = {}
    for top in children.get((), ()):
        tops.setdefault(top[:1], []).append(top)
    for root, below_root in tops.items():
        root_ns = paths[below_root[0]]["root_ns"]
        pending = [(root, "", "")]
        if root not in paths:  # Only paths further down are shown.
            children[root] = below_root
        while pending:
            key, guide, below = pending.pop()
            rows.append(_draw_path(paths.get(key), key, guide, root_ns, is_below=key[:-1] in paths))
            below_it = sorted(children.get(key, ()), key=lambda child: -weights[child])
            kept = [child for child in below_it if whole or weights[child] >= _SHOWN * root_ns > 0]
            left_out += sum(_count(child, children) for child in below_it[len(kept) :])
            for child in reversed(kept):
                own, further = ("└╴", "  ") if child == kept[-1] else ("├╴", "│ ")
                pending.append((child, below + own, below + further))
    if rows:
        yield Text()
        yield from draw_grid(_COLUMNS, rows, width)
    yield from draw_code_of_methods(
        [(each["path"][-1], each["stacks"]) for each in document["paths"]],
        width,
        "code is of a method over all paths that lead to it",
    )
    yield from draw_code_of_methods(
        [(each, each["stacks"]) for each in document["uncounted"]],
        width,
        "code of calls that are in no counted tree, such as those that are still running",
    )
    if left_out:
        yield Text(f"{plural(left_out, 'path')} with under 1% of the time not shown; --all shows them", "dim")
    if document["left_out"]:
        yield Text(f"{plural(document['left_out'], 'tree')} of too many spans not counted", "yellow")
    if document["late_spans"]:
        late = plural(document["late_spans"], "span")
        yield Text(f"{late} not counted: their trees had expired or been thinned", "yellow")
    if document["unsettled_spans"]:
        yield Text(f"{plural(document['unsettled_spans'], 'span')} not counted yet", "yellow")


def draw_versions(versions: Sequence[VersionProfile], width: int, *, whole: bool) -> Iterator[Text]:
    """Yield the lines of a profile for each version."""
    for place, each in enumerate(versions):
        if place:
            yield Text()
        version = clean(each["version"]) or "(unknown)"
        yield Text.assemble(("service.version ", "dim"), (version, "bold"))
        yield from draw_profile(each["profile"], width, whole=whole)


def _header(document: ProfileDocument) -> Text:
    head = Text(plural(document["traces"], "tree"), "bold")
    if document["traces"]:
        p50, p95 = format_duration(document["p50_ns"]), format_duration(document["p95_ns"])
        head.append(f"  p50 {p50}  p95 {p95}", "not bold")
    return head


def _weigh(paths: Mapping[_Key, PathProfile]) -> dict[_Key, int]:
    """Return the critical time at or below each path; of those after the answer, their own time."""
    weights: dict[_Key, int] = {}
    for key, path in paths.items():
        after = _find_consumer(key)
        time_ns = path["self_ns"] if after else path["critical_ns"]
        for depth in range(after + 1 if after else 1, len(key) + 1):
            weights[key[:depth]] = weights.get(key[:depth], 0) + time_ns
    return weights


def _find_consumer(key: _Key) -> int:
    """Return the number of steps above the first consumer below the root, 0 if there is none."""
    return next((above for above, (_, _, kind) in enumerate(key) if above and kind == "consumer"), 0)


def _count(key: _Key, children: Mapping[_Key, Sequence[_Key]]) -> int:
    """Return the number of paths at or below one."""
    found = [key]
    for each in found:
        found.extend(children.get(each, ()))
    return len(found)


def _draw_path(
    path: PathProfile | None, key: _Key, guide: str, root_ns: int, *, is_below: bool
) -> tuple[Text, ...]:
    """Return the cells of a path; of one without figures, its name alone.

    Args:
        path: its figures.
        key: names of its steps.
        guide: lines that lead to it from above.
        root_ns: time of the root, of which the shares are.
        is_below: the line above in the tree is that of its caller.
    """
    call = _name_step(key[-1])
    if path is None:
        return Text.assemble((guide, "dim"), (f"{call} …", "dim")), *[Text()] * (len(_COLUMNS) - 1)
    caller = "" if is_below or len(key) < 3 else f"… > {_name_step(key[-2])} > "
    share = path["critical_ns"] / root_ns if root_ns else 0.0
    hot = "bold yellow" if share >= _HOT else ""
    per_tree = path["calls"] / path["root_calls"] if path["root_calls"] else None
    return (
        Text.assemble((guide, "dim"), (caller, "dim"), (call, hot or "bold")),
        Text("after", "dim") if _find_consumer(key) else Text(_percent(share), hot),
        Text(_percent(path["self_ns"] / root_ns if root_ns else 0.0)),
        Text("" if per_tree is None else f"{per_tree:,.2f}"),
        Text(f"{path['errors']:,}", "bold red" if path["errors"] else "dim"),
        Text(format_duration(path["p50_ns"])),
        Text(format_duration(path["p95_ns"])),
        _draw_share(path["run_share"]),
        _draw_share(path["wait_share"]),
    )


def _name_step(step: tuple[str, str, str]) -> str:
    service, name, kind = step
    return name_call(service, name, kind) if service else name


def _draw_share(share: float | None) -> Text:
    """Return a share of own time; one that is not known is a dash."""
    return Text("-", "dim") if share is None else Text(f"{share:.0%}")


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _key(path: Sequence[PathStep]) -> _Key:
    return tuple((step["service"], step["name"], step["kind"]) for step in path)
