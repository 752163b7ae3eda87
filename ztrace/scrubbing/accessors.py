"""Functions that get or set a value by its name: ``getenv``, ``setdefault``, ``add_argument``."""

import re

#: Words of their names.
_WORDS = frozenset(
    word
    for words in (
        ("get", "getenv", "getattr", "getdefault", "pop", "read", "lookup", "fetch", "default", "secret"),
        (
            "set",
            "setattr",
            "setdefault",
            "setenv",
            "setitem",
            "putenv",
            "put",
            "assign",
            "option",
            "argument",
        ),
        ("env", "environ", "config", "setting", "settings", "header", "headers", "param", "parameter"),
    )
    for word in words
)
#: Owners of which every method is one.
OWNERS = frozenset(["env", "environ", "config", "settings", "secrets"])
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def is_accessor(function: str) -> bool:
    """Return whether a function gets or sets a value by its name."""
    return any(word.lower() in _WORDS for word in _WORD.findall(function))
