"""Words of the command line as arguments, and results as text.

One idea: a word that is JSON is its value, and any other is a text, so numbers, lists and texts need no
marks; ``'"12"'`` is the text 12.
"""

import base64
import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NoReturn

from ztrace.errors import SettingsError, quote


def read_words(
    words: Sequence[str], keywords: Collection[str], literal: Sequence[str] = ()
) -> tuple[list[object], dict[str, object]]:
    """Return the positional and the keyword arguments that words stand for.

    Args:
        words: each a value, or ``name=value`` where the name is one of the keywords.
        keywords: names of the method's parameters.
        literal: further words, which are values only.

    Raises:
        SettingsError: a keyword is given twice.
    """
    args: list[object] = []
    kwargs: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in keywords:
            args.append(_read_word(word))
        elif name in kwargs:
            raise SettingsError(f"{quote(name)} is given twice", hint="give it once")
        else:
            kwargs[name] = _read_word(value)
    return args + [_read_word(word) for word in literal], kwargs


def read_arguments(text: str) -> tuple[list[object], dict[str, object]]:
    """Return the arguments in a JSON text: an array of positional or an object of keyword arguments.

    Raises:
        SettingsError: the text is neither.
    """
    try:
        value = _decode(text)
    except ValueError as error:
        raise SettingsError(f"--args is not JSON: {error}", hint="""write '[1, "two"]'""") from error
    if isinstance(value, list):
        return value, {}
    if isinstance(value, dict):
        return [], value
    raise SettingsError("--args is neither an array nor an object", hint="""write '[1, "two"]'""")


def write_result(value: object, *, pretty: bool = False, as_json: bool = False) -> str:
    """Return a result as text: a text as it is, anything else as JSON.

    Args:
        value: from a peer.
        pretty: indent JSON.
        as_json: write a text as JSON too.
    """
    if isinstance(value, str) and not as_json:
        return value
    try:
        return json.dumps(_plain(value), ensure_ascii=False, indent=2 if pretty else None)
    except RecursionError:
        return repr(value)


def _read_word(word: str) -> object:
    try:
        return _decode(word)
    except ValueError:
        return word


def _decode(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _plain(value: object) -> object:
    """Return a value of msgpack as one that JSON has; bytes are base64."""
    if isinstance(value, dict):
        return {each if isinstance(each, str) else write_result(each): _plain(value[each]) for each in value}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool)) or value is None else repr(value)
