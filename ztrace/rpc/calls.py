"""The call that a handler serves, and the deadline that its own calls inherit.

Both are context variables, so tasks, threads of the pool and nested calls each see their own.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from ztrace.rpc.core.serving import Served
from ztrace.rpc.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """Call that a handler serves.

    Attributes:
        name: of the method.
        peer: identity of the client's connection.
        service: of the client, by its key; "" on a server without keys.
        metadata: that the client sent with the call.
        served: state of the call in the server.
    """

    name: str
    peer: bytes
    service: str
    metadata: Mapping[str, Any]
    served: Served

    @property
    def args(self) -> Sequence[Any]:
        """Positional arguments of the call."""
        return self.served.args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments of the call."""
        return self.served.kwargs

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the caller stops waiting, None if it waits without limit."""
        deadline_s = self.served.deadline_s
        return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())


#: Call that is being served here.
serving: ContextVar[Served | None] = ContextVar("ztrace_rpc_serving", default=None)
#: Moment (monotonic) at which calls from here stop waiting.
deadline_at: ContextVar[float | None] = ContextVar("ztrace_rpc_deadline", default=None)
#: Metadata that calls from here carry.
metadata_here: ContextVar[Mapping[str, Any] | None] = ContextVar("ztrace_rpc_metadata", default=None)
#: Seconds after which a call from here asks a second server.
hedge_after: ContextVar[float | None] = ContextVar("ztrace_rpc_hedge", default=None)

_NONE: Final[Mapping[str, Any]] = {}


def current_call() -> CurrentCall | None:
    """Return the call that this code serves, None outside of a served method."""
    served = serving.get()
    return None if served is None else describe(served)


def describe(served: Served) -> CurrentCall:
    """Return a call as its handler and hooks see it."""
    return CurrentCall(served.name, served.prefix[0], served.service, metadata_of(served), served)


def cancelled() -> bool:
    """Return whether the caller of the served method no longer waits: cancelled, gone, or out of time.

    A method in the pool cannot be interrupted; one that runs long asks this from time to time.
    """
    call = serving.get()
    if call is None:
        return False
    return bool(call.reason) or (call.deadline_s is not None and time.monotonic() >= call.deadline_s)


@contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """Limit the time of all calls within the block, and of the calls that their methods make.

    Args:
        timeout_s: seconds from now; an outer limit that is nearer stays in force.
    """
    token = deadline_at.set(nearest(time.monotonic() + timeout_s))
    try:
        yield
    finally:
        deadline_at.reset(token)


@contextmanager
def metadata(**values: Any) -> Iterator[None]:
    """Send metadata with all calls within the block: ``rpc.current_call().metadata`` at the server."""
    token = metadata_here.set({**(metadata_here.get() or {}), **values})
    try:
        yield
    finally:
        metadata_here.reset(token)


@contextmanager
def hedge(after_s: float) -> Iterator[None]:
    """Have calls within the block ask a second server if the first does not answer in time.

    The first answer counts, and the other call is cancelled. Only for methods that may run twice.

    Args:
        after_s: seconds after which the second server is asked.
    """
    token = hedge_after.set(after_s)
    try:
        yield
    finally:
        hedge_after.reset(token)


def nearest(deadline_s: float | None) -> float | None:
    """Return the nearer of a deadline and the one in force here."""
    inherited = deadline_at.get()
    if inherited is not None and (deadline_s is None or inherited < deadline_s):
        deadline_s = inherited
    served = serving.get()
    if served is not None and (inherited := served.deadline_s) is not None:
        return inherited if deadline_s is None else min(deadline_s, inherited)
    return deadline_s


def check_deadline(name: str, deadline_s: float | None, now_s: float) -> None:
    """Raise if a call would start after its deadline.

    Raises:
        DeadlineExceeded: the deadline has passed.
    """
    if deadline_s is not None and now_s >= deadline_s:
        raise DeadlineExceeded(f"{name}: the deadline has passed")


def metadata_of(call: Served) -> Mapping[str, Any]:
    """Return the metadata that a client sent with a call."""
    meta = call.own.get("meta") if call.own else None
    return meta if type(meta) is dict else _NONE
