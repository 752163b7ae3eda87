"""Exceptions as a server sends them and as a client raises them.

zerorpc's ERR has three texts: class, message and traceback. Beside them ztrace sends the qualified class,
the arguments, notes and causes. Nothing is imported by name: a client raises `RemoteError`, or one of the
classes that the program has allowed.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from ztrace.rpc import wire
from ztrace.rpc.errors import DeadlineExceeded, ProtocolError, RemoteError, RpcError

#: Most causes, notes and arguments of an exception that are sent and read.
MAX_PARTS: Final = 10
#: Characters of a message, a note and an argument that are sent.
MAX_TEXT: Final = 10_000
#: Characters of a traceback that are sent, half of them from its beginning.
MAX_TRACEBACK: Final = 200_000
#: Folder of this package: frames of the server before the method's own are left out of tracebacks.
_OWN_FILES: Final = __file__.rpartition("/")[0]

#: Reasons for which a server refuses a call without running its method.
CLOSING: Final = "closing"
BUSY: Final = "busy"
LATE: Final = "late"
INVALID: Final = "invalid"


@dataclass(frozen=True, slots=True)
class Failure:
    """Exception in the form of the wire.

    Attributes:
        name: class without its module, as zerorpc sends it.
        text: message.
        traceback: as Python prints it, from the served method on.
        details: map that goes under ``error`` in ztrace's part of the header.
    """

    name: str
    text: str
    traceback: str
    details: dict[str, Any] = field(default_factory=dict)

    def format(self, version: int) -> tuple[str, ...]:
        """Return the arguments of ERR for a peer of this protocol version."""
        if version < 2:
            return (f"{self.name}({self.text!a})",)
        return (self.name, self.text, self.traceback)


def describe(exception: BaseException) -> Failure:
    """Return an exception in the form of the wire."""
    details = _describe(exception)
    if causes := [_describe(each) | {"text": _text_of(each)} for each in _causes(exception)]:
        details["causes"] = causes
    return Failure(type(exception).__name__, _text_of(exception), _print(exception), details)


def refuse(reason: str, error: Exception) -> Failure:
    """Return the failure of a call whose method does not run, with the reason for the client."""
    name = type(error).__name__
    return Failure(name, str(error), f"{name}: {error}\n", {"refused": reason})


def rebuild(args: object, details: object, allowed: Mapping[str, type[BaseException]]) -> BaseException:
    """Return the exception to raise for an ERR.

    Args:
        args: of the event.
        details: what the server sent under ``error``; None from other servers.
        allowed: classes to raise instead of `RemoteError`, by their names with and without module.
    """
    texts = [each if isinstance(each, str) else ascii(each) for each in args] if type(args) is list else []
    if not texts:
        return ProtocolError("the server's ERR has no arguments")
    name, text, remote = texts[:3] if len(texts) >= 3 else ("RemoteError", texts[0], "")
    known: dict[str, Any] = details if type(details) is dict else {}
    if local := _refusal(known.get("refused"), text):
        return local
    error = _remote_error(known, name, text, remote)
    previous: BaseException = error
    causes = known.get("causes")
    for cause in causes[:MAX_PARTS] if type(causes) is list else ():
        if type(cause) is dict:
            previous.__cause__ = _remote_error(cause, "Exception", str(cause.get("text", "")), "")
            previous = previous.__cause__
    cls = allowed.get(error.type) or allowed.get(name)
    return error if cls is None else _as_class(cls, error)


def name_classes(classes: Iterable[type[BaseException]]) -> dict[str, type[BaseException]]:
    """Return allowed classes by qualified name, and by the bare name that zerorpc sends."""
    named: dict[str, type[BaseException]] = {}
    for cls in classes:
        named[cls.__name__] = named[qualify(cls)] = cls
    return named


def qualify(cls: type) -> str:
    """Return a class's name with its module, which is left out for built-in ones."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _refusal(reason: Any, text: str) -> RpcError | None:
    if reason == LATE:
        return DeadlineExceeded(text)
    if reason == INVALID:
        return ProtocolError(text)
    if reason in (CLOSING, BUSY):
        return Refused(text, reason)
    return None


class Refused(RpcError, ConnectionError):
    """Call that a server refused before its method ran, so that another server may take it.

    Attributes:
        reason: `CLOSING` or `BUSY`.
    """

    def __init__(self, text: str, reason: str = BUSY) -> None:
        super().__init__(text)
        self.reason = reason


def _remote_error(details: Mapping[str, Any], name: str, text: str, remote: str) -> RemoteError:
    kind, arguments, notes = details.get("type"), details.get("args"), details.get("notes")
    return RemoteError(
        kind if type(kind) is str else name,
        text,
        remote,
        arguments=arguments if type(arguments) is list else (),
        notes=[note for note in notes[:MAX_PARTS] if type(note) is str] if type(notes) is list else (),
    )


def _as_class(cls: type[BaseException], error: RemoteError) -> BaseException:
    try:
        raised = cls(*error.arguments) if error.arguments else cls(error.text)
    except Exception:
        return error
    for note in getattr(error, "__notes__", ()):
        raised.add_note(note)
    raised.__cause__ = error.__cause__
    return raised


def _describe(exception: BaseException) -> dict[str, Any]:
    details: dict[str, Any] = {"type": qualify(type(exception)), "args": _sendable(exception.args)}
    notes = getattr(exception, "__notes__", None)
    if isinstance(notes, list) and notes:
        details["notes"] = [str(note)[:MAX_TEXT] for note in notes[:MAX_PARTS]]
    return details


def _sendable(arguments: Iterable[Any]) -> list[Any]:
    """Return arguments of an exception; a text takes the place of one that cannot be sent."""
    sent: list[Any] = []
    for each in list(arguments)[:MAX_PARTS]:
        try:
            fits = len(wire.make_packer()(each)) <= MAX_TEXT
        except Exception:
            fits = False
        sent.append(each if fits else ascii_of(each))
    return sent


def ascii_of(value: object) -> str:
    """Return the beginning of a value's representation, whatever its methods raise."""
    try:
        return ascii(value)[:MAX_TEXT]
    except Exception:
        return f"<{type(value).__name__}>"


def _causes(exception: BaseException) -> list[BaseException]:
    """Return the chain of causes and contexts that Python would print, nearest first."""
    found: list[BaseException] = []
    current: BaseException | None = exception
    while current is not None and len(found) < MAX_PARTS:
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if current is None or current is exception or current in found:
            break
        found.append(current)
    return found


def _text_of(exception: BaseException) -> str:
    try:
        return _clean(str(exception)[:MAX_TEXT])
    except Exception:
        return f"<{type(exception).__name__} without a message>"


def _print(exception: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(exception), exception, _skip_own(exception.__traceback__))
        text = "".join(lines)
    except Exception:
        return ""
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return _clean(text)


def _skip_own(frames: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame outside this package."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    return frames


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
