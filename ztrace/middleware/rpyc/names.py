"""Names of rpyc's calls, the same at both ends where both can tell.

The caller has a netref, of which only the request before tells the name: it is remembered by the netref's
``id_pack``. The callee has the object. Neither asks an object for anything: on a netref that would be a call.
"""

from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from rpyc.core import consts
from rpyc.core.netref import BaseNetref

#: Prefix of the names of a service's methods.
_EXPOSED = "exposed_"
#: Key of the names of attributes in a connection's ``__dict__``, by ``id_pack``, and how many are kept.
_NAMES, _MAX_NAMES = "_ztrace_names", 10_000
_NO_NAMES: dict[Any, str | None] = {}
#: Name of a call whose callee is another connection's netref.
_RELAYED = "call"

_CALLS = frozenset((consts.HANDLE_CALL, consts.HANDLE_CALLATTR))


def remember_name(connection: Any, result: object, name: Any) -> None:
    """Remember the name of an attribute that a request has returned."""
    if issubclass(type(result), BaseNetref):
        names = connection.__dict__.setdefault(_NAMES, {})
        if len(names) >= _MAX_NAMES:
            names.clear()
        names[_pack_of(result)] = _clean(name)


def name_called(connection: Any, handler: int, args: tuple[Any, ...]) -> str | None:
    """Return the name of a call to send, None for any other request."""
    if handler == consts.HANDLE_CALLATTR:
        return _clean(args[1])
    if handler == consts.HANDLE_CALL and issubclass(type(args[0]), BaseNetref):
        pack = _pack_of(args[0])
        names: dict[Any, str | None] = connection.__dict__.get(_NAMES, _NO_NAMES)
        return names[pack] if pack in names else _clean(pack[0].rpartition(".")[2])
    return None


def name_served(connection: Any, raw_args: Any) -> str | None:
    """Return the name of a call that has come, None for any other request."""
    handler, (label, items) = raw_args
    if handler not in _CALLS or label != consts.LABEL_TUPLE:
        return None
    if handler == consts.HANDLE_CALLATTR:
        return _clean(items[1][1])
    label, pack = items[0]
    return _clean(_name_of(connection._local_objects[pack])) if label == consts.LABEL_LOCAL_REF else None


def _pack_of(netref: Any) -> tuple[str, int, int]:
    return object.__getattribute__(netref, "____id_pack__")  # type: ignore[no-any-return]


def _name_of(function: Any) -> str:
    kind = type(function)
    if kind is MethodType:
        function, kind = function.__func__, type(function.__func__)
    elif issubclass(kind, BaseNetref):
        return _RELAYED
    if kind is FunctionType or kind is BuiltinFunctionType or issubclass(kind, type):
        return str(function.__name__)
    return kind.__name__


def _clean(name: Any) -> str | None:
    """Return a name without rpyc's prefix, None if it is a special method's."""
    if type(name) is not str:
        if isinstance(name, bytes):
            name = name.decode("utf-8", "replace")
        elif not isinstance(name, str):
            return None
    return None if name[:2] == "__" else name.removeprefix(_EXPOSED)
