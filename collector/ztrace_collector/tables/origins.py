"""Origins of exceptions whose senders do not name them, found in the call tree.

One idea: OpenTelemetry's SDKs record an exception in every span it passes, and the tree tells which of them
are the same: a span passed the exception of a child that failed before it with the same type and message. A
span that failed without an exception passed on the failure of its last failed child. The answer depends on
the trace's failed spans alone, so the order of their arrival does not matter.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ztrace.records import RAISED

#: Senders of exceptions: one that names the origin; one that does not, so that it is derived from the tree;
#: and one that named its own span, but a span below, of a sender that names none, had the exception before.
TOLD, DERIVED, CORRECTED = 0, 1, 2
#: Time by which a child may seem to end after its parent: other tracers round times.
ROUNDING_NS = 1_000_000

#: Trace id and span id of an origin.
Key = tuple[bytes, bytes]


class Failed(NamedTuple):
    """A failed span.

    Attributes:
        instance: key of its process.
        at_ns: end of the span, Unix.
        type: type of its exception; empty for a span that failed without one.
        how: as in `ztrace.records.ExceptionRecord`.
        origin: the origin as known so far.
        sender: DERIVED, TOLD or CORRECTED.
    """

    span_id: bytes
    parent_id: bytes | None
    kind: str
    instance: int
    at_ns: int
    type: str
    message: str
    how: str
    origin: Key
    sender: int

    @property
    def derived(self) -> bool:
        """True if its sender does not name origins."""
        return self.sender == DERIVED


def find_origins(trace_id: bytes, spans: Mapping[bytes, Failed]) -> dict[bytes, Key]:
    """Return the origins of a trace's failed spans, by span id.

    Spans whose parents form a circle are left out: they keep the origins they have.
    """
    children: dict[bytes, list[Failed]] = {}
    pending: list[Failed] = []
    for span in spans.values():
        if span.parent_id is None or span.parent_id not in spans:
            pending.append(span)
        else:
            children.setdefault(span.parent_id, []).append(span)
    ordered = []
    while pending:
        ordered.append(pending.pop())
        pending.extend(children.get(ordered[-1].span_id, ()))
    origins: dict[bytes, Key] = {}
    for span in reversed(ordered):
        source = None
        if span.sender != TOLD or (span.how == RAISED and span.origin == (trace_id, span.span_id)):
            source = _find_source(span, children)
        origins[span.span_id] = span.origin if source is None else origins[source.span_id]
    return {span_id: _follow(origin, trace_id, origins) for span_id, origin in origins.items()}


def find_key(span: Failed, failed: Mapping[bytes, Failed], found: Mapping[bytes, Key]) -> Key:
    """Return the origin found for a span, its own if another span has the same id."""
    return found.get(span.span_id, span.origin) if failed[span.span_id].origin == span.origin else span.origin


def follow_all(
    others: Sequence[bytes], key: Key, trace_id: bytes, origins: Mapping[bytes, Key]
) -> tuple[bytes, ...]:
    """Return the spans in which members of an exception group began, as far as they are not its own origin.

    Args:
        others: spans of the trace that the members name.
        key: origin of the group itself.
        trace_id: the trace.
        origins: as found for its failed spans.
    """
    followed = dict.fromkeys(origins.get(other, (trace_id, other)) for other in others)
    return tuple(span_id for trace, span_id in followed if trace == trace_id and (trace, span_id) != key)


def _find_source(span: Failed, children: Mapping[bytes, Sequence[Failed]]) -> Failed | None:
    """Return the span below that a failure came from, the last one if several fit."""
    found: Failed | None = None
    pending = list(children.get(span.span_id, ()))
    while pending:
        child = pending.pop()
        if child.kind == "consumer" or _is_later(child, span):
            continue
        if span.type and not child.type:
            pending.extend(children.get(child.span_id, ()))
            continue
        same = (child.type, child.message) == (span.type, span.message) and (span.derived or child.derived)
        if (same or not span.type) and (
            found is None or (child.at_ns, child.span_id) > (found.at_ns, found.span_id)
        ):
            found = child
    return found


def _is_later(child: Failed, span: Failed) -> bool:
    """Return whether a child failed after a span; between processes, whose clocks differ, none did."""
    return child.instance == span.instance and child.at_ns > span.at_ns + ROUNDING_NS


def _follow(origin: Key, trace_id: bytes, origins: Mapping[bytes, Key]) -> Key:
    """Return the origin of an origin that turned out to have passed another one's exception."""
    seen: set[Key] = set()
    while origin not in seen and origin[0] == trace_id and origin[1] in origins:
        seen.add(origin)
        origin = origins[origin[1]]
    return origin
