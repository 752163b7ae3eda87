"""Building blocks of every middleware: served requests, context in headers, and replies that carry an origin.

A middleware wraps the functions through which each call and each served request of its library must leave.
The parts that these wrappers share are here: they make spans with `new_span` or
`new_serving`, send the context with `write_context`, and let the reply of an error carry the exception's
origin back to the caller.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from ztrace import diagnostics
from ztrace.context import NEW, NEW_APART, Apart, Context, SpanContext, make_current
from ztrace.middleware.carriers import UNREADABLE
from ztrace.propagation import Caller, format_traceparent, parse_caller
from ztrace.spans import CONSUMER, SERVER, Span

#: Key of ztrace's own ``traceparent`` in the header of a request that another tracer's is in as well.
OWN_CONTEXT = "ztrace"


def write_context(span: Span, header: MutableMapping[str, Any]) -> None:
    """Write a span's W3C trace context into the header of a request or message, beside another tracer's."""
    traceparent = format_traceparent(span)
    if "traceparent" in header:
        header[OWN_CONTEXT] = traceparent
        return
    header["traceparent"] = traceparent
    if span.w3c[1]:
        header["tracestate"] = span.w3c[1]


def read_context(header: Mapping[str, Any]) -> SpanContext | None:
    """Return the sender's trace context from a header, ztrace's own if there are two."""
    caller = read_caller(header)
    return None if caller is None else SpanContext(*caller)


def read_caller(header: Mapping[str, Any]) -> Caller | None:
    """Return what `read_context` does, as a tuple."""
    get = header.get
    traceparent = get(OWN_CONTEXT)
    if type(traceparent) is not str:
        traceparent = get("traceparent")
        if not traceparent:
            return None
    caller = parse_caller(traceparent, get("tracestate"))
    if caller is None:
        diagnostics.count(UNREADABLE)
    return caller


def new_span(
    name: str,
    kind: int,
    attributes: dict[str, Any],
    parent: Context | None = None,
    links: Sequence[Context] | None = None,
) -> Span:
    """Create a span, which the middleware starts once its wrapper is sure to end the span.

    An exception may arrive anywhere: a span that was started before its name is bound would never end.

    Args:
        name: the method as called.
        kind: number of the kind.
        attributes: of the span, which then owns the dictionary.
        parent: context to use instead of the current one.
        links: other contexts that the span has to do with.
    """
    span = Span()
    span.name = name
    span.kind = kind
    span.attributes = span._given = attributes
    if kind == SERVER or parent is not None or links is not None:
        span._apart = apart = Apart()
        apart.parent, apart.links = parent, links
        span._state = NEW_APART
    else:
        span._state = NEW
    return span


def new_serving(name: str, kind: int, attributes: dict[str, Any], header: Mapping[str, Any]) -> Span:
    """Create the span of a request or message, for the middleware to start.

    The span of a request is a child of the caller's. That of a message is too, and is linked to the sender's
    span as well, which did not wait; whatever was current before is replaced, since one greenlet or thread
    serves all messages.

    Args:
        name: the method as called.
        kind: SERVER or CONSUMER.
        attributes: of the span, which then owns the dictionary.
        header: of the request, with the sender's trace context if there is one.
    """
    parent = read_context(header)
    links = None
    if kind == CONSUMER:
        make_current(None)
        links = (parent,) if parent else None
    return new_span(name, kind, attributes, parent, links)
