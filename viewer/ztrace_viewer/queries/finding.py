"""Search for calls anywhere in a tree, by name, attribute, duration and outcome.

One idea: the store leaves out rows that cannot match, and the others are decoded and compared here. Trees are
searched from the newest to the oldest, until there are enough calls or the deadline has passed.
"""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ztrace.errors import SettingsError, quote
from ztrace.records import ERROR, INT64_MAX
from ztrace_viewer.documents.found import FindDocument, FoundSpan
from ztrace_viewer.queries.candidates import read_pages, split
from ztrace_viewer.queries.deadline import Deadline, TooLong
from ztrace_viewer.queries.names import find_methods
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.answers import Candidate
from ztrace_viewer.queries.stores.conditions import SpanFilter, Wanted
from ztrace_viewer.queries.stores.store import Store
from ztrace_viewer.queries.thinned import find_thinned_until
from ztrace_viewer.trees.details import read_object
from ztrace_viewer.trees.spans import STATUS_NAMES, SpanRow

#: Time limit of a search.
SEARCH_S = 2.0
#: Traces, and spans of traces, that one statement reads.
_CHUNK, _CHUNK_SPANS = 200, 20_000


class Conditions(NamedTuple):
    """Conditions on a call, all of which have to hold.

    Attributes:
        texts: each occurs in the call's name, in a value of its attributes, or in its exception.
        attributes: keys and values of attributes of the call or of its process.
        min_ns: shortest duration.
        max_ns: longest duration.
        failed: status error.
    """

    texts: Sequence[str] = ()
    attributes: Sequence[tuple[str, str]] = ()
    min_ns: int | None = None
    max_ns: int | None = None
    failed: bool = False


def parse_words(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Split the words of a search into texts and attributes.

    Raises:
        SettingsError: a word is empty, or has no key before its equals sign.
    """
    texts, attributes = [], []
    for word in words:
        key, equals, value = word.partition("=")
        if not key.strip():
            raise SettingsError(f"{quote(word)} is neither a text nor an attribute", hint="write KEY=VALUE")
        if equals:
            attributes.append((key, value))
        else:
            texts.append(word)
    return texts, attributes


def find_calls(
    store: Store,
    conditions: Conditions,
    selection: Selection,
    limit: int,
    now_ns: int,
    deadline: Deadline,
) -> FindDocument:
    """Return the newest calls that meet all conditions, in trees that began in the selection's time.

    Args:
        store: the store.
        conditions: what is known of the calls.
        selection: time of the trees; service and method of the calls.
        limit: most calls to return.
        now_ns: present time.
        deadline: end of the search, which returns what it has found until then.
    """
    search = _Search(store, conditions, selection)
    found = [] if conditions.failed else search.find_open(now_ns)
    reached_ns = search.find_ended(found, limit, deadline)
    found.sort(key=lambda row: (-row.start_ns, row.span_id))
    return {
        "spans": [_describe(row, now_ns) for row in found[:limit]],
        "searched_since_ns": reached_ns,
        "thinned_until_ns": find_thinned_until(store, selection),
    }


class _Search:
    """One search over a database."""

    def __init__(self, store: Store, conditions: Conditions, selection: Selection) -> None:
        self._store = store
        self._conditions = conditions
        self._selection = selection
        self._texts = [text.casefold() for text in conditions.texts]
        self._exceptions = _Exceptions(store, [])
        self._filter = SpanFilter(
            methods=find_methods(store, selection),
            min_ns=conditions.min_ns,
            max_ns=conditions.max_ns,
            failed=True if conditions.failed else None,
        )
        for key, value in conditions.attributes:
            self._filter.add_tag(key, key, value, or_failed=False)
        methods = store.methods()
        for text in self._texts:
            named = [each.id for each in methods.values() if text in _name(each.service, each.name)]
            self._filter.add_text(text, named)

    def find_ended(self, found: list[SpanRow], limit: int, deadline: Deadline) -> int | None:
        """Append the matching calls of the newest trees until the limit is reached.

        Returns:
            The time back to which trees were searched until the deadline; None if it has not passed.
        """
        since_ns, until_ns = self._selection.since_ns or 0, self._selection.until_ns
        reached_ns = INT64_MAX if until_ns is None else until_ns - 1
        try:
            with self._store.within(deadline):
                for page in read_pages(self._store, Wanted(since_ns, reached_ns)):
                    for chunk in split(page.traces, _CHUNK, _CHUNK_SPANS):
                        found += self._match(chunk)
                        reached_ns = chunk[-1].start_ns
                        if len(found) >= limit:
                            return None
                        if deadline.is_over():
                            return reached_ns
        except TooLong:
            return reached_ns
        return None

    def find_open(self, now_ns: int) -> list[SpanRow]:
        """Return the matching calls without an end, each with the time that it has run."""
        rows = self._store.open_calls(self._selection, now_ns)
        least_ns, most_ns = self._conditions.min_ns or 0, self._conditions.max_ns
        return [
            row
            for row in rows
            if least_ns <= row.running_ns(now_ns) <= (INT64_MAX if most_ns is None else most_ns)
            and self._is_wanted(row)
        ]

    def _match(self, traces: Sequence[Candidate]) -> Iterator[SpanRow]:
        trace_ids = [trace.trace_id for trace in traces]
        self._exceptions = _Exceptions(self._store, trace_ids)
        return filter(self._is_wanted, self._store.matching_spans(trace_ids, self._filter))

    def _is_wanted(self, row: SpanRow) -> bool:
        attributes = row.read_attributes()
        for key, value in self._conditions.attributes:
            if key not in attributes and (resource := read_object(row.resource)).keys() >= {key}:
                attributes = {**resource, **attributes}
            if key not in attributes or _write(attributes[key]) != value:
                return False
        return all(self._has_text(row, text) for text in self._texts)

    def _has_text(self, row: SpanRow, text: str) -> bool:
        if text in _name(row.service, row.name):
            return True
        if any(text in _write(value).casefold() for value in row.read_attributes().values()):
            return True
        if row.status != ERROR:
            return False
        return any(text in told for told in self._exceptions.of(row))


class _Exceptions:
    """Texts of the exceptions of some traces, read when the first is asked for."""

    def __init__(self, store: Store, trace_ids: Sequence[bytes]) -> None:
        self._store = store
        self._trace_ids = trace_ids
        self._texts: dict[tuple[bytes, bytes], list[str]] | None = None

    def of(self, row: SpanRow) -> list[str]:
        """Return the texts of a span's exceptions, with case folded."""
        if self._texts is None:
            self._texts = {}
            for each in self._store.exception_texts(self._trace_ids):
                told = f"{each.type}: {each.message}".casefold()
                self._texts.setdefault((each.trace_id, each.span_id), []).append(told)
        return self._texts.get((row.trace_id, row.span_id), [])


def _name(service: str, name: str) -> str:
    return f"{service}.{name}".casefold()


def _write(value: object) -> str:
    """Return a value as people write it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _describe(row: SpanRow, now_ns: int) -> FoundSpan:
    return {
        "trace_id": row.trace_id.hex(),
        "span_id": row.span_id.hex(),
        "service": row.service,
        "name": row.name,
        "kind": row.kind,
        "start_ns": row.start_ns,
        "duration_ns": row.duration_ns,
        "running_ns": None if row.unfinished is None else row.running_ns(now_ns),
        "status": STATUS_NAMES.get(row.status, "ok"),
        "attributes": row.read_attributes(),
    }
