"""What processes say of themselves: one JSON line for every beginning and every end of a call.

One idea: a call carries a token as its first argument, ``s7.0.1`` for the second call of the handler that
serves ``s7.0``. Who calls and who serves writes it down with its own clock, so the tree that should be stored
can be told from the files alone, without anything that ztrace said.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Entry:
    """One call as one of its ends saw it; one that did not end has neither ``end_ns`` nor ``error``.

    ``traceparent`` and ``tracestate`` are what a server found in the request's header.
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


class Journal:
    """A process's own file; a line is one write, so that a kill leaves whole lines."""

    def __init__(self, folder: Path, service: str, *, traced: bool) -> None:
        self._folder = folder
        self._about = {"service": service, "pid": os.getpid(), "traced": traced}
        path = folder / f"{service}-{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @contextmanager
    def entry(self, kind: str, token: str, name: str, **context: object) -> Iterator[None]:
        """Write down that a call begins, with what context, that it ends, and what it raised."""
        about = {"kind": kind, "token": token, "name": name}
        self._write(about | {"begin_ns": time.time_ns()} | context)
        try:
            yield
        except BaseException as error:
            raised = {"error": type_name(error), "message": _message(error)}
            self._write(about | raised | {"end_ns": time.time_ns()})
            raise
        self._write(about | {"end_ns": time.time_ns()})

    def read(self, token: str) -> list[Entry]:
        """Return what all processes wrote of the calls below a token."""
        return read_journals(self._folder, token)

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


def read_journals(folder: Path, token: str) -> list[Entry]:
    """Return what all processes wrote of the calls below a token, in the order in which they began."""
    found: dict[tuple[str, str, int], Entry] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            if not fields["token"].startswith(f"{token}."):
                continue
            key = (fields["kind"], fields["token"], fields["pid"])
            if "begin_ns" in fields:
                assert key not in found, f"{key} began twice"
                found[key] = Entry(**fields)
            else:
                entry = found[key]
                entry.end_ns = fields["end_ns"]
                entry.error, entry.message = fields.get("error"), fields.get("message")
    return sorted(found.values(), key=lambda entry: entry.begin_ns)
