"""Records to message bodies: everything a span carries is made fit to travel here, in the publisher's thread.

One idea: the batch is packed in one call, and only when that fails, or when something is too large, is each
span looked at alone. What has to be cut or replaced is counted by reason, and the span itself is kept.
No code of the traced program runs here: a value that msgpack does not know becomes its type's name. Secrets
are taken out of what fits, before it is packed.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

import msgpack

from ztrace import diagnostics
from ztrace.records import INT64_MAX, INT64_MIN, ExceptionRecord, Record, Span
from ztrace.scrubbing.pairs import SCRUBBED
from ztrace.scrubbing.rules import DEFAULT_RULES, Rules
from ztrace.wire import MAX_BODY_BYTES

#: Characters kept of a name and of a text (bytes of a binary), items of a list, attributes of a span.
MAX_NAME, MAX_TEXT, MAX_ITEMS, MAX_ATTRIBUTES = 256, 4096, 128, 128
#: A span that is still larger than this loses its attributes.
MAX_SPAN_BYTES = 256 << 10
#: Characters kept of a text of an OpenTelemetry span: half of what the collector keeps of all, since stacks
#: are among them; and levels of its mappings and lists: those of an event, and eight of a value.
MAX_FOREIGN_TEXT, MAX_FOREIGN_DEPTH = 32 << 10, 12

#: Positions in a record, and in that of an exception.
_NAME, _ATTRIBUTES, _LINKS, _EXCEPTION, _DETAILS = map(
    Span._fields.index, ("name", "attributes", "links", "exception", "details")
)
_MESSAGE = ExceptionRecord._fields.index("message")

#: Reasons, as ``ztrace status`` shows them.
CUT, REPLACED, REFUSED = "attribute_cut", "attribute_replaced", "span_unencodable"

_PLAIN = {str, int, float, bool, type(None)}
_INT_RANGE = range(INT64_MIN, INT64_MAX + 1)
_pack = msgpack.Packer(autoreset=True, use_bin_type=True).pack


class _Content(NamedTuple):
    """What plain records hold between them: the keys of their attributes, and their texts, names included."""

    keys: set[Any]
    texts: set[str]


class _Limits(NamedTuple):
    """What may be in a value: levels of lists, characters of a text, and whether mappings."""

    depth: int
    text: int
    mappings: bool


_OWN = _Limits(2, MAX_TEXT, False)
#: For spans with details, which OpenTelemetry's have.
_FOREIGN = _Limits(MAX_FOREIGN_DEPTH, MAX_FOREIGN_TEXT, True)
_details_of = itemgetter(_DETAILS)


def encode(records: Sequence[Record], rules: Rules | None = DEFAULT_RULES) -> Iterator[tuple[int, bytes]]:
    """Yield ``(span_count, body)`` for message bodies that hold all records between them.

    A record that cannot be packed whatever is done to it is counted as REFUSED and left out.

    Args:
        records: as spans leave them.
        rules: what is taken out; None takes out nothing.
    """
    ready = _fit(records, rules)
    try:
        body = _pack(ready)
    except Exception:
        ready = [whole for record in ready if (whole := _salvage(record)) is not None]
        body = _pack(ready)
    if len(body) > MAX_BODY_BYTES:
        yield from _encode_parts([small for record in ready if (small := _shrink(record)) is not None])
    elif ready:
        yield len(ready), body


def _fit(records: Sequence[Record], rules: Rules | None) -> Sequence[Record]:
    """Return the records mended where they have to be, and without secrets."""
    odd: list[int] = []
    content = _plain_content(records)
    if content is None:
        content = _Content(set(), set())
        records = list(records)
        for place, record in enumerate(records):
            own = _plain_content([record])
            if own is None:
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
    """Yield bodies that are small enough of records that are."""
    body = _pack(records)
    if len(body) > MAX_BODY_BYTES and len(records) > 1:
        middle = len(records) // 2
        yield from _encode_parts(records[:middle])
        yield from _encode_parts(records[middle:])
    elif records:
        yield len(records), body


def _plain_content(records: Sequence[Record]) -> _Content | None:
    """Return what is in the records, or None if names, attributes or details cannot travel as they are.

    Most always they can. It is found out by columns, for speed; what msgpack refuses, packing tells.
    """
    names = [record[_NAME] for record in records]
    if set(map(type, names)) != {str} or any(map(_details_of, records)):
        return None
    mappings = [record[_ATTRIBUTES] for record in records if record[_ATTRIBUTES] is not None]
    if not set(map(type, mappings)) <= {dict}:
        return None
    try:
        keys = list(chain.from_iterable(mappings))
        values = list(chain.from_iterable(map(dict.values, mappings)))
    except Exception:  # The program changes a dictionary just now.
        return None
    if not (set(map(type, values)) <= _PLAIN and set(map(type, keys)) <= _PLAIN):
        return None
    # Only now that the types are known to be Python's own may values be hashed.
    texts = {value for value in set(values) if type(value) is str}
    names_once = set(names)
    if max(map(len, names_once)) > MAX_NAME or max(map(len, texts), default=0) > MAX_TEXT:
        return None
    return _Content(set(keys), texts | names_once)


def _mended_content(record: Record) -> _Content:
    """Return what is in a record that was mended, with the texts in its lists."""
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
    """Return the places of those records in which there may be a secret.

    Args:
        records: plain, but for the odd ones, which were mended and may have lists and bytes.
        content: what they hold.
        rules: what a secret is.
        odd: their places.
    """
    try:
        keys = {key for key in content.keys if type(key) is str}
        failed = [
            (place, exception)
            for place, record in enumerate(records)
            if (exception := record[_EXCEPTION]) is not None
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
    except Exception:  # A dictionary has changed since: look at all of them.
        return range(len(records))


def _scrub(record: Record, rules: Rules) -> Record:
    """Return the record without secrets, or if that fails without all that may hold one."""
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
    """Return the record with a name and attributes that fit."""
    fields = list(record)
    fields[_NAME] = _mend_name(fields[_NAME])
    limits = _OWN
    if fields[_DETAILS] is not None:
        limits = _FOREIGN
        fields[_DETAILS] = _mend_value(fields[_DETAILS], limits)
    attributes = fields[_ATTRIBUTES]
    if attributes is not None and not isinstance(attributes, dict):
        diagnostics.count(REPLACED)
        attributes = {"ztrace.replaced": f"<{type(attributes).__name__}>"}
    if attributes is not None:
        # The program may still hold the dictionary and change it: a copy is one step, a loop is not.
        items = list(dict.copy(attributes).items())
        if len(items) > MAX_ATTRIBUTES:
            diagnostics.count(CUT, len(items) - MAX_ATTRIBUTES)
        fields[_ATTRIBUTES] = {
            _mend_name(key): _mend_value(value, limits) for key, value in items[:MAX_ATTRIBUTES]
        }
    return tuple(fields)


def _mend_name(name: object) -> str:
    if isinstance(name, bytes):
        name = bytes.__getitem__(name, slice(4 * MAX_NAME)).decode("utf-8", "replace")
    elif not isinstance(name, str):
        diagnostics.count(REPLACED)
        return f"<{type(name).__name__}>"
    if str.__len__(name) > MAX_NAME:
        diagnostics.count(CUT)
        return str.__getitem__(name, slice(MAX_NAME - 1)) + "…"
    return str.__str__(name)


def _mend_value(value: object, limits: _Limits = _OWN, depth: int = 0) -> object:
    """Return the value as msgpack can carry it; subclasses are read by their base class alone."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if str.__len__(value) > limits.text:
            diagnostics.count(CUT)
            return str.__getitem__(value, slice(limits.text - 1)) + "…"
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__int__(value)
        if number in _INT_RANGE:
            return number
        diagnostics.count(REPLACED)
        return hex(number)[:MAX_TEXT]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, (bytes, bytearray)):
        binary: Any = bytes if isinstance(value, bytes) else bytearray
        if binary.__len__(value) > limits.text:
            diagnostics.count(CUT)
        return bytes(binary.__getitem__(value, slice(limits.text)))
    if isinstance(value, (list, tuple)) and depth < limits.depth:
        sequence: Any = list if isinstance(value, list) else tuple
        if sequence.__len__(value) > MAX_ITEMS:
            diagnostics.count(CUT)
        kept = sequence.__getitem__(value, slice(MAX_ITEMS))
        return [_mend_value(item, limits, depth + 1) for item in kept]
    if limits.mappings and isinstance(value, dict) and depth < limits.depth:
        if dict.__len__(value) > MAX_ITEMS:
            diagnostics.count(CUT)
        pairs = list(dict.items(value))[:MAX_ITEMS]
        return {_mend_name(key): _mend_value(item, limits, depth + 1) for key, item in pairs}
    diagnostics.count(REPLACED)
    return f"<{type(value).__name__}>"


def _salvage(record: Record) -> Record | None:
    """Return a form of the record that packs: as it is, mended, with clean text, or not at all."""
    for repair in (tuple, _mend, _clean_record):
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


def _clean_record(record: Record) -> Record:
    return tuple(_clean(field) for field in record)


def _clean(value: Any) -> Any:
    """Replace what UTF-8 has no bytes for: lone surrogates, as undecodable file names bring them."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _shrink(record: Record) -> Record | None:
    """Return a form of the record that is small enough, or None if there is none."""
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
