"""Expected origins and paths of exceptions, derived from the processes' journals.

One idea: the journals record which call each exception object left, from which others it was made, and on
which
lines. So the origin, path and frames of every span can be predicted, and compared with those stored.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.ztrace.middleware.zerorpc.journal import Entry, Event, Line
from tests.ztrace.middleware.zerorpc.trees import Node
from ztrace_viewer.documents.exceptions import Frame
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.trees.tree import walk

_REMOTE = "zerorpc.exceptions.RemoteError"


@dataclass(frozen=True, slots=True)
class Predicted:
    """Path of an exception to the end of a call, and the call in which it was first raised."""

    how: str
    origin: Entry


class Ways:
    """Journalled exceptions of one scenario."""

    def __init__(self, entries: Iterable[Entry], events: Iterable[Event]) -> None:
        self._entries = [entry for entry in entries if entry.error is not None]
        self._raised = [event for event in events if event.kind == "raised"]

    def predict(self, entry: Entry) -> Predicted:
        """Predict the path and the origin of the exception that left a call."""
        event = self._event(entry.pid, entry.exception, entry.token) if entry.kind != "client" else None
        if event is not None:
            for number in event.made_from:
                if origin := self._origin(event, number):
                    return Predicted(event.how, origin)
            return Predicted("raised", entry)
        source = self._source(entry)
        return Predicted("passed", self.predict(source).origin) if source else Predicted("raised", entry)

    def origins(self, entry: Entry) -> list[Entry]:
        """Return the origins of a call's exception: for a group, those of its members."""
        event = self._event(entry.pid, entry.exception, entry.token) if entry.kind != "client" else None
        if event is not None:
            return self._origins(event) or [entry]
        source = self._source(entry)
        return self.origins(source) if source else [entry]

    def _origins(self, event: Event) -> list[Entry]:
        found = []
        for number in event.made_from:
            call = self._call(event.pid, number, event.token)
            made = self._event(event.pid, number, event.token)
            found += self.origins(call) if call else self._origins(made) if made else []
        return found

    def raised_at(self, entry: Entry) -> Line | None:
        """Return the line that raised a call's exception, if it was raised in this call."""
        event = self._event(entry.pid, entry.exception, entry.token)
        return event.at if event else None

    def _event(self, pid: int, number: int | None, token: str) -> Event | None:
        """Return the last raise of an exception object within a call."""
        found = [e for e in self._raised if (e.pid, e.exception, e.token) == (pid, number, token)]
        return found[-1] if found else None

    def _source(self, entry: Entry) -> Entry | None:
        """Return the call below that an exception came from: served elsewhere or made by this process."""
        if entry.kind == "client":
            wanted = ("server", entry.token)
            found = [e for e in self._entries if (e.kind, e.token) == wanted and e.traced]
            return found[0] if found and entry.error == _REMOTE else None
        return self._call(entry.pid, entry.exception, entry.token)

    def _call(self, pid: int, number: int | None, token: str) -> Entry | None:
        for entry in self._entries:
            at = (entry.kind, entry.pid, entry.exception, entry.token.rpartition(".")[0])
            if at == ("client", pid, number, token):
                return entry
        return None

    def _origin(self, made: Event, number: int) -> Entry | None:
        """Return the origin of an exception that another was made from, if it is in a call below."""
        call = self._call(made.pid, number, made.token)
        if call is not None:
            return self.predict(call).origin
        event = self._event(made.pid, number, made.token)
        origins = (self._origin(event, each) for each in event.made_from) if event else iter(())
        return next((origin for origin in origins if origin), None)


@dataclass
class Places:
    """Expected groups: by service, type and the lines to where the exception was raised."""

    groups: dict[tuple[str, ...], set[str]] = field(default_factory=dict)
    counts: Counter[tuple[str, ...]] = field(default_factory=Counter)
    edges: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def add(self, origin: Entry, raised: Line | None, group: str, *, at_edge: bool) -> None:
        """Add an origin, with its raising line if known, and whether its exception ended the tree's root."""
        lines = list(origin.lines)
        if (
            raised is not None and raised in lines
        ):  # Later lines are left on the object from an earlier raise.
            del lines[lines.index(raised) + 1 :]
        place = (origin.service, origin.error or "", *(f"{line.function}: {line.code}" for line in lines))
        self.groups.setdefault(place, set()).add(group)
        self.counts[place] += 1
        self.edges[place] += at_edge


def compare_ways(
    pairs: Sequence[tuple[SpanDocument, Node]], ways: Ways, places: Places, *, folded: bool = False
) -> None:
    """Assert that each span's exception has the journalled origin, path and lines.

    Args:
        pairs: the tree's spans, each with its prediction.
        ways: the journalled exceptions of the same scenario.
        places: the collection that the origins are added to.
        folded: whether repeated frames are folded, so that there are fewer frames than journalled lines.
    """
    spans = {id(node.entry): span for span, node in pairs if node.entry is not None}
    # An error raised within a service's own span without calls has its origin in that span.
    within = {
        id(node.entry): child
        for span, node in pairs
        for child in span["children"]
        if (child["kind"], child["children"], child["status"]) == ("internal", [], "error")
    }
    at_edge = {id(origin) for entry in _edges(pairs) for origin in ways.origins(entry)}
    for span, node in pairs:
        exception = span["exception"]
        if exception is None:
            continue
        if node.entry is None or node.entry.error is None:  # A span within a call.
            below = {e["origin_span_id"] for child in span["children"] if (e := child["exception"])}
            expected = ("passed", True) if below else ("raised", False)
            assert (exception["how"], exception["origin_span_id"] in below) == expected, span
            continue
        told = ways.predict(node.entry)
        origin = within.get(id(told.origin), spans[id(told.origin)])
        how = "passed" if id(node.entry) in within else told.how
        assert (exception["how"], exception["origin_span_id"]) == (how, origin["span_id"]), span
        assert exception["origin"] == (how == "raised")
        assert exception["type"] == node.error
        lines = [line_of(frame) for frame in exception["frames"] if frame["in_app"]]
        assert lines, span
        if node.entry.kind == "client" or folded or has_spans_within(span):
            wanted = node.entry.lines[-1] if node.entry.kind == "client" or folded else node.entry.lines[0]
            assert (lines[-1] if wanted == node.entry.lines[-1] else lines[0]) == wanted, span
        else:
            assert lines == [short(line) for line in node.entry.lines], span
        if exception["origin"] and node.entry.kind != "client":
            raised, is_at_edge = ways.raised_at(node.entry), id(node.entry) in at_edge
            places.add(node.entry, raised, exception["group"], at_edge=is_at_edge)


def _edges(pairs: Sequence[tuple[SpanDocument, Node]]) -> Iterator[Entry]:
    """Yield the calls whose exceptions reached the end of the root span or of a consumer's."""
    ends_root = pairs[0][1].error is not None
    for span, node in pairs:
        if node.entry is not None and node.entry.error is not None:
            is_last = span["parent_id"] == pairs[0][0]["span_id"]  # The scenarios make one call.
            if node.kind == "consumer" or (ends_root and is_last):
                yield node.entry


def has_spans_within(span: SpanDocument) -> bool:
    """Return whether the server has its own span around a call or a failure."""
    return any(child["kind"] == "internal" for child in span["children"])


def line_of(frame: Frame) -> Line:
    """Return a frame as a journal line: `traceback` does not know a function's class."""
    return Line(frame["file"], frame["line"], frame["function"].rpartition(".")[2], frame["code"])


def short(line: Line) -> Line:
    """Return a journal line as stored, with its code truncated."""
    return line._replace(code=line.code[:256])


def without_token(text: str, token: str) -> str:
    """Return a text without its token and without the depth of recursion, which depends on the stack."""
    return re.sub(r"repeated \d+ more", "repeated", text).replace(token, "TOKEN")


def origins_in(roots: list[SpanDocument]) -> list[SpanDocument]:
    """Return the spans in which an exception was first raised, in the tree's order."""
    return [span for span, _ in walk(roots) if span["exception"] and span["exception"]["origin"]]
