"""Hooks of clients: functions around each call, which may change the call or refuse it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ztrace.rpc import calls

Hook = Callable[..., object]


@dataclass(slots=True)
class OutgoingCall:
    """Call of a client before it is sent; `before_call` may change each part.

    Attributes:
        name: of the method.
        args: positional arguments.
        kwargs: keyword arguments.
        metadata: for the server's `CurrentCall`.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    metadata: dict[str, Any]


class Hooks:
    """Hooks of a client.

    Args:
        before_call: called with the `OutgoingCall`; an exception refuses the call.
        after_call: called with the `OutgoingCall` and its exception or None.
    """

    def __init__(self, before_call: Hook | None, after_call: Hook | None) -> None:
        self._before_call, self._after_call = before_call, after_call

    @contextmanager
    def around(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[OutgoingCall]:
        """Run the hooks around a block that makes the call."""
        metadata = dict(calls.metadata_here.get() or {})
        outgoing = OutgoingCall(name, list(args), dict(kwargs), metadata)
        try:
            if self._before_call is not None:
                self._before_call(outgoing)
            token = calls.metadata_here.set(outgoing.metadata or None)
            try:
                yield outgoing
            finally:
                calls.metadata_here.reset(token)
        except BaseException as error:
            if self._after_call is not None:
                self._after_call(outgoing, error)
            raise
        if self._after_call is not None:
            self._after_call(outgoing, None)


def make_hooks(before_call: Hook | None, after_call: Hook | None) -> Hooks | None:
    """Return the hooks of a client, None where there are none, so that calls need not ask."""
    return None if before_call is None and after_call is None else Hooks(before_call, after_call)
