"""Arguments of spans that may be attributes instead: ``kind``, ``parent`` and ``links``.

One idea: a program may well have attributes of these names. A value that is no kind, and no context, is taken
for one, so that neither the attribute nor the span is lost.
"""

from itertools import islice
from typing import Any, cast

from ztrace.context import Context
from ztrace.interpreter.interrupts import is_interrupt
from ztrace.records import KIND_NUMBERS

#: Linked contexts kept of one span.
_MAX_LINKS = 1000
#: Types whose items are no links.
_NO_LINKS = (str, bytes, bytearray, dict)


def take_kind(kind: object, attributes: dict[str, Any]) -> int:
    """Return the number of a kind; that of "internal" for another value, which becomes an attribute."""
    if issubclass(type(kind), str):
        number = KIND_NUMBERS.get(str.__str__(cast(str, kind)))
        if number is not None:
            return number
    if kind is not None:
        attributes["kind"] = kind
    return KIND_NUMBERS["internal"]


def take_parent(parent: object, attributes: dict[str, Any]) -> Context | None:
    """Return a parent that is a context; another value becomes an attribute."""
    if parent is None or issubclass(type(parent), Context):
        return parent  # type: ignore[return-value]
    attributes["parent"] = parent
    return None


def take_links(links: object, attributes: dict[str, Any]) -> tuple[Context, ...] | None:
    """Return the contexts among links; a value that holds anything else but None becomes an attribute too."""
    if links is None:
        return None
    if issubclass(type(links), Context):
        return (links,)  # type: ignore[return-value]
    found = _list_items(links)
    if found is None:
        attributes["links"] = links
        return None
    contexts = tuple(link for link in found if issubclass(type(link), Context))
    if len(contexts) + sum(link is None for link in found) < len(found):
        attributes["links"] = links
    return contexts or None


def _list_items(links: Any) -> tuple[Any, ...] | None:
    if issubclass(type(links), _NO_LINKS):
        return None
    try:
        return tuple(islice(links, _MAX_LINKS))
    except Exception as error:  # It cannot be iterated, or the program's own iterator fails.
        if is_interrupt(error):
            raise
        return None
