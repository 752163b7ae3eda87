"""Middleware for RPC libraries and servers, one module or folder for each.

Each has an ``install`` that patches its library once, for existing and for future clients and servers;
`ztrace.libraries` lists them.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from ztrace import diagnostics
from ztrace.errors import MAX_QUOTED, quote
from ztrace.libraries import LIBRARIES
from ztrace.middleware.importing import call_when_imported


def instrument(*libraries: str) -> None:
    """Trace calls made through the named libraries, by default through every supported library.

    A library is patched now if the program has imported it, and otherwise when it does. May be called before
    or after `configure`, and repeatedly.

    Args:
        libraries: names from `ztrace.libraries.LIBRARIES`.
    """
    for name in libraries or LIBRARIES:
        try:
            if not isinstance(name, str) or name not in LIBRARIES:
                diagnostics.warn(_explain_unknown(name))
            elif libraries and not _is_installed(LIBRARIES[name].modules[0]):
                diagnostics.warn(f"cannot trace {quote(name)}: it is not installed")
            else:
                _watch(name)
        except Exception:
            diagnostics.contain("instrument")


def carry(socket: Any, *, name: str | Callable[[Sequence[Any]], str] | None = None) -> Any:
    """Send the current context with every message of a ZeroMQ socket.

    The context is one more frame, which peers with ztrace take out and others do not expect: every peer has
    to call `instrument("zmq")`. On a socket that only receives, or replies, this only sets the name.

    Args:
        socket: of pyzmq: plain, asyncio's or gevent's. Or a list of endpoints, for every socket that connects
            to or binds these, and no others, from now on; the texts are compared.
        name: of the calls or messages, or a function that returns the name for a list of frames; by default
            that which the sender has given, or "request" or "message".

    Returns:
        The socket, or the list.
    """
    try:
        import_module(LIBRARIES["zmq"].middleware).carry(socket, name)
    except Exception:
        diagnostics.contain("instrument")
    return socket


def _watch(name: str) -> None:
    row = LIBRARIES[name]
    for module in row.modules:
        call_when_imported(module, _INSTALLERS[name])
    for other in row.together:
        _watch(other)


def _installer(middleware: str) -> Callable[[], None]:
    def install() -> None:
        import_module(middleware).install()

    return install


#: By name; the same object each time, so that it waits for a module once.
_INSTALLERS = {name: _installer(row.middleware) for name, row in LIBRARIES.items()}


def _is_installed(module: str) -> bool:
    """Return whether a module's top-level package can be imported, without importing it."""
    package = module.partition(".")[0]
    return package in sys.modules or any(
        finder.find_spec(package, None) is not None for finder in sys.meta_path
    )


def _explain_unknown(name: object) -> str:
    import difflib  # Needed by a mistake only.

    nearest = difflib.get_close_matches(str(name)[:MAX_QUOTED], LIBRARIES, len(LIBRARIES), 0)
    return f"cannot trace {quote(name)}: supported are {', '.join(nearest)}"
