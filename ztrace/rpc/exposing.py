"""Methods of a service: which parts of a module, class, object or mapping are served.

A module exposes the functions that it or one of its own submodules defines, C functions too, or those that
its ``__all__`` names; nothing that it imports from elsewhere. A class is instantiated without arguments, an
object exposes its public methods, and a mapping the callables that it names. Names with an underscore at
their start are never exposed.
"""

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, TypeVar

from ztrace.errors import SettingsError, quote

#: Modules with which a caller could run anything.
DANGEROUS: Final = frozenset(
    {
        *("_ctypes", "_pickle", "_posixsubprocess", "asyncio", "bdb", "builtins", "cProfile", "cffi"),
        *("cloudpickle", "code", "codecs", "codeop", "ctypes", "dill", "doctest", "ensurepip", "gc"),
        *("importlib", "inspect", "io", "linecache", "logging", "marshal", "multiprocessing", "nt", "os"),
        *("pathlib", "pdb", "pickle", "pip", "pkgutil", "posix", "profile", "pty", "runpy", "shelve"),
        *("shutil", "signal", "site", "socket", "subprocess", "sys", "tempfile", "timeit", "trace", "venv"),
        *("webbrowser", "zipimport"),
    }
)
#: Attribute of a function that runs in the event loop rather than in the pool.
_INLINE: Final = "__ztrace_rpc_inline__"

Function = TypeVar("Function", bound=Callable[..., Any])


class Method:
    """Callable that a service exposes under a name.

    Attributes:
        name: by which it is called.
        function: to call.
        is_async: the function is known to return an awaitable or an async generator.
        is_inline: the function runs in the event loop.
    """

    __slots__ = ("function", "is_async", "is_inline", "name")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        plain = inspect.unwrap(getattr(function, "__func__", function))
        self.is_async = inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)
        self.is_inline = bool(getattr(plain, _INLINE, False))


def inline(function: Function) -> Function:
    """Mark a function that never blocks: a server calls it in its event loop, without the pool.

    A call costs less, and a function that blocks anyway stops the whole server meanwhile.
    """
    setattr(function, _INLINE, True)
    return function


def expose(thing: object, *, unsafe: bool = False) -> dict[str, Method]:
    """Return the methods of a service, by name.

    Args:
        thing: a module, class, object or mapping of names to callables.
        unsafe: serve modules too with which a caller can run anything.

    Raises:
        SettingsError: the module is dangerous, the class needs arguments, or there is nothing to expose.
    """
    if isinstance(thing, ModuleType):
        found = _of_module(thing, unsafe)
    elif isinstance(thing, Mapping):
        found = _of_mapping(thing)
    else:
        if isinstance(thing, type):
            thing = _instantiate(thing)
        found = {name: getattr(thing, name) for name in _public_names(thing)}
    methods = {name: Method(name, function) for name, function in found.items()}
    if not methods:
        raise SettingsError(
            f"{name_of(thing)} has nothing to serve", hint="give it functions without an underscore"
        )
    return methods


def name_of(thing: object) -> str:
    """Return the name of a service, as zerorpc names it: of the module, the class, or the object's class."""
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def _of_module(module: ModuleType, unsafe: bool) -> dict[str, Callable[..., Any]]:
    name = module.__name__
    if not unsafe and (name in DANGEROUS or name.partition(".")[0] in DANGEROUS):
        raise SettingsError(
            f"{quote(name)} lets a caller run anything",
            hint="serve a module of your own, or allow it as unsafe",
        )
    listed = getattr(module, "__all__", None)
    if listed is not None:
        names = [each for each in listed if isinstance(each, str) and hasattr(module, each)]
    else:
        names = [each for each, value in vars(module).items() if _is_defined_in(value, name)]
    return {
        each: value
        for each in names
        if not each.startswith("_")
        and callable(value := getattr(module, each))
        and not isinstance(value, type)
    }


def _is_defined_in(value: object, module: str) -> bool:
    origin = getattr(value, "__module__", None)
    return isinstance(origin, str) and (origin == module or origin.startswith(f"{module}."))


def _of_mapping(mapping: Mapping[Any, Any]) -> dict[str, Callable[..., Any]]:
    for name, value in mapping.items():
        if not isinstance(name, str) or name.startswith("_"):
            raise SettingsError(
                f"{quote(name)} cannot be the name of a method", hint="text without an underscore"
            )
        if not callable(value):
            raise SettingsError(f"{quote(name)} is not callable", hint="a mapping has names and callables")
    return dict(mapping)


def _instantiate(cls: type) -> object:
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        raise SettingsError(f"{cls.__name__}: {error}", hint="serve an object of the class") from None
    except ValueError:
        pass  # A class of C tells no signature.
    return cls()


def _public_names(thing: object) -> list[str]:
    """Return the names of an object's methods, without running its properties."""
    names = []
    for name in dir(thing):
        if name.startswith("_"):
            continue
        found = inspect.getattr_static(thing, name, None)
        if isinstance(found, (staticmethod, classmethod)) or (
            callable(found) and not isinstance(found, (type, property))
        ):
            names.append(name)
    return names
