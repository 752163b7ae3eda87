"""Matching of spans with the tags of a search.

One idea: a span has the tags that Jaeger's page shows, so it is compared as OTLP. Only spans whose rows
contain the text of every tag are converted.
"""

import base64
import json
import math
from collections.abc import Iterator, Sequence

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from ztrace.records import KIND_NAMES
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import StoredSpan
from ztrace_viewer.export.jaeger_fields import (
    DESCRIPTION_TAG,
    ERROR_TAG,
    KIND_TAG,
    SCOPE_TAG,
    SCOPE_VERSION_TAG,
    STATUS_NAMES,
    STATUS_TAG,
)
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.stores.conditions import SpanFilter
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.web.jaeger.parameters import Question

#: Names of tags for fields that are not attributes, as in Jaeger's storages.
_SCOPE_NAMES, _SCOPE_VERSIONS = (SCOPE_TAG, "scope.name"), (SCOPE_VERSION_TAG, "scope.version")
_STATUSES = (STATUS_TAG, "span.status")
_RESOURCE = "resource."
_FIELDS = {ERROR_TAG, KIND_TAG, DESCRIPTION_TAG, *_STATUSES, *_SCOPE_NAMES, *_SCOPE_VERSIONS}
#: Prefixes of tags made from other columns, whose names no row contains.
_MADE_OF_COLUMNS = ("service.", "host.", "process.", "telemetry.", "ztrace.", "rpc.", "messaging.")
#: Prefixes of tags made from the exception.
_MADE_OF_EXCEPTION = ("exception.", "error.")
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}


class Matcher:
    """Search for traces that have a span with all conditions of one question."""

    def __init__(self, store: Store, question: Question, methods: frozenset[int] | None) -> None:
        """Prepare a search for one question.

        Args:
            store: the store.
            question: the conditions.
            methods: ids of the methods of its service and operation; None for all.
        """
        self._store = store
        self._tags = dict(question.tags)
        self._builder = Builder(store.process) if question.tags else None
        self._filter = SpanFilter(methods=methods, min_ns=question.min_ns, max_ns=question.max_ns)
        for key, value in question.tags.items():
            self._add_tag(key, value)

    def find(self, trace_ids: Sequence[bytes], deadline: Deadline) -> set[bytes]:
        """Return the traces that have a matching span, as far as found before the deadline."""
        if not trace_ids:
            return set()
        if self._builder is None:
            return self._store.matching_traces(trace_ids, self._filter)
        found: set[bytes] = set()
        for span in self._store.matching_stored(trace_ids, self._filter, found):
            if deadline.is_over():
                break
            if span.trace_id not in found and self._has_tags(span):
                found.add(span.trace_id)
        return found

    def _has_tags(self, span: StoredSpan) -> bool:
        assert self._builder is not None
        return any(
            all(_has_tag(resource_spans, scope_spans, made, *tag) for tag in self._tags.items())
            for resource_spans in self._builder.request([span]).resource_spans
            for scope_spans in resource_spans.scope_spans
            for made in scope_spans.spans
        )

    def _add_tag(self, key: str, value: str) -> None:
        """Require a tag of the rows, as far as rows contain it."""
        name = key.removeprefix(_RESOURCE)
        if key == ERROR_TAG and value.lower() in _TRUE | _FALSE:
            self._filter.failed = value.lower() in _TRUE
        elif key not in _FIELDS and not name.startswith(_MADE_OF_COLUMNS):
            self._filter.add_tag(key, name, value, or_failed=key.startswith(_MADE_OF_EXCEPTION))


def _has_tag(
    resource_spans: ResourceSpans, scope_spans: ScopeSpans, span: Span, key: str, value: str
) -> bool:
    scope = scope_spans.scope
    if key == ERROR_TAG:
        failed = span.status.code == Status.STATUS_CODE_ERROR
        return value.lower() in (_TRUE if failed else _FALSE)
    if key == KIND_TAG:
        return value.lower() == KIND_NAMES.get(span.kind)
    if key in _STATUSES:
        return value.upper() == STATUS_NAMES.get(span.status.code, "UNSET")
    if key == DESCRIPTION_TAG:
        return value == span.status.message
    if key in _SCOPE_NAMES:
        return value == scope.name
    if key in _SCOPE_VERSIONS:
        return value == scope.version
    resource = resource_spans.resource.attributes
    if key.startswith(_RESOURCE) and _has_attribute(resource, key.removeprefix(_RESOURCE), value):
        return True
    return any(
        _has_attribute(attributes, key, value) for attributes in _find_attributes(resource, scope_spans, span)
    )


def _find_attributes(
    resource: Sequence[KeyValue], scope_spans: ScopeSpans, span: Span
) -> Iterator[Sequence[KeyValue]]:
    yield span.attributes
    yield resource
    yield scope_spans.scope.attributes
    yield from (event.attributes for event in span.events)
    yield from (link.attributes for link in span.links)


def _has_attribute(attributes: Sequence[KeyValue], key: str, value: str) -> bool:
    return any(each.key == key and _read(each.value) == value for each in attributes)


def _read(value: AnyValue) -> str:
    """Return a value as text, as people write it in a search."""
    plain = _read_plain(value)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, float):
        return str(int(plain)) if plain.is_integer() and abs(plain) < 1e21 else repr(plain)
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _read_plain(value: AnyValue) -> object:
    match value.WhichOneof("value"):
        case "array_value":
            return [_read_plain(each) for each in value.array_value.values]
        case "kvlist_value":
            return {each.key: _read_plain(each.value) for each in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "double_value":
            return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
        case None:
            return ""
        case kind:
            return getattr(value, kind)
