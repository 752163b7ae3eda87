"""Completion of names and ids from the database that a command would read.

One idea: a completion that fails offers nothing, since the shell has no place for a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from ztrace.errors import ZtraceError

if TYPE_CHECKING:
    from ztrace_viewer.queries.stores.store import Store

#: Ids that are offered, of the slowest trees and the newest errors.
_IDS = 20

#: Values that are offered: a shell would interpret the characters of others, which peers choose.
PLAIN = re.compile(r"[\w.:/@+][\w.:/@+-]*")

#: Function by which click completes a parameter.
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offering(
    list_items: Callable[[Store, click.Context], Iterable[tuple[str, str]]],
) -> Complete:
    """Return a completion that offers items, each with its help, that begin with what was typed."""

    @wraps(list_items)
    def complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from ztrace_viewer.queries.stores.opening import open_store
        from ztrace_viewer.terminal.characters import clean

        try:
            with open_store(ctx.params["database"]) as store:
                found = sorted(set(list_items(store, ctx)))
        except ZtraceError:
            return []
        return [
            CompletionItem(value, help=clean(told) or None)
            for value, told in found
            if value.startswith(incomplete) and PLAIN.fullmatch(value)
        ]

    return complete


@_offering
def complete_services(store: Store, ctx: click.Context) -> Iterable[tuple[str, str]]:
    """Return the services."""
    from ztrace_viewer.queries.names import list_services

    return ((service, "") for service in list_services(store))


@_offering
def complete_methods(store: Store, ctx: click.Context) -> Iterable[tuple[str, str]]:
    """Return the methods, those of the service alone if one is given."""
    service = ctx.params.get("service")
    return ((each.name, "") for each in store.methods().values() if service in (None, each.service))


@_offering
def complete_roots(store: Store, ctx: click.Context) -> Iterable[tuple[str, str]]:
    """Return the roots of call trees, as ``SERVICE.METHOD``."""
    from ztrace_viewer.queries.paths import Paths

    return ((name, "") for name in Paths(store).name_roots().values())


@_offering
def complete_traces(store: Store, ctx: click.Context) -> Iterable[tuple[str, str]]:
    """Return the ids of the slowest trees."""
    from ztrace_viewer.queries.identifiers import shorten_traces
    from ztrace_viewer.queries.selection import EVERYTHING
    from ztrace_viewer.queries.traces import list_slowest
    from ztrace_viewer.terminal.durations import format_duration

    traces = list_slowest(store, EVERYTHING, _IDS)["traces"]
    short_ids = shorten_traces(store, [each["trace_id"] for each in traces])
    return (
        (
            short_ids[each["trace_id"]],
            f"{each['service']}.{each['name']} {format_duration(each['duration_ns'])}",
        )
        for each in traces
    )


@_offering
def complete_groups(store: Store, ctx: click.Context) -> Iterable[tuple[str, str]]:
    """Return the ids of the newest errors."""
    from ztrace_viewer.queries.groups import list_groups
    from ztrace_viewer.queries.identifiers import shorten_groups
    from ztrace_viewer.queries.selection import EVERYTHING

    groups = list_groups(store, EVERYTHING, _IDS)["groups"]
    short_ids = shorten_groups(store, [each["group"] for each in groups])
    return ((short_ids[each["group"]], f"{each['type']}: {each['message']}") for each in groups)
