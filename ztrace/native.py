"""Clocks, threads, randomness and the process id as C gives them, whatever a program or its tests patch.

One idea: the functions are held from the first import of ztrace on, and the clocks belong to a private copy
of the `time` module. Mocks of ``time.monotonic`` or ``os.urandom`` replace names that ztrace never looks
up, and freezegun, which replaces the functions of `time` in every module that holds them, does not know the
copy's. gevent's replacements are avoided too: a greenlet cannot send while the program computes, and a lock
of gevent's cannot be shared with a real thread.
"""

import importlib
import sys
import time
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from posix import getpid, urandom
from typing import Any

__all__ = [
    "allocate_lock",
    "allocate_rlock",
    "clock_gettime_ns",
    "get_ident",
    "get_native_id",
    "getpid",
    "monotonic",
    "new_local",
    "new_poll",
    "perf_counter_ns",
    "sleep",
    "sleep_and_switch",
    "start_new_thread",
    "thread_time_ns",
    "unix_ns",
    "urandom",
]

#: Packages whose `time.sleep` lets their other greenlets run.
_GREENLETS = ("gevent.", "eventlet.")


def _copy_time() -> Any:
    """Return a new module with the functions of `time`, or `time` where it is not built in."""
    spec = BuiltinImporter.find_spec("time")
    if spec is None:
        return time
    module: Any = BuiltinImporter.create_module(spec)
    BuiltinImporter.exec_module(module)
    return module


def _original(module: str, name: str) -> Any:
    """Return a function of a module as it was before gevent replaced it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


_time = _copy_time()
monotonic: Callable[[], float] = _time.monotonic
perf_counter_ns: Callable[[], int] = _time.perf_counter_ns
thread_time_ns: Callable[[], int] = _time.thread_time_ns
clock_gettime_ns: Callable[[int], int] = _time.clock_gettime_ns
sleep: Callable[[float], None] = _time.sleep
_unix_ns: Callable[[], int] = _time.time_ns

allocate_lock: Callable[[], Any] = _original("_thread", "allocate_lock")
allocate_rlock: Callable[[], Any] = _original("_thread", "RLock")
get_ident: Callable[[], int] = _original("_thread", "get_ident")
get_native_id: Callable[[], int] = _original("_thread", "get_native_id")
start_new_thread: Callable[..., int] = _original("_thread", "start_new_thread")
new_local: Callable[[], Any] = _original("_thread", "_local")
new_poll: Callable[[], Any] = _original("select", "poll")


def unix_ns() -> int:
    """Return the Unix time, also while time-machine, which patches C functions, makes the program travel."""
    machine = sys.modules.get("time_machine")
    if machine is not None:
        try:
            return int(machine.escape_hatch.time.time_ns())
        except (AttributeError, ValueError):  # Another module of that name, or no time travel now.
            pass
    return _unix_ns()


def sleep_and_switch(duration_s: float) -> None:
    """Sleep, and let other greenlets run where gevent or eventlet has patched `time.sleep`."""
    patched = time.sleep
    if str(getattr(patched, "__module__", "")).startswith(_GREENLETS):
        patched(duration_s)
    else:
        sleep(duration_s)
