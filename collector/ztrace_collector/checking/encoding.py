"""Attributes as JSON text.

Values without a JSON form are objects with one key: bytes are ``{"$bytes": base64}``, non-finite floats
``{"$double": "NaN"}``, ``"Infinity"`` or ``"-Infinity"``.

One idea: one call of the JSON encoder serves a whole batch, because a call costs more than a small object
does. The output is split at the borders between two objects, unless the same characters occur elsewhere too,
in a string or in a list of mappings: then there are too many parts.
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


encode_one = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), default=typed
).encode


def encode_texts(column: Sequence[dict[str, Any] | None]) -> list[str | None] | None:
    """Return each mapping as JSON text, None for empty ones; or None if a mapping needs correction."""
    full = [attributes for attributes in column if attributes]
    if not full:
        return [None for _ in column]
    try:
        # No character of the output is NUL, because the encoder escapes it in strings.
        texts = encode_one(full)[1:-1].replace("},{", "}\0{").split("\0")
        if len(texts) != len(full):
            texts = [encode_one(attributes) for attributes in full]
    except (TypeError, ValueError, RecursionError):
        return None
    if len(texts) == len(column):
        return list(texts)
    remaining = iter(texts)
    return [next(remaining) if attributes else None for attributes in column]
