"""Encoding of records into message bodies, in the publisher's thread, whatever the spans contain.

One idea: a batch is packed in one call; only if that fails, or if the result is too large, is each span
examined singly. Truncated and replaced values are counted by reason, and the span itself is kept. None of the
program's code runs here: a value unknown to msgpack is replaced by the name of its type. Secrets are removed
before packing.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, repeat
from operator import is_, itemgetter
from typing import Any, NamedTuple

import msgpack

from ztrace import diagnostics
from ztrace.publishing.values import (
    CUT,
    FOREIGN,
    MAX_ATTRIBUTES,
    MAX_NAME,
    MAX_TEXT,
    OWN,
    REPLACED,
    fit_name,
    fit_value,
    name_type,
)
from ztrace.records import ExceptionRecord, Record, Span
from ztrace.scrubbing.pairs import SCRUBBED
from ztrace.scrubbing.rules import DEFAULT_RULES, Rules
from ztrace.wire import MAX_BODY_BYTES

#: Size above which a span of an oversized batch loses its attributes.
MAX_SPAN_BYTES = 256 << 10
#: Positions in a record, and in an exception's record.
_NAME, _ATTRIBUTES, _LINKS, _EXCEPTION, _DETAILS = map(
    Span._fields.index, ("name", "attributes", "links", "exception", "details")
)
_START, _DURATION = map(Span._fields.index, ("start_ns", "duration_ns"))
_MESSAGE = ExceptionRecord._fields.index("message")

#: Reason for a span that cannot be packed at all, as shown by ``ztrace status``.
REFUSED = "span_unencodable"

_PLAIN = frozenset((str, int, float, bool, type(None)))
_pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack


class _Content(NamedTuple):
    """Contents of records: the keys of their attributes, and all their texts, including names."""

    keys: set[Any]
    texts: set[str]


_name_of, _attributes_of, _exception_of, _details_of = map(
    itemgetter, (_NAME, _ATTRIBUTES, _EXCEPTION, _DETAILS)
)


def encode(
    records: Sequence[Record], rules: Rules | None = DEFAULT_RULES, odd: list[Record] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield ``(span_count, body)`` of the message bodies that together contain all records.

    A record that cannot be packed at all is counted as REFUSED and omitted.

    Args:
        records: of spans, as appended to the queue.
        rules: definition of secrets; None to keep everything.
        odd: list to which the records are added that hold other objects than plain values.
    """
    ready = _fit(records, rules, odd)
    try:
        body = _pack(ready)
    except Exception:
        ready = [one for record in ready if (one := _salvage(record)) is not None]
        body = _pack(ready)
    if len(body) > MAX_BODY_BYTES:
        whole = [one for record in ready if (one := _salvage(record)) is not None]
        yield from _encode_parts([small for record in whole if (small := _shrink(record)) is not None])
    elif ready:
        yield len(ready), body


def find_stretch(records: Sequence[Record]) -> tuple[int, int]:
    """Return the ends of the first and the last span, in Unix time: the queue is in that order."""
    first, last = (record[_START] + record[_DURATION] for record in (records[0], records[-1]))
    return min(first, last), max(first, last)


def _fit(
    records: Sequence[Record], rules: Rules | None, odd_records: list[Record] | None = None
) -> Sequence[Record]:
    """Return the records with values that msgpack can carry, and without secrets."""
    odd: list[int] = []
    content = _plain_content(records)
    if content is None:
        content = _Content(set(), set())
        records = list(records)
        for place, record in enumerate(records):
            own = _plain_content([record])
            if own is None:
                if odd_records is not None:
                    odd_records.append(record)
                records[place] = _mend(record)
                odd.append(place)
                own = _mended_content(records[place])
            content.keys.update(own.keys)
            content.texts.update(own.texts)
    if rules is None:
        return records
    suspects = _suspects(records, content, rules, odd)
    if suspects:
        records = list(records)
        for place in suspects:
            records[place] = _scrub(records[place], rules)
    return records


def _encode_parts(records: Sequence[Record]) -> Iterator[tuple[int, bytes]]:
    """Yield bodies within the size limit, of records within theirs."""
    body = _pack(records)
    if len(body) > MAX_BODY_BYTES and len(records) > 1:
        middle = len(records) // 2
        yield from _encode_parts(records[:middle])
        yield from _encode_parts(records[middle:])
    elif records:
        yield len(records), body


def _plain_content(records: Sequence[Record]) -> _Content | None:
    """Return the contents of records, or None if names, attributes or details need correction.

    Few do. Columns of values are checked at once, for speed; packing detects the rest.
    """
    names = list(map(_name_of, records))
    if not (names and _are_all(names, str)) or any(map(_details_of, records)):
        return None
    attributes = list(map(_attributes_of, records))
    # Spans of one server's calls share their attributes: each dictionary is examined once.
    distinct = dict(zip(map(id, attributes), attributes, strict=True))
    distinct.pop(id(None), None)
    mappings = list(distinct.values())
    if not _are_all(mappings, dict):
        return None
    try:
        keys: set[Any] = set().union(*mappings)  # With the hashes that they have already.
        values = list(chain.from_iterable(map(dict.values, mappings)))
    except BaseException:  # A key that is compared raises, or the program changes a dictionary.
        return None
    if not (_types_of(values) <= _PLAIN and _types_of(keys) <= _PLAIN):
        return None
    # Only now that the types are known to be Python's own may values be hashed.
    texts = {value for value in set(values) if type(value) is str}
    names_once = set(names)
    if max(map(len, names_once)) > MAX_NAME or max(map(len, texts), default=0) > MAX_TEXT:
        return None
    return _Content(keys, texts | names_once)


def _are_all(values: Iterable[object], kind: type) -> bool:
    """Return whether all values are of exactly one type."""
    return all(map(is_, map(type, values), repeat(kind)))


def _types_of(values: Iterable[object]) -> set[type]:
    """Return the types of values, or their metaclasses if a set would call the hash method of one."""
    types = list(map(type, values))
    metaclasses = set(map(type, types))
    return set(types) if metaclasses <= {type} else metaclasses


def _mended_content(record: Record) -> _Content:
    """Return the contents of a corrected record, including the texts in lists."""
    content = _Content(set(), {record[_NAME]})
    values = []
    for key, value in (record[_ATTRIBUTES] or {}).items():
        content.keys.add(key)
        values.append(value)
    while values:
        value = values.pop()
        if type(value) is str:
            content.texts.add(value)
        elif type(value) is list:
            values += value
    return content


def _suspects(
    records: Sequence[Record], content: _Content, rules: Rules, odd: Sequence[int]
) -> Sequence[int]:
    """Return the places of the records that may contain a secret.

    Args:
        records: plain, except for the corrected ones, which may have lists and bytes.
        content: of all records.
        rules: definition of secrets.
        odd: places of the corrected records.
    """
    try:
        keys = {key for key in content.keys if type(key) is str}
        failed = []
        if any(map(_exception_of, records)):
            failed = [
                (place, exception)
                for place, exception in enumerate(map(_exception_of, records))
                if exception is not None
            ]
        messages = {exception[_MESSAGE] for _, exception in failed if type(exception[_MESSAGE]) is str}
        found = rules.find_names(keys) | rules.find_texts(content.texts | keys | messages).keys()
        innocent = messages - found
        suspects = {
            place
            for place, exception in failed
            if type(exception[_MESSAGE]) is not str
            or exception[_MESSAGE] not in innocent
            or not rules.knows_frames(exception)
        }
        suspects.update(odd)
        if not found:
            return sorted(suspects)
        for place, record in enumerate(records):
            if place not in suspects:
                attributes = record[_ATTRIBUTES] or {}
                if (
                    record[_NAME] in found
                    or not found.isdisjoint(attributes)
                    or not found.isdisjoint(attributes.values())
                ):
                    suspects.add(place)
        return sorted(suspects)
    except Exception:  # A dictionary has changed meanwhile: examine all records.
        return range(len(records))


def _scrub(record: Record, rules: Rules) -> Record:
    """Return the record without secrets, or if that fails without everything that may contain one."""
    fields = list(record)
    try:
        fields[_NAME] = rules.scrub(fields[_NAME])
        if fields[_ATTRIBUTES] is not None:
            fields[_ATTRIBUTES] = rules.scrub_attributes(dict.copy(fields[_ATTRIBUTES]))
        if fields[_EXCEPTION] is not None:
            fields[_EXCEPTION] = rules.scrub_exception(fields[_EXCEPTION])
        if fields[_DETAILS] is not None:
            fields[_DETAILS] = rules.scrub_attributes(fields[_DETAILS])
    except Exception:
        diagnostics.count_failure("scrubbing")
        fields[_NAME] = SCRUBBED
        fields[_ATTRIBUTES] = {"ztrace.scrubbed": SCRUBBED}
        fields[_DETAILS] = None
        failed = record[_EXCEPTION]
        if failed is not None:
            fields[_EXCEPTION] = (failed[0], SCRUBBED, [], [], *failed[4:7], [], [])
    return tuple(fields)


def _mend(record: Record) -> Record:
    """Return the record with a valid name and attributes, or if that fails without them."""
    try:
        return _mend_content(record)
    except Exception:
        diagnostics.count_failure("encoding")
        fields = list(record)
        fields[_NAME], fields[_ATTRIBUTES], fields[_DETAILS] = (
            "<unknown>",
            {"ztrace.replaced": "<unknown>"},
            None,
        )
        return tuple(fields)


def _mend_content(record: Record) -> Record:
    fields = list(record)
    fields[_NAME] = fit_name(fields[_NAME])
    limits = OWN
    if fields[_DETAILS] is not None:
        limits = FOREIGN
        fields[_DETAILS] = fit_value(fields[_DETAILS], limits)
    attributes = fields[_ATTRIBUTES]
    if attributes is not None and not issubclass(type(attributes), dict):
        diagnostics.count(REPLACED)
        attributes = {"ztrace.replaced": name_type(attributes)}
    if attributes is not None:
        # The program may still change the dictionary: a copy is one step, a loop is not.
        items = list(dict.copy(attributes).items())
        if len(items) > MAX_ATTRIBUTES:
            diagnostics.count(CUT, len(items) - MAX_ATTRIBUTES)
        fields[_ATTRIBUTES] = {
            fit_name(key): fit_value(value, limits) for key, value in items[:MAX_ATTRIBUTES]
        }
    return tuple(fields)


def _salvage(record: Record) -> Record | None:
    """Return a form of the record that can be packed: unchanged, corrected, or with clean text; else None."""
    for repair in (_snapshot, _mend, _clean_record):
        try:
            record = repair(record)
            _pack(record)
        except Exception:
            continue
        if repair is _clean_record:
            diagnostics.count(REPLACED)
        return record
    diagnostics.count(REFUSED)
    return None


def _snapshot(record: Record) -> Record:
    """Return the record with a copy of its attributes, since the program may change them."""
    fields = list(record)
    if type(fields[_ATTRIBUTES]) is dict:
        fields[_ATTRIBUTES] = fields[_ATTRIBUTES].copy()
    return tuple(fields)


def _clean_record(record: Record) -> Record:
    return tuple(_clean(field) for field in record)


def _clean(value: Any) -> Any:
    """Replace lone surrogates, which UTF-8 cannot encode; undecodable file names contain them."""
    kind = type(value)
    if kind is str:
        return value.encode("utf-8", "replace").decode("utf-8")
    if kind is dict:
        return {_clean(key): _clean(item) for key, item in value.items()}
    if issubclass(kind, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _shrink(record: Record) -> Record | None:
    """Return a form of the record within the size limit, or None if there is none."""
    size = len(_pack(record))
    if size <= MAX_SPAN_BYTES:
        return record
    diagnostics.count(CUT)
    fields = list(record)
    fields[_ATTRIBUTES] = {"ztrace.cut": f"attributes of {size} bytes"}
    fields[_LINKS] = fields[_DETAILS] = None
    failed = fields[_EXCEPTION]
    if failed is not None and len(_pack(failed)) > MAX_SPAN_BYTES:
        exception = ExceptionRecord(*failed)._replace(causes=[], members=[])
        if len(_pack(exception)) > MAX_SPAN_BYTES:
            exception = exception._replace(type=exception.type[:MAX_NAME], frames=[], notes=[])
        fields[_EXCEPTION] = exception
    if len(_pack(fields)) > MAX_BODY_BYTES:
        diagnostics.count(REFUSED)
        return None
    return tuple(fields)
