"""Messages and notes of exceptions, as short texts.

One idea: the text of an exception is made once, and no more of it than is recorded. Most classes leave
``__str__`` to BaseException, whose text is written here from the arguments, up to the limit. Only classes
with a ``__str__`` of their own, and arguments of other than builtin types, run the program's code.
"""

import builtins
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import WrapperDescriptorType
from typing import Any

from ztrace.exceptions.locals import bases_of, name_class
from ztrace.exceptions.locals import describe as describe_value
from ztrace.exceptions.marks import Entry, dictionary_of, remember
from ztrace.exceptions.program import call_program

#: Characters kept of a message, and of a note.
MAX_MESSAGE, MAX_NOTE = 4096, 1024
#: Notes kept of an exception.
MAX_NOTES = 16
#: Levels of nested containers written in a message.
_MAX_DEPTH = 20
#: Characters kept of the name of a remote type.
_MAX_TYPE = 256

#: Message of an exception whose ``__str__`` raises or is still running.
_FAILED = "<no message: __str__ failed>"

#: Bits of the largest integer written in digits; Python itself rejects more than 4,300 digits.
_MAX_BITS = 14_000
#: Types whose values hold no object of the program's.
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, bytearray))
_BRACKETS: dict[type, Sequence[str]] = {
    list: "[]",
    tuple: "()",
    dict: "{}",
    set: "{}",
    frozenset: ("frozenset({", "})"),
}
_WITHOUT_LITERAL = frozenset((set, frozenset))

_arguments_of = BaseException.__dict__["args"].__get__
_namespace_of = type.__dict__["__dict__"].__get__
_str_of_base, _str_of_key_error = BaseException.__dict__["__str__"], KeyError.__dict__["__str__"]
#: Addresses of the builtin classes that leave ``__str__`` to BaseException; these classes are never freed.
_WITHOUT_STR = frozenset(
    id(cls)
    for cls in vars(builtins).values()
    if type(cls) is type and issubclass(cls, BaseException) and cls.__module__ == "builtins"
    if cls.__str__ is _str_of_base
)


def describe(exception: BaseException, message: str, name: str | None = None) -> None:
    """Record a message for an exception instead of its ``str``, which stays as it is for the program.

    Args:
        exception: of any class.
        message: to record.
        name: to record instead of that of a class which a library has made for the exception.
    """
    entry = remember(exception)
    entry.described, entry.named = message, name


def describe_remote(exception: BaseException, name: object, message: object) -> None:
    """Record an exception at its origin under the type and message of an untraced process's exception.

    The spans that it passes have its own type and message.
    """
    # Other protocols have texts in the place of names.
    if type(name) is str and type(message) is str and name[:_MAX_TYPE].replace(".", "_").isidentifier():
        remember(exception).remote = (name[:_MAX_TYPE], _cut(message, MAX_MESSAGE))


def message_of(exception: BaseException, entry: Entry | None = None) -> str:
    """Return ``str(exception)``, truncated; a placeholder if ``__str__`` raises.

    The text is made once, by the first call.

    Args:
        exception: of any class.
        entry: memory of the exception, if at hand.

    Raises:
        BaseException: an exception that arrived from outside while ``__str__`` ran.
    """
    if entry is None:
        entry = remember(exception)
    if entry.described is not None:
        return _cut(entry.described, MAX_MESSAGE)
    if entry.message is None:
        entry.message, entry.asked = _FAILED, True
        try:
            entry.message = _text_of(exception)
        finally:
            entry.asked = False
    return entry.message


def notes_of(exception: BaseException) -> list[str]:
    """Return the notes of an exception as texts, whatever the program has put in their place."""
    notes = dict.get(dictionary_of(exception), "__notes__")
    if notes is None:
        return []
    if type(notes) is not list and type(notes) is not tuple:
        notes = [notes]
    return [
        _cut(note, MAX_NOTE) if issubclass(type(note), str) else describe_value(note)
        for note in notes[:MAX_NOTES]
    ]


def _text_of(exception: BaseException) -> str:
    method, arguments = _find_str(type(exception)), _arguments_of(exception)
    single = len(arguments) == 1
    if method is _str_of_key_error and single:
        return _collect(arguments[0])
    if method is _str_of_base or method is _str_of_key_error:
        if single:
            return _text_of_argument(arguments[0])
        return _collect(arguments) if arguments else ""
    if single and type(arguments[0]) in _BRACKETS and _is_builtin(method):
        return _collect(arguments[0])
    return _ask(str, exception, _FAILED)


def _text_of_argument(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _cut(value, MAX_MESSAGE)
    if kind in _PLAIN:
        return _cut(_write_plain(value), MAX_MESSAGE)
    if kind in _BRACKETS:
        return _collect(value)
    return _ask(str, value, _FAILED)


def _find_str(cls: type) -> object:
    """Return the ``__str__`` of a class, without calling its metaclass."""
    if id(cls) in _WITHOUT_STR:
        return _str_of_base
    for base in bases_of(cls):
        namespace = _namespace_of(base)
        if "__str__" in namespace:
            return namespace["__str__"]
    return None


def _is_builtin(method: object) -> bool:
    return type(method) is WrapperDescriptorType and method.__objclass__.__module__ == "builtins"


def _ask(function: Callable[[Any], str], value: Any, otherwise: str) -> str:
    """Return the text that the program's code makes, truncated."""
    text = call_program(function, value, otherwise)
    return _cut(text, MAX_MESSAGE)


def _collect(value: Any) -> str:
    """Return ``repr(value)``, truncated, without making the rest."""
    parts, length = [], 0
    for part in _write(value, ()):
        parts.append(part)
        length += len(part)
        if length > MAX_MESSAGE:
            break
    return _cut("".join(parts), MAX_MESSAGE)


def _write(value: Any, path: tuple[int, ...]) -> Iterator[str]:
    """Yield the parts of ``repr(value)``."""
    kind = type(value)
    if kind in _BRACKETS:
        yield from _write_container(value, path)
    elif kind in _PLAIN:
        yield _write_plain(value)
    else:
        yield _ask(repr, value, f"<{name_class(kind)}>")


def _write_plain(value: Any) -> str:
    kind = type(value)
    if kind is str or kind is bytes or kind is bytearray:
        return repr(value[: MAX_MESSAGE + 1])
    if kind is int and value.bit_length() > _MAX_BITS:
        return f"<int of {value.bit_length()} bits>"
    return repr(value)


def _write_container(value: Any, path: tuple[int, ...]) -> Iterator[str]:
    kind = type(value)
    begin, end = _BRACKETS[kind]
    if not value and kind in _WITHOUT_LITERAL:
        yield f"{kind.__name__}()"
        return
    yield begin
    if id(value) in path or len(path) == _MAX_DEPTH:
        yield "..."
    else:
        path = (*path, id(value))
        # A copy, because other threads may change the original.
        for place, item in enumerate(list(islice(value.items() if kind is dict else value, MAX_MESSAGE))):
            if place:
                yield ", "
            if kind is dict:
                yield from _write(item[0], path)
                yield ": "
                item = item[1]
            yield from _write(item, path)
        if kind is tuple and len(value) == 1:
            yield ","
    yield end


def _cut(text: str, length: int) -> str:
    """Return the beginning of a text of any str class, with an ellipsis if it is truncated."""
    kept = str.__getitem__(text, slice(length))
    return kept if str.__len__(text) <= length else kept + "…"
