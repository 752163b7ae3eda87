"""Attributes as JSON text.

Values without a JSON form are objects with one key: bytes are ``{"$bytes": base64}``, non-finite floats
``{"$double": "NaN"}``, ``"Infinity"`` or ``"-Infinity"``.

One idea: one call of the JSON encoder serves a whole batch, because a call costs more than a small object
does. The output is split where only a border between two objects can be: the encoder puts a raw line feed
after each of its own commas, and escapes line feeds in strings.
"""

import json
import math
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from ztrace_collector.checking import text
from ztrace_collector.refusals import ATTRIBUTES, LARGE_ATTRIBUTES, UTF8, Refusals

#: Maximum of characters of one span's attributes as JSON; larger values belong in a log.
MAX_ATTRIBUTES = 64 << 10
#: Levels kept of nested values that need correction; queries use the first.
MAX_DEPTH = 8
#: Items kept of a list or mapping that needs correction, which bounds the time that a hostile one takes.
MAX_ITEMS = 1024


def _typed(value: Any) -> dict[str, str]:
    """Return the tagged form of a value that JSON has no form for."""
    if type(value) is bytes:
        return {"$bytes": b64encode(value[: MAX_ATTRIBUTES + 1]).decode()}
    if type(value) is float:
        return {"$double": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    raise TypeError


_encode_many = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",\n", ":"), default=_typed
).encode
encode_one = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=_typed
).encode


def encode_column(column: Sequence[dict[str, Any] | None], refusals: Refusals) -> list[str | None] | None:
    """Return each mapping as JSON text, None for empty ones; or None if a mapping needs correction."""
    texts = encode_texts(column)
    if texts is not None and max(map(len, filter(None, texts)), default=0) > MAX_ATTRIBUTES:
        return [text and (text if len(text) <= MAX_ATTRIBUTES else _note(text, refusals)) for text in texts]
    return texts


def encode_texts(column: Sequence[dict[str, Any] | None]) -> list[str | None] | None:
    """Return each mapping as `encode_column` does, at any length."""
    full = [attributes for attributes in column if attributes]
    if not full:
        return [None for _ in column]
    try:
        whole = _encode_many(full)[1:-1]
        texts = whole.replace("},\n{", "}\0{").replace("\n", "").split("\0")
        if len(texts) != len(full):  # Mappings in lists have the same border between them.
            texts = [encode_one(attributes) for attributes in full]
    except (TypeError, ValueError, RecursionError):
        return None
    if len(texts) == len(column):
        return list(texts)
    remaining = iter(texts)
    return [next(remaining) if attributes else None for attributes in column]


def mend(attributes: Any, refusals: Refusals) -> dict[str, Any] | None:
    """Return attributes that JSON can hold, from any value that was sent as attributes."""
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


def encode_resource(attributes: dict[str, Any] | None, refusals: Refusals) -> str | None:
    """Return a resource's attributes as JSON text, corrected if necessary; None if there are none."""
    kept = mend(attributes, refusals)
    if kept is None:
        return None
    encoded = encode_one(kept)
    return encoded if len(encoded) <= MAX_ATTRIBUTES else _note(encoded, refusals)


def _note(encoded: str, refusals: Refusals) -> str:
    refusals.note(LARGE_ATTRIBUTES, f"{len(encoded)} characters: {encoded[:80]}")
    return encode_one({"ztrace.left_out": f"attributes of {len(encoded)} characters"})


class _Mending:
    """Correction of one span's attributes to values that JSON has, with a record of what was changed."""

    def __init__(self) -> None:
        self.replaced = False
        self.bad_text = False

    def value(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if type(value) is str:
            return self._text(value)
        if type(value) is float:
            return value if math.isfinite(value) else _typed(value)
        if type(value) is bytes:
            return _typed(value)
        if type(value) in (dict, tuple, list) and depth > 0:
            items = value.items() if type(value) is dict else enumerate(value)
            kept = [item for item, _ in zip(items, range(MAX_ITEMS), strict=False)]
            self.replaced |= len(kept) < len(value)
            if type(value) is dict:
                return {self._key(key): self.value(item, depth - 1) for key, item in kept}
            return [self.value(item, depth - 1) for _, item in kept]
        self.replaced = True
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
