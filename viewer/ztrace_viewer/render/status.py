"""``status`` on the terminal: totals, losses, refusals, destinations, publishers.

One idea: the spans created are the first line, and the lines below account for them: one line for each sum
that is not zero, then one for each loss, with its process, reason and time.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.text import Text

from ztrace_collector.layout import LOG_BYTES
from ztrace_viewer.documents.status import Publisher, Refusal, ServicePublishers, StatusDocument
from ztrace_viewer.render.destinations import draw_destinations
from ztrace_viewer.render.grid import Column, draw_grid, draw_number
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.moments import format_ago, format_stretch
from ztrace_viewer.terminal.sizes import format_size

#: Styles of a publisher's states.
_STATE_STYLES = {"live": "green", "silent": "yellow", "crashed": "bold red", "ended": "dim"}
#: Publishers shown, the latest; and of the others, the services that have the most.
_SHOWN_PUBLISHERS, _SHOWN_SERVICES = 50, 20
#: Losses shown, the latest first.
_SHOWN_LOSSES = 20

_REFUSALS = (
    Column("REJECTED", right=True),
    Column("REASON", flexible=12),
    Column("LAST", goes=1),
    Column("DETAIL OF THE LAST", flexible=20),
)
_LOSSES = (
    Column("LOST", right=True),
    Column("REASON", flexible=12),
    Column("SERVICE", flexible=12),
    Column("HOST", flexible=12, goes=1),
    Column("PID", right=True, goes=2),
    Column("WHEN"),
)
_PUBLISHERS = (
    Column("SERVICE", flexible=12),
    Column("HOST", flexible=12, goes=1),
    Column("PID", right=True, goes=5),
    Column("STATE"),
    Column("CREATED", right=True, goes=4),
    Column("STORED", right=True, goes=6),
    Column("LOST", right=True),
    Column("IN FLIGHT", right=True, goes=2),
    Column("SEEN", goes=3),
)

#: Spans that are not counted by path yet, from which on that is told: those of some seconds are usual.
_BEHIND = 20_000


def draw_status(
    document: StatusDocument, width: int, now_ns: int, limit: int | None = None, skip: int = 0
) -> Iterator[Text]:
    """Yield the totals, then tables of refusals, losses, destinations and publishers.

    Args:
        document: the status.
        width: characters of a line.
        now_ns: present time.
        limit: most losses and publishers to list, of those in the document; None for a screen of them.
        skip: losses and publishers that the document has left out before these.
    """
    yield _fact("created", plural(document["spans_created"], "span"))
    stored = f"{plural(document['spans_stored'], 'span')} in {plural(document['traces_stored'], 'trace')}"
    expired = document["spans_expired"]
    yield _fact("stored", f"{stored}, and {expired:,} that expired" if expired else stored)
    if thinned := document["spans_thinned"]:
        traces = plural(document["traces_thinned"], "trace")
        yield _fact("thinned", f"{plural(thinned, 'span')} in {traces}, which all figures still count")
    lost = document["spans_lost"]
    yield _fact("lost", plural(lost, "span") if lost else "nothing", "bold red" if lost else "")
    if document["spans_waiting"]:
        yield _fact("in flight", plural(document["spans_waiting"], "span"), "yellow")
    if document["spans_elsewhere"]:
        yield _fact("elsewhere", f"{plural(document['spans_elsewhere'], 'span')}, before this file existed")
    if document["spans_unsettled"] > _BEHIND:
        yield _fact("behind", f"{document['spans_unsettled']:,} spans are not in profiles yet", "yellow")
    if document["samples_created"]:
        style = "bold red" if document["samples_lost"] else ""
        yield _fact("samples", _tell_samples(document), style)
    yield _fact("unfinished", _tell_unfinished(document))
    size = format_size(document["database_bytes"])
    log_bytes = document["log_bytes"]
    beside = f", and {format_size(log_bytes)} in the log beside it" if log_bytes else ""
    if log_bytes > 2 * LOG_BYTES:
        beside += ": a program has been reading the file for long; the log shrinks once that ends"
    yield _fact("size", size + beside, "yellow" if log_bytes > 2 * LOG_BYTES else "")
    refused = {refusal["reason"]: refusal["count"] for refusal in document["refusals"]}
    rejected = ", ".join(f"{clean(reason)} {count:,}" for reason, count in sorted(refused.items()))
    yield _fact("rejected", rejected or "nothing", "yellow" if rejected else "")
    if changed := Counter(document["rejected"]) - Counter(refused):
        yield _fact("at source", ", ".join(f"{clean(why)} {changed[why]:,}" for why in sorted(changed)))
    if document["refusals"]:
        yield Text()
        yield from _draw_refusals(document["refusals"], width, now_ns)
    if document["losses"]:
        yield Text()
        yield from _draw_losses(document, limit or _SHOWN_LOSSES, skip, width, now_ns)
    if document["destinations"]:
        yield Text()
        yield from draw_destinations(document["destinations"], width, now_ns)
    if document["publishers"]:
        yield Text()
        yield from _draw_publishers(document, limit or _SHOWN_PUBLISHERS, skip, width, now_ns)


def _tell_samples(document: StatusDocument) -> str:
    created, stored = document["samples_created"], document["samples_stored"]
    lost, elsewhere = document["samples_lost"], document["samples_elsewhere"]
    parts = (
        (stored, "stored"),
        (lost, "lost"),
        (created - stored - lost - elsewhere, "in flight"),
        (elsewhere, "before this file existed"),
    )
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    return f"{created:,} of code" + (f": {told}" if told else "")


def _tell_unfinished(document: StatusDocument) -> str:
    parts = (
        (document["unfinished_running"], "running"),
        (document["unfinished_ended"], "ended with their process"),
        (document["unfinished_lost"], "whose end was lost"),
    )
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count)
    return plural(document["unfinished"], "span") + (f": {told}" if told else "")


def _draw_refusals(refusals: Sequence[Refusal], width: int, now_ns: int) -> Iterator[Text]:
    rows = [
        (
            draw_number(refusal["count"], "yellow"),
            Text(clean(refusal["reason"])),
            Text(format_ago(refusal["last_ns"], now_ns)),
            Text(clean(refusal["detail"]), "dim"),
        )
        for refusal in refusals
    ]
    yield from draw_grid(_REFUSALS, rows, width)


def _draw_losses(document: StatusDocument, limit: int, skip: int, width: int, now_ns: int) -> Iterator[Text]:
    losses = document["losses"][:limit]
    rows: list[tuple[Text, ...]] = []
    for loss in losses:
        rows.append(
            (
                draw_number(loss["span_count"], "bold red"),
                Text(clean(loss["reason"])),
                Text(clean(loss["service"]), "bold"),
                Text(clean(loss["host"])),
                Text(str(loss["pid"] or "")),
                Text(format_stretch(loss["first_ns"], loss["last_ns"], now_ns)),
            )
        )
    yield from draw_grid(_LOSSES, rows, width)
    if left := document["loss_count"] - skip - len(losses):
        yield Text(f"… and {left:,} earlier: --skip {skip + len(losses)}", style="bold")


def _draw_publishers(
    document: StatusDocument, limit: int, skip: int, width: int, now_ns: int
) -> Iterator[Text]:
    publishers = document["publishers"][:limit]
    rows: list[tuple[Text, ...]] = []
    for publisher in publishers:
        rows.append(
            (
                Text(clean(publisher["service"]), "bold"),
                Text(clean(publisher["host"])),
                Text(_name_process(publisher)),
                Text(clean(publisher["state"]), style=_STATE_STYLES.get(publisher["state"], "")),
                draw_number(publisher["spans_created"]),
                draw_number(publisher["spans_stored"]),
                draw_number(publisher["spans_lost"], "bold red"),
                draw_number(publisher["spans_waiting"], "yellow"),
                Text(format_ago(publisher["last_seen_ns"], now_ns)),
            )
        )
    yield from draw_grid(_PUBLISHERS, rows, width)
    if left := document["publisher_count"] - skip - len(publishers):
        yield Text(f"… and {plural(left, 'publisher')} seen earlier: --skip {skip + len(publishers)}", "bold")
    if document["publisher_count"] > len(publishers):
        yield Text(f"all {document['publisher_count']:,} publishers by service:", "bold")
        yield from _draw_services(document["services"])


def _name_process(publisher: Publisher) -> str:
    if publisher["processes"] == 1:
        return str(publisher["pid"] or "")
    return f"{publisher['processes']:,} processes" if publisher["processes"] else ""


def _draw_services(services: Sequence[ServicePublishers]) -> Iterator[Text]:
    """Yield one line for each service that has the most publishers."""
    for each in services[:_SHOWN_SERVICES]:
        numbers = {state: each[state] for state in ("live", "silent", "crashed", "ended")}
        states = ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number)
        counts = (each["spans_created"], each["spans_stored"], each["spans_lost"])
        spans = "{:,} created, {:,} stored, {:,} lost".format(*counts)
        number = plural(each["publishers"], "publisher")
        yield Text(f"  {clean(each['service'])}: {number} ({states}), {spans}")
    if len(services) > _SHOWN_SERVICES:
        yield Text(f"  and {plural(len(services) - _SHOWN_SERVICES, 'service')} more")


def _fact(name: str, value: str, style: str = "") -> Text:
    return Text.assemble((f"{name:<12}", "dim"), (value, style))
