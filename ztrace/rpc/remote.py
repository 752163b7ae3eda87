"""Remote methods: the public attributes of a client."""

from collections.abc import Callable
from typing import Any

from ztrace.rpc.interfaces import Interface


class Remote:
    """Method of a client's servers, to be called.

    Attributes:
        client: whose attribute the method is.
        name: of the method.
    """

    __slots__ = ("_call", "_interface", "client", "name")

    def __init__(
        self, client: object, name: str, call: Callable[..., Any], interface: Interface | None = None
    ) -> None:
        self.client = client
        self.name = name
        self._call = call
        self._interface = interface

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method as the client does: for an answer, or something to await or iterate."""
        if self._interface is not None:
            bound, named = self._interface.bind(self.name, args, kwargs)
            return self._call(self.name, *bound, **named)
        return self._call(self.name, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<remote method {self.name}>"
