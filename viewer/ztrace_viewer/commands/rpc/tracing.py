"""Trace of a call from the shell: recorded where a collector listens, and shown once it is stored."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ztrace
from ztrace.addresses import DEFAULT_ENDPOINT, parse_address
from ztrace.errors import EndpointError, NotFoundError, SettingsError
from ztrace.settings import read_settings
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.identifiers import find_trace
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.terminal.saying import complain
from ztrace_viewer.trees.tree import walk

#: Service of calls from the shell.
_SERVICE = "shell"
#: Time in which a collector accepts a connection.
_CONNECT_S = 0.5
#: Time for the spans of a call to be stored, those of other processes too.
_STORED_S = 3.0
#: Poll interval of the database.
_LOOK_S = 0.05


def require_tracing() -> None:
    """Check that a call will be traced.

    Raises:
        EndpointError: no collector listens.
        SettingsError: spans are turned off.
    """
    settings = read_settings()
    if settings.disabled:
        raise SettingsError("nothing is traced", hint="unset ZTRACE_DISABLED")
    if not any(map(can_reach, settings.endpoints)):
        raise EndpointError(
            f"no collector at {' or '.join(settings.endpoints)}", hint="start one with 'ztrace up'"
        )


@contextmanager
def tracing(method: str, trace_ids: list[str]) -> Iterator[None]:
    """Record a span for the block if a collector listens, and print the id of its trace.

    Args:
        method: that is called.
        trace_ids: takes the trace's id at the end of the block, if it is recorded.
    """
    if not has_collector():
        yield
        return
    ztrace.configure(os.environ.get("ZTRACE_SERVICE") or _SERVICE)
    span = ztrace.span(f"call {method}")
    try:
        with span:
            yield
    finally:
        ztrace.shutdown(_STORED_S)
        if span.trace_id:  # Empty where ZTRACE_DISABLED=1 turns spans off.
            trace_ids.append(span.trace_id.hex())
            complain(f"trace {trace_ids[0]}")


def show_trace(trace_id: str, database: Path) -> None:
    """Print the tree of a trace, once all of it is stored or some seconds have passed.

    Raises:
        NotFoundError: no span of it is stored.
    """
    from ztrace_viewer.render.call_tree import draw_tree
    from ztrace_viewer.terminal.screen import open_screen, write_all

    deadline_s = time.monotonic() + _STORED_S
    while True:
        now_ns = time.time_ns()
        is_late = time.monotonic() >= deadline_s
        try:
            with open_file(database) as store:
                tree = read_tree(store, find_trace(store, trace_id), now_ns)
        except NotFoundError as error:
            if is_late:
                raise NotFoundError(
                    f"trace {trace_id} is not in {database}", hint="give the collector's file with --db"
                ) from error
        else:
            if _is_whole(tree) or is_late:
                break
        time.sleep(_LOOK_S)
    screen = open_screen()
    write_all(screen, draw_tree(tree, screen.width, None, now_ns))


def _is_whole(tree: TreeDocument) -> bool:
    """Return whether a tree is complete, and has the other end of each call; a server may have none."""
    return tree["complete"] and all(
        span["children"] for span, _ in walk(tree["roots"]) if span["kind"] == "client"
    )


def has_collector() -> bool:
    """Return whether a collector of this process accepts connections."""
    listed = os.environ.get("ZTRACE_ENDPOINT") or DEFAULT_ENDPOINT
    return any(can_reach(endpoint.strip()) for endpoint in listed.split(","))


def can_reach(endpoint: str) -> bool:
    """Return whether something accepts connections at an endpoint of ZeroMQ."""
    transport, _, rest = endpoint.partition("://")
    try:
        if transport == "ipc":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_CONNECT_S)
                connection.connect(rest)
        else:
            with socket.create_connection(parse_address(rest), _CONNECT_S):
                pass
    except (OSError, ValueError):
        return False
    return True
