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

#: Maximum of characters of one span's attributes as JSON; larger values belong in a log.
MAX_ATTRIBUTES = 64 << 10
#: Levels kept of nested values that need correction; queries use the first.
MAX_DEPTH = 8


def typed(value: Any) -> dict[str, str]:
    """Return the tagged form of a value that JSON has no form for."""
    if type(value) is bytes:
        return {"$bytes": b64encode(value[: MAX_ATTRIBUTES + 1]).decode()}
    if type(value) is float:
        return {"$double": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    raise TypeError


_encode_many = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",\n", ":"), default=typed
).encode
encode_one = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=typed
).encode


def encode_texts(column: Sequence[dict[str, Any] | None]) -> list[str | None] | None:
    """Return each mapping as JSON text, None for empty ones; or None if a mapping needs correction."""
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
