"""Documents as JSON text.

One idea: a call tree may be deeper than Python's recursion limit, so the nested parts are written with a list
of what is still to be written; only what is never deep goes through `json.dumps`. Everything outside ASCII
is escaped: control characters from the wire can do nothing to a terminal.
"""

import json
from collections.abc import Iterator, Mapping

#: NaN and the infinities, which JSON has not, become strings. Made once: `json.loads` with an option makes
#: one at each call.
_DECODER = json.JSONDecoder(parse_constant=str)
#: Keys whose lists nest without bound: spans in spans, exceptions in exceptions.
_NESTING = ("roots", "children")


def write_json(document: Mapping[str, object]) -> Iterator[str]:
    """Yield the pieces of the document's JSON text, on one line and without a newline at the end."""
    pending: list[object] = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            nested = [key for key in _NESTING if item.get(key)]
            if not nested:
                yield json.dumps(item)
                continue
            yield json.dumps({key: value for key, value in item.items() if key not in nested})[:-1]
            parts: list[object] = []
            for number, key in enumerate(nested):
                parts.append(("" if number == 0 and len(nested) == len(item) else ", ") + f'"{key}": [')
                for place, child in enumerate(item[key]):
                    parts.extend((", ", child) if place else (child,))
                parts.append("]")
            parts.append("}")
            pending.extend(reversed(parts))
        else:
            yield json.dumps(item)


def read_json(text: str | None) -> object:
    """Read a column that holds JSON.

    Returns:
        The value, or None where the text is none.
    """
    if not text:
        return None
    try:
        value: object = _DECODER.decode(text)
        return value
    except (ValueError, RecursionError):
        return None
