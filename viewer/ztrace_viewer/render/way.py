"""Way of an exception on the terminal: one Python traceback across processes.

One idea: the spans of the way are divided into stretches, one for each process. A stretch is drawn as the
lines of its process, of which the last is the call that leads to the next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

from ztrace.records import PASSED, REPLACED, WRAPPED
from ztrace_viewer.documents.errors import Callee, ErrorDocument, Hop
from ztrace_viewer.documents.exceptions import ExceptionDocument, Frame
from ztrace_viewer.documents.trees import Instance
from ztrace_viewer.queries.exceptions import concerns
from ztrace_viewer.render.frames import CALLED, draw_frames, same_line
from ztrace_viewer.render.gaps import tell_missing
from ztrace_viewer.render.tracebacks import as_raised, draw_exception, draw_remote
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call
from ztrace_viewer.trees.missing import REMOTE_KINDS
from ztrace_viewer.trees.states import RUNNING, STATE_WORDS

#: Stretches shown of a long way, at its beginning and at its end, and spans of one stretch; JSON has all.
MAX_FIRST, MAX_LAST = 8, 24

#: Words between an exception raised on the way and the call whose error caused it.
_LINKS = {
    WRAPPED: "caused by",
    REPLACED: "while handling",
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive spans of the way in one process."""

    hops: Sequence[Hop]

    @property
    def called(self) -> str:
        """Display name of the call into this process."""
        first = self.hops[0]
        kind = first["kind"] if first["kind"] == "consumer" else ""
        return name_call(first["service"], first["name"], kind)


def part_way(hops: Sequence[Hop]) -> list[Stretch]:
    """Return the stretches of a way; one ends before a span of another process or of a remote kind."""
    begins = [
        place
        for place, hop in enumerate(hops)
        if place == 0
        or hop["kind"] in REMOTE_KINDS
        or hop["instance"]["id"] != hops[place - 1]["instance"]["id"]
    ]
    return [Stretch(hops[begin:end]) for begin, end in pairwise([*begins, len(hops)])]


def draw_way(document: ErrorDocument, width: int, now_ns: int, *, libraries: bool = False) -> Iterator[Text]:
    """Yield the lines of the way, from the entry call to the exception at its origin.

    Args:
        document: document of the error.
        width: columns of the screen.
        now_ns: present time, for spans without an end.
        libraries: include frames of libraries.
    """
    if document["missing"] is not None:
        yield Text(tell_missing(document["missing"], now_ns), style="yellow")
    stretches = part_way(document["hops"])
    before: Stretch | None = None
    for place, stretch in enumerate(stretches):
        if place == MAX_FIRST and len(stretches) > MAX_FIRST + MAX_LAST:
            yield Text(f"… {plural(len(stretches) - MAX_FIRST - MAX_LAST, 'call')} between", style="dim")
        if place < MAX_FIRST or place >= len(stretches) - MAX_LAST:
            yield _head(stretch, before)
            below = stretches[place + 1] if place + 1 < len(stretches) else None
            yield from _draw_stretch(stretch, below, document, width, libraries)
        before = stretch
    if document["exception"] is None:
        yield Text("the exception itself is not stored", style="yellow")
    elif not stretches:
        yield from draw_exception(document["exception"], width, libraries=libraries)
    yield from _draw_other_side(document, now_ns)


def find_outermost(document: ErrorDocument) -> Hop | None:
    """Return the root or consumer that the exception came out of, None if it was handled before."""
    for place, hop in enumerate(document["hops"]):
        if hop["how"] is not None:
            is_root = place == 0 and document["missing"] is None
            return hop if is_root or hop["kind"] == "consumer" else None
    return None


def tell_handled(hops: Sequence[Hop]) -> str:
    """Return the name of the call that handled the exception, empty if none did."""
    for above, below in pairwise(hops):
        if above["how"] is None and below["how"] is not None and below["kind"] != "consumer":
            return name_call(above["service"], above["name"])
    return ""


def _head(stretch: Stretch, before: Stretch | None) -> Text:
    """Return the line with the call into a process, and the process."""
    instance = stretch.hops[0]["instance"]
    if before is None:
        return _draw_head(stretch.called, _name_process(instance, None), None)
    caller = before.hops[-1]
    return _draw_head(stretch.called, _name_process(instance, caller["instance"]), caller["kind"])


def _name_process(instance: Instance, caller: Instance | None) -> str:
    """Return the process, with its host if the caller's is another; empty if neither is known."""
    same = caller is not None and caller["host"] == instance["host"]
    process = f"pid {instance['pid']}" if instance["pid"] else ""
    host = "" if same or not instance["host"] else f"on {clean(instance['host'])}"
    return " ".join(part for part in (process, host) if part)


def _draw_head(called: str, process: str, kind_before: str | None) -> Text:
    line = Text()
    if kind_before is not None:
        line.append("↓ sends to " if kind_before == "producer" else "↓ calls ", "cyan")
    line.append(called, "bold")
    if process:
        line.append(f"  ({process})", "dim")
    return line


def _draw_stretch(
    stretch: Stretch, below: Stretch | None, document: ErrorDocument, width: int, libraries: bool
) -> Iterator[Text]:
    """Yield the lines of one process, in the last one down to the exception at its origin."""
    hops, exception = stretch.hops, document["exception"]
    for place, hop in enumerate(hops):
        if place == MAX_FIRST and len(hops) > MAX_FIRST + MAX_LAST:
            yield Text(f"  … {plural(len(hops) - MAX_FIRST - MAX_LAST, 'span')} between", style="dim")
        if MAX_FIRST <= place < len(hops) - MAX_LAST:
            continue
        inner = hops[place + 1] if place + 1 < len(hops) else None
        if place and hop["kind"] == "internal":
            yield Text.assemble(("  in the span ", "dim"), clean(hop["name"]))
        if below is None and inner is None:
            if exception is not None:
                yield from draw_exception(exception, width, libraries=libraries)
        elif hop["how"] is None:
            yield from _tell_untouched(hop, inner or (below.hops[0] if below is not None else None))
        elif hop["how"] != PASSED:
            yield from draw_exception(_as_exception(hop), width, libraries=libraries)
            yield Text(_tell_link(hop, document["shown"]["origin_span_id"]), style="dim italic")
        else:
            frames = _leave_to(inner, hop["frames"], exception if below is None else None)
            yield from draw_frames(frames, width, CALLED, whole=False, libraries=libraries)


def _tell_link(hop: Hop, origin_span_id: str) -> str:
    """Return the line between an exception raised on the way and its cause."""
    for member in hop["members"]:
        if concerns(member, origin_span_id):
            return f"its {as_raised(member['type'], member['message']).partition(':')[0]} came from"
    return _LINKS.get(hop["how"] or "", "one of them came from")


def _tell_untouched(hop: Hop, below: Hop | None) -> Iterator[Text]:
    """Yield the line of a span that the exception did not enter, if it reached the span below."""
    if below is None or below["how"] is None:
        return
    if below["kind"] == "consumer":
        yield Text("  a message: its sender does not wait for the outcome", style="green")
    elif hop["status"] == "unfinished":
        yield Text("  has not ended", style="yellow")
    elif hop["status"] == "error":
        yield Text("  handled here, then failed with another error", style="yellow")
    else:
        yield Text("  handled here: its caller saw no error", style="green")


def _leave_to(inner: Hop | None, frames: Sequence[Frame], exception: ExceptionDocument | None) -> list[Frame]:
    """Return a span's frames, without the last of the user's own if the inner span begins with it.

    The line of a call is in the frames of the call's span and of the span around.
    """
    if inner is None:
        return list(frames)
    # The exception at its origin is drawn from its document, whose frames are those of its hop.
    following = exception["frames"] if exception is not None and inner["frames"] == [] else inner["frames"]
    first = next((frame for frame in following if frame["in_app"]), None)
    kept = list(frames)
    while kept and not kept[-1]["in_app"] and first is not None:
        kept.pop()
    if kept and first is not None and same_line(kept[-1], first):
        kept.pop()
        return kept
    return list(frames)


def _as_exception(hop: Hop) -> ExceptionDocument:
    """Return an exception that was raised on the way as a document."""
    return {
        "type": hop["type"] or "",
        "message": hop["message"] or "",
        "how": hop["how"] or "",
        "origin": False,
        "origin_span_id": "",
        "group": "",
        "frames": hop["frames"],
        "causes": [],
        "notes": hop["notes"],
        "members": hop["members"],
        "stack": None,
    }


def _draw_other_side(document: ErrorDocument, now_ns: int) -> Iterator[Text]:
    """Yield the lines of the callee of a call that failed at its caller."""
    failed_ns, callee, remote = document["failed_ns"], document["callee"], document["remote_traceback"]
    if failed_ns is None:
        return
    if callee is not None:
        process = _name_process(callee["instance"], document["hops"][-1]["instance"])
        yield _draw_head(name_call(callee["service"], callee["name"]), process, "client")
        yield Text(f"  {_tell_callee(callee, failed_ns, now_ns)}", style="yellow")
    else:
        told = "not traced" if remote is not None else "not stored"
        yield _draw_head(clean(document["hops"][-1]["name"]), told, "client")
    if remote is not None:
        yield from draw_remote(remote)


def _tell_callee(callee: Callee, failed_ns: int, now_ns: int) -> str:
    """Return the state of the callee when its caller failed, and its later end."""
    start_ns, unfinished = callee["start_ns"], callee["unfinished"]
    if unfinished is not None:
        if unfinished["state"] == RUNNING:
            return f"is still running, for {format_duration(max(0, now_ns - start_ns))} now"
        return f"has not ended: {STATE_WORDS.get(unfinished['state'], clean(unfinished['state']))}"
    ended = "with an error" if callee["status"] == "error" else "well"
    after_ns = start_ns + (callee["duration_ns"] or 0) - failed_ns
    taken = format_duration(callee["duration_ns"])
    if after_ns < 0:
        return f"had ended {ended} {format_duration(-after_ns)} before, after {taken}"
    return f"was still running, and ended {ended} {format_duration(after_ns)} later, after {taken}"
