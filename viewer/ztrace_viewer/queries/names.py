"""Names of services and methods.

One idea: a store lists every name that ever occurred, once for each kind, so no span is read.
"""

from collections.abc import Collection
from typing import NamedTuple

from ztrace.errors import quote
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.store import Names


class Operation(NamedTuple):
    """A method of a service that is known from the context."""

    name: str
    kind: str


#: Verbs with which producers and consumers are displayed, and can be found too.
_VERBS = {"producer": "send ", "consumer": "process "}
#: Names listed in a message.
_NAMED = 5


def find_methods(store: Names, selection: Selection) -> list[int] | None:
    """Return the ids of the selected methods, None if neither service nor method is selected."""
    if selection.service is None and selection.method is None:
        return None
    return [
        method.id
        for method in store.methods().values()
        if selection.service in (None, method.service) and selection.method in (None, method.name)
    ]


def find_operations(store: Names, service: str | None, name: str | None) -> frozenset[int]:
    """Return the ids of the methods with a service and a displayed name; None matches any."""
    return frozenset(
        method.id
        for method in store.methods().values()
        if service in (None, method.service)
        and name in (None, method.name, f"{_VERBS.get(method.kind, '')}{method.name}")
    )


def list_services(store: Names) -> list[str]:
    """Return the services, sorted."""
    return sorted({method.service for method in store.methods().values()})


def list_operations(store: Names, service: str, kind: str = "") -> list[Operation]:
    """Return a service's operations, sorted: all, or those of one kind."""
    return sorted(
        Operation(method.name, method.kind)
        for method in store.methods().values()
        if method.service == service and kind in ("", method.kind)
    )


def explain_unknown(store: Names, selection: Selection) -> tuple[str, str] | None:
    """Return what is wrong with a selected service or method, and a hint; None if both are known."""
    methods = store.methods().values()
    services = {method.service for method in methods}
    if selection.service is not None and selection.service not in services:
        return f"no service {quote(selection.service)}", suggest(selection.service, services)
    names = {each.name for each in methods if selection.service in (None, each.service)}
    if selection.method is not None and selection.method not in names:
        whose = "" if selection.service is None else f" of {selection.service}"
        return f"no method {quote(selection.method)}{whose}", suggest(selection.method, names)
    return None


def suggest(name: str, known: Collection[str]) -> str:
    """Return a hint with the names nearest to an unknown one, or with the first ones if none is near."""
    from difflib import get_close_matches

    folded = {each.casefold(): each for each in sorted(known)}
    if near := [folded[each] for each in get_close_matches(name.casefold(), folded, _NAMED)]:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"there are {', '.join(sorted(known)[:_NAMED])}{more}" if known else ""
