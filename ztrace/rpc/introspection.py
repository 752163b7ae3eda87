"""Descriptions of a service: the answers of zerorpc's built-in methods, and ztrace's own with more in them.

_zerorpc_list, _zerorpc_name, _zerorpc_ping, _zerorpc_help, _zerorpc_args, _zerorpc_inspect
_zt_inspect     {"name", "version", "methods": {name: {"doc", "kind", "signature", "parameters", "returns"}}}
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from ztrace.rpc import wire
from ztrace.rpc.exposing import Method

#: Characters of a default value and of an annotation that are told.
_MAX_TEXT: Final = 200


def make_builtins(name: str, methods: Mapping[str, Method]) -> dict[str, Method]:
    """Return the built-in methods of a service with this name and these methods."""
    builtins: dict[str, Callable[..., Any]] = {
        "_zerorpc_list": lambda: list(methods),
        "_zerorpc_name": lambda: name,
        "_zerorpc_ping": lambda: ["pong", name],
        "_zerorpc_help": lambda method: tell_doc(methods[method].function),
        "_zerorpc_args": lambda method: _args_of(methods[method].function),
        "_zerorpc_inspect": lambda: {
            "name": name,
            "methods": {
                each: {"args": _named_args(method.function), "doc": tell_doc(method.function)}
                for each, method in methods.items()
            },
        },
        "_zt_inspect": lambda: {
            "name": name,
            "version": wire.VERSION,
            "methods": {each: describe(method) for each, method in methods.items()},
        },
    }
    made = {each: Method(each, function) for each, function in builtins.items()}
    for method in made.values():
        method.is_inline = True
    return made


def describe(method: Method) -> dict[str, Any]:
    """Return all that is known of a method."""
    signature = signature_of(method.function)
    return {
        "doc": tell_doc(method.function),
        "kind": "stream" if _is_stream(method.function) else "call",
        "signature": None if signature is None else _as_text(signature),
        "parameters": None
        if signature is None
        else [_describe(each) for each in signature.parameters.values()],
        "returns": None if signature is None else _annotation(signature.return_annotation),
    }


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a callable, None if it tells none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def tell_doc(function: Callable[..., Any]) -> str | None:
    """Return the docstring without its indentation."""
    doc = getattr(function, "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) else None


def explain_unknown(name: str, methods: Mapping[str, Method]) -> str:
    """Return the message for an unknown method, with the nearest name."""
    nearest = difflib.get_close_matches(name[:80], methods, 1)
    return f"{name[:80]}; did you mean {nearest[0]}?" if nearest else name[:80]


def explain_arguments(method: Method, args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """Return why arguments do not fit a method, with its signature; None if they do or it is unknown."""
    signature = signature_of(method.function)
    if signature is None:
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return f"{method.name}{_as_text(signature)}: {error}"
    return None


def _args_of(function: Callable[..., Any]) -> list[Any] | None:
    """Return names, varargs, keywords and defaults, as zerorpc does by the former ``inspect.getargspec``."""
    signature = signature_of(function)
    if signature is None:
        return None
    kinds: dict[Any, list[str]] = {}
    defaults = []
    for each in signature.parameters.values():
        kinds.setdefault(each.kind, []).append(each.name)
        if each.default is not each.empty and each.kind in _POSITIONAL:
            defaults.append(_default(each.default))
    names = [name for kind in _POSITIONAL for name in kinds.get(kind, ())]
    varargs = kinds.get(inspect.Parameter.VAR_POSITIONAL, [None])[0]
    keywords = kinds.get(inspect.Parameter.VAR_KEYWORD, [None])[0]
    return [names, varargs, keywords, defaults or None]


def _named_args(function: Callable[..., Any]) -> list[dict[str, Any]] | None:
    spec = _args_of(function)
    if spec is None:
        return None
    names, defaults = spec[0], spec[3] or []
    args = [{"name": name} for name in names]
    for each, default in zip(reversed(args), reversed(defaults), strict=False):
        each["default"] = default
    return args


def _describe(parameter: inspect.Parameter) -> dict[str, Any]:
    described: dict[str, Any] = {"name": parameter.name, "kind": parameter.kind.name.lower()}
    if parameter.default is not parameter.empty:
        described["default"] = _default(parameter.default)
    described["annotation"] = _annotation(parameter.annotation)
    return described


def _default(value: object) -> Any:
    """Return a default value, or its representation if it cannot be sent."""
    if value is None or isinstance(value, (bool, int, float, str)):
        try:
            wire.make_packer()(value)
            return value
        except Exception:
            pass
    return _cut(repr, value)


def _annotation(annotation: object) -> str | None:
    return None if annotation is inspect.Parameter.empty else _cut(inspect.formatannotation, annotation)


def _as_text(signature: inspect.Signature) -> str:
    return _cut(str, signature)


def _cut(write: Callable[[Any], str], value: object) -> str:
    try:
        return write(value)[:_MAX_TEXT].encode("utf-8", "replace").decode()
    except Exception:
        return f"<{type(value).__name__}>"


def _is_stream(function: Callable[..., Any]) -> bool:
    plain = inspect.unwrap(getattr(function, "__func__", function))
    return inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain)


_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
