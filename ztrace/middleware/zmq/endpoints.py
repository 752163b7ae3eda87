"""Endpoints at which every peer is traced, as the program or its environment says.

Sockets that connect to such endpoints alone, or bind them, carry context without being named one by one:
those of a library, or of a program under ``ztrace-run``.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: Variable with endpoints, comma-separated.
_VARIABLE = "ZTRACE_ZMQ_CARRY"

#: Name of a call or message, from its frames.
Name = str | Callable[[Sequence[Any]], str] | None

#: Names by endpoint.
_names: dict[str, Name] = {}


def read_variable() -> None:
    """Add the endpoints of the environment."""
    add_endpoints(os.environ.get(_VARIABLE, "").split(","), None)


def add_endpoints(endpoints: Iterable[str], name: Name) -> None:
    """Have the sockets carry context that are opened at these endpoints from now on."""
    for endpoint in endpoints:
        if endpoint.strip():
            _names[endpoint.strip()] = name


def is_listed(endpoint: str | bytes) -> bool:
    """Return whether every peer at an endpoint is traced."""
    return _as_text(endpoint) in _names


def name_at(endpoint: str | bytes) -> Name:
    """Return the name of calls or messages at a listed endpoint."""
    return _names[_as_text(endpoint)]


def _as_text(endpoint: str | bytes) -> str:
    return endpoint.decode("utf-8", "replace") if isinstance(endpoint, bytes) else endpoint
