"""Journals of the test processes: one JSON line for the start and the end of every call.

One idea: a call carries a token as its first argument, ``s7.0.1`` for the second call of the handler that
serves ``s7.0``. Caller and server journal the call with their own clocks, so the expected tree follows from
the
files alone, independently of ztrace.

Exceptions are numbered within a process, each object once. The end of a call names the exception that left
the
call and the lines of the traceback; an `Event` records where an exception was raised, from which others, or
caught. So the origins and paths of exceptions follow from the files too.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

E = TypeVar("E", bound=BaseException)

#: Programs of the tests are below this folder; only their lines are kept, and none of this file.
_PROGRAMS = str(Path(__file__).parents[2])

#: Key of an exception's number in its own dictionary, since the exception may outlive any table.
_NUMBER = "journal_number"
_numbers = count(1)


class Line(NamedTuple):
    """Program line that an exception passed."""

    file: str
    line: int
    function: str
    code: str


@dataclass(slots=True)
class Entry:
    """One call as seen by one of its ends; ``end_ns`` and ``error`` are None if the call did not end.

    ``traceparent`` and ``tracestate`` are those that a server found in the request's header; ``exception`` is
    the
    number of the object that left the call, and ``lines`` is its path by `traceback.extract_tb`.
    """

    kind: str
    token: str
    name: str
    service: str
    pid: int
    traced: bool
    begin_ns: int
    traceparent: object = None
    tracestate: object = None
    end_ns: int | None = None
    error: str | None = None
    message: str | None = None
    exception: int | None = None
    lines: Sequence[Line] = ()


@dataclass(slots=True)
class Event:
    """Exception raised, or caught and not raised again, in the call with this token.

    Attributes:
        kind: ``raised`` or ``caught``.
        made_from: numbers of the exceptions it was raised from, raised while handling, or contains.
        how: ``wrapped``, ``replaced`` or ``grouped`` if there are any.
        at: the raising line.
    """

    kind: str
    token: str
    service: str
    pid: int
    exception: int
    type: str
    message: str | None
    made_from: Sequence[int] = ()
    how: str = "raised"
    at: Line | None = None


class Journal:
    """Journal file of one process; each line is a single write, so a kill leaves whole lines only."""

    def __init__(self, folder: Path, service: str, *, traced: bool) -> None:
        self._folder = folder
        self._about = {"service": service, "pid": os.getpid(), "traced": traced}
        path = folder / f"{service}-{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @contextmanager
    def entry(self, kind: str, token: str, name: str, **context: object) -> Iterator[None]:
        """Record the start of a call with its context, its end, and the exception that left it."""
        about: dict[str, object] = {"kind": kind, "token": token, "name": name}
        self._write(about | {"begin_ns": time.time_ns()} | context)
        try:
            yield
        except BaseException as error:
            raised = {"error": type_name(error), "message": _message(error)}
            way = {"exception": number_of(error), "lines": lines_of(error)}
            self._write(about | raised | way | {"end_ns": time.time_ns()})
            raise
        self._write(about | {"end_ns": time.time_ns()})

    def raising(self, token: str, error: E, how: str = "raised", *made_from: BaseException) -> E:
        """Record that the caller's line raises an exception, and return the exception for ``raise``."""
        frame = sys._getframe(1)
        at = _line(traceback.extract_stack(frame, limit=1)[0])
        numbers = [number_of(each) for each in made_from]
        self._write_event("raised", token, error, how=how, made_from=numbers, at=at)
        return error

    def caught(self, token: str, error: BaseException) -> None:
        """Record that an exception is not raised again."""
        self._write_event("caught", token, error)

    def read(self, token: str) -> list[Entry]:
        """Return the entries of all processes for the calls below a token."""
        return read_journals(self._folder, token)

    def _write_event(self, event: str, token: str, error: BaseException, **more: object) -> None:
        about = {"event": event, "token": token, "exception": number_of(error)}
        self._write(about | {"type": type_name(error), "message": _message(error)} | more)

    def _write(self, fields: dict[str, object]) -> None:
        os.write(self._file, json.dumps(self._about | fields, default=str).encode() + b"\n")


def type_name(error: BaseException) -> str:
    """Return the class's name with its module, bare for builtins."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str | None:
    try:
        return str(error)
    except Exception:
        return None


def number_of(error: BaseException) -> int:
    """Return an exception's number in this process, assigned on first use; 0 if it cannot be stored."""
    try:
        number: int = error.__dict__.setdefault(_NUMBER, None) or next(_numbers)
        error.__dict__[_NUMBER] = number
    except AttributeError:
        return 0
    return number


def lines_of(error: BaseException) -> list[Line]:
    """Return the lines of the tests' programs in an exception's traceback, outermost first."""
    return [
        _line(frame)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(_PROGRAMS) and frame.filename != __file__
    ]


def _line(frame: traceback.FrameSummary) -> Line:
    return Line(frame.filename, frame.lineno or 0, frame.name, frame.line or "")


def read_journals(folder: Path, token: str) -> list[Entry]:
    """Return the entries of all processes for the calls below a token, in the order of their starts."""
    found: dict[tuple[str, str, int], Entry] = {}
    for fields in _read_lines(folder, token):
        if "event" in fields:
            continue
        key = (fields["kind"], fields["token"], fields["pid"])
        if "begin_ns" in fields:
            assert key not in found, f"{key} began twice"
            found[key] = Entry(**fields)
        else:
            entry = found[key]
            entry.end_ns = fields["end_ns"]
            entry.error, entry.message = fields.get("error"), fields.get("message")
            entry.exception = fields.get("exception")
            entry.lines = [Line(*line) for line in fields.get("lines", ())]
    return sorted(found.values(), key=lambda entry: entry.begin_ns)


def read_events(folder: Path, token: str) -> list[Event]:
    """Return the exception events of all processes for the calls below a token, in order per process."""
    events = []
    for fields in _read_lines(folder, token):
        if "event" in fields:
            kind, at = fields.pop("event"), fields.pop("at", None)
            del fields["traced"]
            events.append(Event(kind, **fields, at=Line(*at) if at else None))
    return events


def _read_lines(folder: Path, token: str) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            if fields["token"].startswith(f"{token}."):
                yield fields
