"""Local variables of a frame, as short texts.

One idea: none of the program's code runs. Values of builtin types are written here; any other value is
represented by the name of its class.
"""

import sys
from collections.abc import Iterable
from itertools import islice
from types import FrameType
from typing import Any

#: Names kept of one frame, arguments first; more would call for a debugger.
MAX_NAMES = 20
#: Characters of one value: with its name it fits a line of a terminal.
MAX_VALUE = 100
#: Characters of a name, which generated code may make arbitrarily long.
_MAX_NAME = 100
#: Items shown of a container, and levels of nested containers, which together bound the work.
_MAX_ITEMS, _MAX_DEPTH = 8, 3
#: Bits of the largest integer written in digits, which takes quadratic time.
_MAX_BITS = 512


def read_locals(frame: FrameType) -> dict[str, str]:
    """Return a frame's names and values as texts, without dunder names and those of the compiler."""
    found = frame.f_locals
    if type(found) not in _NAMESPACES:
        return {}  # A mapping that was given to `exec` or to a class body, which runs the program's code.
    shown: dict[str, str] = {}
    # Not by `dict`, which crashes Python 3.13.0 where a comprehension's names are hidden.
    for name in list(found):
        if type(name) is str and name.isidentifier() and name[:2] != "__":
            value = found.get(name, _GONE)
            if value is not _GONE:  # By another thread, from the names of a module.
                shown[name[:_MAX_NAME]] = describe(value)
                if len(shown) == MAX_NAMES:
                    break
    return shown


#: Value of a name that has gone while the names were read.
_GONE = object()
#: Types of the namespaces that the interpreter makes: from Python 3.13 on a function's is no dict.
_NAMESPACES = (dict, type((lambda: sys._getframe().f_locals)()))


def describe(value: object) -> str:
    """Return a value as text of at most `MAX_VALUE` characters, with an ellipsis where it is truncated."""
    text = _write(value, 0)
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 1] + "…"


def name_class(cls: type) -> str:
    """Return a class's qualified name with its module, bare for builtins."""
    name = str.__str__(_qualname_of(cls))  # A program may have put a subclass of str in its place.
    try:
        module = _module_of(cls)
    except AttributeError:
        return name
    return name if type(module) is not str or module == "builtins" else f"{module}.{name}"


#: Return the classes that a class derives from, itself first. This and those below are `type`'s own
#: descriptors: a metaclass may have others in their place.
bases_of = type.__dict__["__mro__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_module_of = type.__dict__["__module__"].__get__


def _write(value: Any, depth: int) -> str:
    kind = type(value)
    if value is None or kind is bool or kind is float or kind is complex:
        return repr(value)
    if kind is int:
        bits = value.bit_length()
        return repr(value) if bits <= _MAX_BITS else f"<int of {bits} bits>"
    if kind is str or kind is bytes or kind is bytearray:
        return repr(value[: MAX_VALUE + 1])
    if kind in _BRACKETS:
        begin, end = _BRACKETS[kind]
        if depth == _MAX_DEPTH:
            return f"{begin}…{end}"
        try:
            return f"{begin}{_write_items(kind, value, depth + 1)}{end}"
        except RuntimeError:  # Changed by another thread.
            pass
    return f"<{name_class(kind)}>"


_BRACKETS: dict[type, tuple[str, str]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    dict: ("{", "}"),
    set: ("{", "}"),
    frozenset: ("{", "}"),
}


def _write_items(kind: type, value: Any, depth: int) -> str:
    items: Iterable[Any] = value.items() if kind is dict else value
    parts = []
    for item in islice(items, _MAX_ITEMS):
        if kind is dict:
            parts.append(f"{_write(item[0], depth)}: {_write(item[1], depth)}")
        else:
            parts.append(_write(item, depth))
    if len(value) > _MAX_ITEMS:
        parts.append("…")
    return ", ".join(parts) + ("," if kind is tuple and len(value) == 1 else "")
