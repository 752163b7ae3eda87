"""One exception group on the terminal: facts, times, and the way of one occurrence."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from ztrace_collector.layout import REGRESSED, RESOLVED
from ztrace_viewer.documents.errors import ErrorDocument, GroupSummary
from ztrace_viewer.queries.groups import WHEN_PARTS
from ztrace_viewer.queries.identifiers import SHOWN_TRACE_DIGITS, show_trace
from ztrace_viewer.render.sparks import draw_sparks
from ztrace_viewer.render.tracebacks import as_raised, headline
from ztrace_viewer.render.way import draw_way, find_outermost, tell_handled
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.links import NO_LINKS, Links
from ztrace_viewer.terminal.moments import format_ago, format_stretch
from ztrace_viewer.terminal.screen import name_call

#: Blanks between two samples on a line.
_GAP = 3
#: Styles of the states.
STATE_STYLES = {RESOLVED: "green", REGRESSED: "bold yellow"}


def draw_error(
    document: ErrorDocument,
    width: int,
    now_ns: int,
    *,
    libraries: bool = False,
    links: Links = NO_LINKS,
) -> Iterator[Text]:
    """Yield the lines of a group: its facts, the way of one occurrence, and the other samples.

    Args:
        document: from `ztrace_viewer.queries.way.read_error`.
        width: columns of the screen.
        now_ns: present time, for ages.
        libraries: include frames of libraries.
        links: links from ids to the page.
    """
    group, hops = document["group"], document["hops"]
    exception = document["exception"]
    message = group["message"] if exception is None else exception["message"]
    yield Text(headline(group["type"], message), style="bold red")
    yield from _draw_facts(group, now_ns, links)
    yield Text()
    yield _tell_shown(document, now_ns, links)
    if outermost := find_outermost(document):
        entry, what = name_call(outermost["service"], outermost["name"]), outermost["message"] or ""
        as_what = as_raised(outermost["type"] or "", what)
        yield Text.assemble(("came out of ", "dim"), (entry, "bold"), (" as ", "dim"), (as_what, "red"))
    elif handled := tell_handled(hops):
        yield Text.assemble(("handled in ", "dim"), (handled, "bold green"))
    yield Text()
    if not hops:
        yield Text("its spans are not stored", style="yellow")
    yield from draw_way(document, width, now_ns, libraries=libraries)
    if len(group["samples"]) > 1:
        yield Text()
        yield from _draw_samples(document, width, now_ns)


def _tell_uncaught(group: GroupSummary) -> str:
    """Return the number of occurrences that were never handled, in words."""
    reached, handled = group["uncaught_count"], group["swallowed_count"]
    if group["count"] == 1:
        return "uncaught" if reached else "caught on the way"
    if not (reached and handled):
        return "all uncaught" if reached else "all caught on the way"
    return f"{reached:,} uncaught, {handled:,} caught on the way"


def _tell_shown(document: ErrorDocument, now_ns: int, links: Links) -> Text:
    """Return the line that identifies the occurrence."""
    group, shown = document["group"], document["shown"]
    which = "the only one" if group["count"] == 1 else ""
    if not which and shown == group["samples"][0]:
        which = "the first one"
    elif not which and (shown["trace_id"], shown["origin_span_id"]) == (
        group["trace_id"],
        group["origin_span_id"],
    ):
        which = "the latest"
    ago = format_ago(shown["at_ns"], now_ns)
    told = f"{which}, {ago}, in trace " if which else f"{ago}, in trace "
    style = links.trace(shown["trace_id"], "", shown["origin_span_id"])
    return Text.assemble((told, "dim"), (shown["trace_id"], style))


def _draw_facts(group: GroupSummary, now_ns: int, links: Links) -> Iterator[Text]:
    line = Text.assemble(("error ", "dim"), (clean(group["group"]), links.error(group["group"])))
    if style := STATE_STYLES.get(group["state"]):
        line.append(f"  {group['state']}", style)
        if group["resolved_ns"] is not None:
            ago = format_ago(group["resolved_ns"], now_ns)
            line.append(f" {ago}" if group["state"] == RESOLVED else f", was resolved {ago}", "dim")
    line.append("  began in ", "dim")
    line.append(name_call(group["service"], group["name"], group["kind"]), "bold")
    yield line
    first, last = format_ago(group["first_ns"], now_ns), format_ago(group["last_ns"], now_ns)
    facts = [plural(group["count"], "time")]
    facts.append(f"last {last}" if group["count"] == 1 else f"first {first} · last {last}")
    facts.append(_tell_uncaught(group))
    yield Text(" · ".join(facts))
    if sum(count > 0 for count in group["when"]) > 1:
        until = format_stretch(group["when_since_ns"], group["when_until_ns"], now_ns)
        yield Text.assemble((draw_sparks(group["when"], WHEN_PARTS), "red"), (f"  {until}", "dim"))
    others = [clean(service) for service in group["services"] if service != group["service"]]
    if others:
        yield Text.assemble(("through ", "dim"), ", ".join(others))


def _draw_samples(document: ErrorDocument, width: int, now_ns: int) -> Iterator[Text]:
    """Yield the other samples, as many to a line as fit."""
    yield Text("other samples; show one with --sample ID", style="dim")
    line = Text()
    told = {document["shown"]["trace_id"]}
    for sample in reversed(document["group"]["samples"]):
        if sample["trace_id"] in told:
            continue
        told.add(sample["trace_id"])
        text = f"{show_trace(sample['trace_id'])} {format_ago(sample['at_ns'], now_ns)}"
        if line and cell_len(line.plain) + _GAP + cell_len(text) > width:
            yield line
            line = Text()
        line.append(" " * _GAP if line else "")
        line.append(text[:SHOWN_TRACE_DIGITS], "cyan")
        line.append(text[SHOWN_TRACE_DIGITS:])
    yield line
