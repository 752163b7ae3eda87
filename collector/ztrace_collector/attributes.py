"""Attributes as JSON text.

One idea: one call of the JSON encoder does a whole batch, because a call costs more than a small object does.
The encoder's output is cut apart where only a border between two objects can be: it puts a raw line end after
each comma of its own, and escapes those in strings.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from ztrace_collector import text
from ztrace_collector.refusals import ATTRIBUTES, LARGE_ATTRIBUTES, UTF8, Refusals

#: Characters of one span's attributes as JSON: what is larger belongs in a log, not beside every span.
MAX_ATTRIBUTES = 64 << 10
#: Levels kept of nested values: queries look at the first, people at the second.
MAX_DEPTH = 8
#: Items kept of a list or a mapping that has to be mended: bounds the time a hostile one can take.
MAX_ITEMS = 1024

_encode_many = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",\n", ":")
).encode
_encode_one = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


def encode_column(column: Sequence[dict[str, Any] | None], refusals: Refusals) -> list[str | None] | None:
    """Return each mapping as JSON text, None for those that are empty, or None if one cannot be JSON."""
    full = [attributes for attributes in column if attributes]
    if not full:
        return [None] * len(column)
    try:
        whole = _encode_many(full)[1:-1]
        texts = whole.replace("},\n{", "}\0{").replace("\n", "").split("\0")
        if len(texts) != len(full):  # There are mappings in lists, with the same border between them.
            texts = [_encode_one(attributes) for attributes in full]
    except (TypeError, ValueError, RecursionError):
        return None
    if max(map(len, texts)) > MAX_ATTRIBUTES:
        texts = [one if len(one) <= MAX_ATTRIBUTES else _note(one, refusals) for one in texts]
    if len(texts) == len(column):
        return list(texts)
    remaining = iter(texts)
    return [next(remaining) if attributes else None for attributes in column]


def mend(attributes: Any, refusals: Refusals) -> dict[str, Any] | None:
    """Return attributes that JSON can hold, of whatever was sent as such."""
    if attributes is None:
        return None
    if type(attributes) is not dict:
        refusals.note(ATTRIBUTES, f"attributes are {type(attributes).__name__}, not a mapping")
        return None
    mending = _Mending()
    plain: dict[str, Any] = mending.value(attributes, MAX_DEPTH)
    if mending.bad_text:
        refusals.note(UTF8, f"in attributes: {', '.join(sorted(plain))}")
    if mending.replaced:
        refusals.note(ATTRIBUTES, f"in attributes: {', '.join(sorted(plain))}")
    return plain


def _note(encoded: str, refusals: Refusals) -> str:
    refusals.note(LARGE_ATTRIBUTES, f"{len(encoded)} characters: {encoded[:80]}")
    return _encode_one({"ztrace.left_out": f"attributes of {len(encoded)} characters"})


class _Mending:
    """One span's attributes on the way to values that JSON has, and whether anything had to change."""

    def __init__(self) -> None:
        self.replaced = False
        self.bad_text = False

    def value(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if type(value) is str:
            return self._text(value)
        if type(value) is float and math.isfinite(value):
            return value
        if type(value) in (dict, tuple, list) and depth > 0:
            items = value.items() if type(value) is dict else enumerate(value)
            kept = [item for item, _ in zip(items, range(MAX_ITEMS), strict=False)]
            self.replaced |= len(kept) < len(value)
            if type(value) is dict:
                return {self._key(key): self.value(item, depth - 1) for key, item in kept}
            return [self.value(item, depth - 1) for _, item in kept]
        self.replaced = True
        if type(value) is bytes:
            return value[: MAX_ATTRIBUTES + 1].hex()
        if type(value) in (dict, tuple, list):
            return "…"
        return self._text(str(value))

    def _key(self, key: Any) -> str:
        if type(key) is str:
            return self._text(key)
        self.replaced = True
        return self._text(key.decode("utf-8", "replace") if type(key) is bytes else str(key)[:256])

    def _text(self, value: str) -> str:
        if text.is_whole(value):
            return value
        self.bad_text = True
        return text.mended(value)
