"""Documents as JSON text, and columns that hold JSON.

One idea: a call tree can be deeper than Python's recursion limit, so nested lists are written from a stack,
and `json.dumps` only writes parts of bounded depth. Non-ASCII characters are escaped, so control characters
from the wire cannot reach a terminal.
"""

import json
from collections.abc import Iterator, Mapping

#: Decoder that reads NaN and the infinities, which JSON lacks, as strings. Made once, since `json.loads`
#: with an option makes one in each call.
_DECODER = json.JSONDecoder(parse_constant=str)
#: Keys of lists that nest without bound.
_NESTING = ("roots", "children")


def write_json(document: Mapping[str, object]) -> Iterator[str]:
    """Yield the JSON text of a document in pieces, on one line without a final newline."""
    pending: list[object] = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            nested = [key for key in _NESTING if item.get(key)]
            if not nested:
                yield _dump(item)
                continue
            yield _dump({key: value for key, value in item.items() if key not in nested})[:-1]
            parts: list[object] = []
            for number, key in enumerate(nested):
                parts.append(("" if number == 0 and len(nested) == len(item) else ", ") + f'"{key}": [')
                for place, child in enumerate(item[key]):
                    parts.extend((", ", child) if place else (child,))
                parts.append("]")
            parts.append("}")
            pending.extend(reversed(parts))
        else:
            yield _dump(item)


def _dump(value: object) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")


def read_json(text: str | None) -> object:
    """Parse a column that holds JSON.

    Returns:
        The value, None if the column is empty or its text is not JSON.
    """
    if not text:
        return None
    try:
        value: object = _DECODER.decode(text)
        return value
    except (ValueError, RecursionError):
        return None
