"""Interface of a service as a class: the methods that a client has, and the order of their arguments.

The class is only read, never instantiated: that of the service itself, or a Protocol with the signatures
alone. Editors complete its methods, type checkers check calls, and keyword arguments become positional ones,
which any server understands.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ztrace.errors import SettingsError, quote


class Interface:
    """Methods of a class by name, with their signatures without ``self``.

    Args:
        cls: that declares the methods; a callable for type checkers, which take no Protocol for a `type`.

    Raises:
        SettingsError: the argument is no class.
    """

    def __init__(self, cls: Callable[..., object]) -> None:
        if not isinstance(cls, type):
            raise SettingsError(f"{quote(cls)} is no interface", hint="give a class or a Protocol")
        self._name = cls.__name__
        self._signatures: dict[str, inspect.Signature] = {}
        for name, value in inspect.getmembers(cls, callable):
            if not name.startswith("_"):
                signature = inspect.signature(value)
                bound = inspect.ismethod(value) or isinstance(inspect.getattr_static(cls, name), staticmethod)
                parameters = list(signature.parameters.values())
                self._signatures[name] = signature.replace(parameters=parameters if bound else parameters[1:])

    def check(self, name: str) -> None:
        """Check that there is a method of a name.

        Raises:
            AttributeError: there is none, with the nearest name.
        """
        if name not in self._signatures:
            nearest = difflib.get_close_matches(name, self._signatures, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise AttributeError(f"{self._name} has no method {name}{hint}", name=name)

    def bind(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments of a call, with as many of them positional as there is no gap before.

        Raises:
            TypeError: the arguments do not fit the signature.
        """
        signature = self._signatures[name]
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}{signature}: {error}") from None
        return bound.args, bound.kwargs
