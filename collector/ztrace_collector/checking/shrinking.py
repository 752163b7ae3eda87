"""Attributes that are too long, cut to a bound.

One idea: a long value costs itself, not its neighbours. The longest values are cut to one common length, so
all shorter ones stay whole; attributes are left out only where there are too many for any of them to say
something.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ztrace_collector.checking.encoding import MAX_DEPTH, encode_one

#: Characters of JSON below which no value is cut, and up to which the values of protected keys stay whole.
LEAST, PROTECTED = 64, 1024
#: Tags of bytes, and of mappings that look like a tag, in corrected values.
_BYTES = "$bytes"
#: Characters of the tag around encoded bytes, and of the braces of a mapping.
_TAG, _BRACES = 13, 2


def shrink(
    attributes: Mapping[str, Any], room: int, protected: Collection[str] = (), depth: int = MAX_DEPTH
) -> tuple[dict[str, Any], list[str]]:
    """Cut the longest values of attributes, and leave attributes out if there are too many.

    Args:
        attributes: values that `encode_one` accepts.
        room: maximum of characters of the result as JSON.
        protected: keys that are left out last, and whose values are cut last.
        depth: levels of nested values that are kept.

    Returns:
        What fits, in the same order, and the keys of the attributes that were cut or left out.
    """
    sizes = {key: len(encode_one(value)) for key, value in attributes.items()}
    beside = {key: len(encode_one(key)) + 2 for key in attributes}
    kept: set[str] = set()
    left = room - _BRACES
    for key in sorted(attributes, key=lambda key: key not in protected):
        least = beside[key] + min(sizes[key], PROTECTED if key in protected else LEAST)
        if least <= left:
            kept.add(key)
            left -= least
    level = find_level(
        [sizes[key] for key in kept if key not in protected],
        left + sum(min(sizes[key], LEAST) for key in kept if key not in protected),
    )
    found: dict[str, Any] = {}
    cut: list[str] = []
    for key, value in attributes.items():
        most = PROTECTED if key in protected else level
        if key not in kept:
            cut.append(key)
        elif sizes[key] <= most:
            found[key] = value
        else:
            found[key] = _cut(value, most, depth)
            cut.append(key)
    return found, cut


def find_level(sizes: Sequence[int], room: int) -> int:
    """Return the length to which sizes have to be cut so that their sum is within a bound."""
    for place, size in enumerate(ordered := sorted(sizes)):
        if size * (len(ordered) - place) > room:
            return max(0, room // (len(ordered) - place))
        room -= size
    return max(sizes, default=0)


def cut_text(text: str, room: int) -> str:
    """Return the beginning of a text, with an ellipsis, of which the JSON has at most so many characters."""
    encoded = encode_one(text)
    if len(encoded) <= room:
        return text
    for end in range(max(1, room - 2), 0, -1):  # An escape must not be cut; the longest has six characters.
        try:
            return f"{json.loads(encoded[:end] + chr(34))}…"
        except ValueError:
            continue
    return "…"


def _cut(value: Any, room: int, depth: int) -> Any:
    if type(value) is str:
        return cut_text(value, room)
    if type(value) is bytes:
        return value[: max(0, room - _TAG) // 4 * 3]
    if depth <= 1:
        return "…"
    if type(value) is dict:
        encoded = value.get(_BYTES) if len(value) == 1 else None
        if type(encoded) is str:
            return {_BYTES: encoded[: max(0, room - _TAG) // 4 * 4]}
        return shrink(value, room, depth=depth - 1)[0]
    if type(value) in (list, tuple):
        return _cut_list(value, room - _BRACES, depth)
    return "…"


def _cut_list(items: Sequence[Any], room: int, depth: int) -> list[Any]:
    """Return the first items of a list, the last one cut if it says something then."""
    kept: list[Any] = []
    for item in items:
        size = len(encode_one(item)) + 1
        if size > room:
            if room > LEAST:
                kept.append(_cut(item, room - 1, depth - 1))
            break
        kept.append(item)
        room -= size
    return kept
