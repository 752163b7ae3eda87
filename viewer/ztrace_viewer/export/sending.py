"""Sending of spans to a receiver of OTLP, for ``--to``.

One idea: a person waits for the end. A receiver that does not answer is retried for some seconds; then the
number of spans sent is reported, and nothing is kept for later.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from ztrace.errors import EndpointError, SettingsError
from ztrace_collector.forwarding.pauses import Pauses
from ztrace_collector.otlp.sending.answers import Later
from ztrace_collector.otlp.sending.deliver import deliver, open_transport
from ztrace_collector.otlp.sending.destinations import Destination, read_destinations
from ztrace_viewer.interrupts import interruptible

#: Attempts of one request, which take about 15 seconds with the pauses.
TRIES = 6
#: Spans of a request of an import, regardless of the requests in the file.
REQUEST_SPANS = 512

_S = TypeVar("_S")


class LooseSpan(NamedTuple):
    """A span with its resource and scope."""

    resource: ResourceSpans
    scope: ScopeSpans
    span: Span


@dataclass(slots=True)
class Sent:
    """Result so far: spans sent, spans refused by reason, and the last message of the receiver."""

    count: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    detail: str = ""


def read_destination(url: str) -> Destination:
    """Return the receiver at a URL, with headers and options from OpenTelemetry's variables.

    Raises:
        SettingsError: the URL or a variable is invalid.
    """
    try:
        (destination,) = read_destinations([url], [], os.environ)
    except SettingsError as error:
        raise SettingsError(error.message.replace("--otlp", "--to"), hint=error.hint) from None
    return destination


def send(
    destination: Destination,
    some: Iterable[Sequence[_S]],
    build: Callable[[Sequence[_S]], ExportTraceServiceRequest],
    tell: Callable[[Sent], None],
) -> Sent:
    """Send spans in their order.

    Args:
        destination: the receiver.
        some: lists of spans of the size of a request.
        build: function that makes a request from spans.
        tell: function called after each request.

    Returns:
        The result.

    Raises:
        EndpointError: the receiver did not accept spans in all attempts; the message says what it has.
    """
    sent, pauses = Sent(), Pauses()
    transport = open_transport(destination)
    tries = 0

    def retry(later: Later) -> bool:
        nonlocal tries
        tries += 1
        if tries >= TRIES:
            told = f"it has {sent.count:,} of these spans" if sent.count else "nothing was sent"
            raise EndpointError(
                f"{destination.url} does not accept spans: {destination.redact(later.error)}; {told}",
                hint="start it and retry",
            )
        time.sleep(pauses.next_s(later.after_s))
        return True

    try:
        for spans in interruptible(some):
            for part in interruptible(deliver(spans, build, transport, retry)):
                tries = 0
                pauses.reset()
                sent.count += part.sent
                for reason, (count, detail) in part.refused.items():
                    sent.refused[reason] += count
                    sent.detail = destination.redact(detail)
                tell(sent)
    finally:
        transport.close()
    return sent


def check_refused(sent: Sent, destination: Destination) -> None:
    """Raise an error if the receiver refused spans.

    Raises:
        EndpointError: the receiver refused spans.
    """
    if refused := sent.refused.total():
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sent.refused.most_common())
        said = f"; it says: {sent.detail}" if sent.detail else ""
        raise EndpointError(
            f"{destination.url} refused {refused:,} of {refused + sent.count:,} spans ({reasons}){said}"
        )


def loosen(requests: Iterable[ExportTraceServiceRequest]) -> Iterator[list[LooseSpan]]:
    """Yield the spans of some requests in lists of the size of a request."""
    waiting: list[LooseSpan] = []
    for request in requests:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                waiting += [LooseSpan(resource, scope, span) for span in scope.spans]
        while len(waiting) >= REQUEST_SPANS:
            yield waiting[:REQUEST_SPANS]
            del waiting[:REQUEST_SPANS]
    if waiting:
        yield waiting


def bind(spans: Sequence[LooseSpan]) -> ExportTraceServiceRequest:
    """Return spans as one request, with their resources and scopes."""
    request = ExportTraceServiceRequest()
    for _, of_resource in groupby(spans, lambda loose: id(loose.resource)):
        in_resource = list(of_resource)
        given = in_resource[0].resource
        resource = request.resource_spans.add(schema_url=given.schema_url)
        if given.HasField("resource"):
            resource.resource.CopyFrom(given.resource)
        for _, of_scope in groupby(in_resource, lambda loose: id(loose.scope)):
            in_scope = list(of_scope)
            scope = resource.scope_spans.add(schema_url=in_scope[0].scope.schema_url)
            if in_scope[0].scope.HasField("scope"):
                scope.scope.CopyFrom(in_scope[0].scope.scope)
            scope.spans.extend(loose.span for loose in in_scope)
    return request
