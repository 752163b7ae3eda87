"""Conversion of attribute values for msgpack, without running the program's code.

One idea: the type of a value decides, not its ``__class__``, and a subclass is read by the methods of its
base class alone. So proxies, mocks and lazy objects are replaced by the names of their own classes: reading
the objects behind them would run the program's code in the publisher's thread.
"""

from typing import Any, NamedTuple

from ztrace import diagnostics
from ztrace.publishing.plain_values import UNKNOWN, plain_value
from ztrace.records import INT64_MAX, INT64_MIN

#: Characters kept of a name and of a text (bytes of a binary), items of a list, attributes of a span.
MAX_NAME, MAX_TEXT, MAX_ITEMS, MAX_ATTRIBUTES = 256, 4096, 128, 128
#: Characters kept of a text of an OpenTelemetry span: half of what the collector keeps in total, since stacks
#: are among them; and levels of its mappings and lists: those of an event, and eight of a value.
MAX_FOREIGN_TEXT, MAX_FOREIGN_DEPTH = 32 << 10, 12

#: Reasons, as ``ztrace status`` shows them.
CUT, REPLACED = "attribute_cut", "attribute_replaced"

_INT_RANGE = range(INT64_MIN, INT64_MAX + 1)


class Limits(NamedTuple):
    """Limits of a value: levels of lists, characters of a text, and whether mappings are allowed."""

    depth: int
    text: int
    mappings: bool


OWN = Limits(2, MAX_TEXT, False)
#: For spans with details, which OpenTelemetry's have.
FOREIGN = Limits(MAX_FOREIGN_DEPTH, MAX_FOREIGN_TEXT, True)


def fit_name(name: object) -> str:
    """Return a name as text within the limit; a name that is no text is replaced by its type."""
    kind = type(name)
    if issubclass(kind, bytes):
        start: bytes = bytes.__getitem__(name, slice(4 * MAX_NAME))  # type: ignore[call-overload]
        name = start.decode("utf-8", "replace")
    elif not issubclass(kind, str):
        diagnostics.count(REPLACED)
        return name_type(name)
    return _cut_text(name, MAX_NAME)


def fit_value(value: object, limits: Limits = OWN) -> object:
    """Return a value that msgpack can carry; a value without such a form is replaced by its type."""
    try:
        return _fit(value, limits, 0)
    except Exception:  # An object of a known class in an invalid state.
        diagnostics.count(REPLACED)
        return name_type(value)


def name_type(value: object) -> str:
    """Return the name of a value's class in angle brackets, as replacement of the value."""
    return f"<{str.__str__(_name_of(type(value)))}>"


_name_of = type.__dict__["__name__"].__get__


def _fit(value: Any, limits: Limits, depth: int) -> object:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if issubclass(kind, str):
        return _cut_text(value, limits.text)
    if issubclass(kind, int):
        return _fit_int(int.__int__(value))
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, (bytes, bytearray)):
        binary: Any = bytes if issubclass(kind, bytes) else bytearray
        if binary.__len__(value) > limits.text:
            diagnostics.count(CUT)
        return bytes(binary.__getitem__(value, slice(limits.text)))
    if issubclass(kind, (list, tuple)) and depth < limits.depth:
        sequence: Any = list if issubclass(kind, list) else tuple
        if sequence.__len__(value) > MAX_ITEMS:
            diagnostics.count(CUT)
        return [_fit(item, limits, depth + 1) for item in sequence.__getitem__(value, slice(MAX_ITEMS))]
    if limits.mappings and issubclass(kind, dict) and depth < limits.depth:
        if dict.__len__(value) > MAX_ITEMS:
            diagnostics.count(CUT)
        pairs = list(dict.items(value))[:MAX_ITEMS]
        return {fit_name(key): _fit(item, limits, depth + 1) for key, item in pairs}
    plain = plain_value(value)
    if plain is not UNKNOWN:
        return _fit(plain, limits, depth)
    diagnostics.count(REPLACED)
    return name_type(value)


def _fit_int(number: int) -> object:
    if number in _INT_RANGE:
        return number
    diagnostics.count(REPLACED)
    return hex(number)[:MAX_TEXT]


def _cut_text(text: Any, length: int) -> str:
    """Return the beginning of a text of any str class, with an ellipsis if it is truncated."""
    if str.__len__(text) <= length:
        return str.__str__(text)
    diagnostics.count(CUT)
    return f"{str.__getitem__(text, slice(length - 1))}…"
