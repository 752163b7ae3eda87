"""Facts about the traced libraries, one row for each.

Outside its middleware a library is named nowhere else.
"""

from typing import NamedTuple


class Library(NamedTuple):
    """A library that ztrace traces, or through which it carries the current span.

    Attributes:
        middleware: the module whose ``install`` patches the library.
        modules: modules after whose import ``install`` is called; the first one has to be installed.
        together: other rows that are installed with this one.
        packages: top-level packages whose frames are hidden in exceptions.
        system: value of ``rpc.system.name`` and ``messaging.system``; empty if the library has no spans.
        spans_name_methods: a span's name is the method alone, so OpenTelemetry's ``rpc.method`` equals it.
        remote_error: class, without its module, of the exception that carries one from the other side; its
            message begins with the name that the exception had there.
        remote_traceback: attribute with the traceback that a server without ztrace sent as text.
        unjoined: attribute of a request without context, with the reason: the two ends are two trees.
    """

    middleware: str
    modules: tuple[str, ...]
    together: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    system: str = ""
    spans_name_methods: bool = True
    remote_error: str = ""
    remote_traceback: str = ""
    unjoined: str = ""


#: Reason of a request without context whose server may be traced.
PEER_NOT_KNOWN = "peer not known"

#: By the name that `ztrace.instrument` takes.
LIBRARIES = {
    "threads": Library("ztrace.middleware.threads", modules=("threading",)),
    "executors": Library(
        "ztrace.middleware.executors",
        modules=("concurrent.futures.thread", "concurrent.futures.process", "multiprocessing.pool"),
        system="multiprocessing",
    ),
    "managers": Library(
        "ztrace.middleware.managers",
        modules=("multiprocessing.managers",),
        packages=("multiprocessing",),
        system="multiprocessing",
        remote_error="RemoteError",
    ),
    "xmlrpc": Library(
        "ztrace.middleware.xmlrpc",
        modules=("xmlrpc.client", "xmlrpc.server"),
        packages=("xmlrpc",),
        system="xmlrpc",
        remote_error="Fault",
    ),
    "pyro5": Library(
        "ztrace.middleware.pyro5",
        modules=("Pyro5.client", "Pyro5.server"),
        packages=("Pyro5",),
        system="pyro5",
        remote_traceback="pyro5.remote_traceback",
    ),
    "gevent": Library("ztrace.middleware.gevent", modules=("gevent",)),
    "zmq": Library(
        middleware="ztrace.middleware.zmq",
        modules=("zmq", "zmq.green", "zmq.asyncio", "zerorpc.gevent_zmq"),
        packages=("zmq",),
        system="zeromq",
        spans_name_methods=False,
        unjoined="zeromq.unjoined",
    ),
    "rpyc": Library(
        middleware="ztrace.middleware.rpyc",
        modules=("rpyc",),
        packages=("rpyc",),
        system="rpyc",
        remote_traceback="rpyc.remote_traceback",
    ),
    "zerorpc": Library(
        middleware="ztrace.middleware.zerorpc",
        modules=("zerorpc",),
        together=("gevent",),
        packages=("zerorpc",),
        system="zerorpc",
        remote_error="RemoteError",
        remote_traceback="zerorpc.remote_traceback",
    ),
}

#: Top-level packages of programs that run an application of someone else's: servers, profilers, debuggers.
LAUNCHERS = frozenset(
    (
        *("_pytest", "cProfile", "celery", "coverage", "daphne", "ddtrace", "debugpy", "django", "flask"),
        *("granian", "gunicorn", "hypercorn", "line_profiler", "memory_profiler", "newrelic"),
        *("opentelemetry", "pdb", "profile", "pyinstrument", "pytest", "runpy", "scalene", "trace"),
        *("twisted", "uvicorn", "viztracer", "waitress", "ztrace"),
    )
)

#: Top-level packages whose frames are hidden: the machinery of calls and of tracing.
HIDDEN_PACKAGES = frozenset(("ztrace", *(name for row in LIBRARIES.values() for name in row.packages)))
