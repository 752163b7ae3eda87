"""Attributes of spans and resources, corrected and cut to what can be stored.

`ztrace_collector.checking.encoding` has their form, and `ztrace_collector.checking.shrinking` the cuts.
"""

import math
from collections.abc import Sequence
from typing import Any

from ztrace_collector.checking import text
from ztrace_collector.checking.encoding import MAX_ATTRIBUTES, MAX_DEPTH, encode_one, encode_texts, typed
from ztrace_collector.checking.shrinking import shrink
from ztrace_collector.refusals import ATTRIBUTES, LARGE_ATTRIBUTES, UTF8, Refusals

#: Items kept of a list or mapping that needs correction, which bounds the time that a hostile one takes.
MAX_ITEMS = 1024
#: Attributes of a resource that identify a process, cut last.
IDENTITY = (
    "service.name",
    "service.namespace",
    "service.instance.id",
    "service.version",
    "host.name",
    "host.id",
    "process.pid",
    "telemetry.sdk.name",
    "telemetry.sdk.language",
    "telemetry.sdk.version",
    "ztrace.started_ns",
)
#: Attribute of a resource with the number of its attributes that were cut or left out.
DROPPED = "ztrace.dropped_attributes"
#: Characters reserved for that attribute, and keys named in a refusal's detail.
_NOTE, _NAMED = 48, 3


def encode_column(
    column: Sequence[dict[str, Any] | None],
) -> tuple[list[str | None], dict[int, list[str]]] | None:
    """Return each mapping as JSON text, None for empty ones; or None if a mapping needs correction.

    Returns:
        The texts, and by position the keys that were cut or left out of a mapping that was too long.
    """
    texts = encode_texts(column)
    if texts is None:
        return None
    cut: dict[int, list[str]] = {}
    if max(map(len, filter(None, texts)), default=0) > MAX_ATTRIBUTES:
        for place, (attributes, encoded) in enumerate(zip(column, texts, strict=True)):
            if attributes and encoded and len(encoded) > MAX_ATTRIBUTES:
                kept, cut[place] = shrink(attributes, MAX_ATTRIBUTES)
                texts[place] = encode_one(kept)
    return texts, cut


def note_cut(keys: Sequence[str], name: str, refusals: Refusals) -> None:
    """Count the attributes of one span or resource as corrected, and name some of those that were cut."""
    told = ", ".join(key[:64] for key in keys[:_NAMED])
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    refusals.note(LARGE_ATTRIBUTES, f"of {name[:64]}: {told}{more}")


def mend(attributes: Any, refusals: Refusals) -> dict[str, Any] | None:
    """Return attributes that JSON can hold, from any value that was sent as attributes."""
    if attributes is None:
        return None
    if type(attributes) is not dict:
        refusals.note(ATTRIBUTES, f"attributes are {type(attributes).__name__}, not a mapping")
        return None
    mending = _Mending()
    plain = mending.mapping(attributes)
    if mending.bad_text:
        refusals.note(UTF8, f"in attributes: {', '.join(sorted(plain))}")
    if mending.replaced:
        refusals.note(ATTRIBUTES, f"in attributes: {', '.join(sorted(plain))}")
    return plain


def encode_resource(attributes: dict[str, Any] | None, refusals: Refusals) -> str | None:
    """Return a resource's attributes as JSON text, corrected if necessary; None if there are none.

    Of attributes that are too long, those that identify the process stay, and `DROPPED` counts the others.
    """
    kept = mend(attributes, refusals)
    if kept is None:
        return None
    encoded = encode_one(kept)
    if len(encoded) <= MAX_ATTRIBUTES:
        return encoded
    kept, cut = shrink(kept, MAX_ATTRIBUTES - _NOTE, IDENTITY)
    note_cut(cut, "a resource", refusals)
    return encode_one({**kept, DROPPED: len(cut)})


class _Mending:
    """Correction of one span's attributes to values that JSON has, with a record of what was changed."""

    def __init__(self) -> None:
        self.replaced = False
        self.bad_text = False

    def mapping(self, attributes: dict[Any, Any]) -> dict[str, Any]:
        """Return the attributes, of any number: `shrink` bounds them, and keeps those that matter."""
        return {self._key(key): self.value(item, MAX_DEPTH - 1) for key, item in attributes.items()}

    def value(self, value: Any, depth: int) -> Any:
        if value is None or type(value) in (bool, int):
            return value
        if type(value) is str:
            return self._text(value)
        if type(value) is float:
            return value if math.isfinite(value) else typed(value)
        if type(value) is bytes:
            return typed(value)
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
