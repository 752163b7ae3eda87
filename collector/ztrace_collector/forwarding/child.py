"""Forwarding as seen from its process: the ends of the pipes to the collector, the file and the log.

One idea: such a process never writes the file. It reports on standard output, line by line; the collector
writes the reports and confirms them on standard input, which ends with the collector, however the collector
ends; then the process exits.
"""

import json
import logging
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from urllib.parse import quote

from ztrace.diagnostics import make_harmless
from ztrace_collector.sealing.reading import add_views

#: Line after which a process sends what it can send at once, and ends.
FINISH = b"finish\n"
#: Wait for the collector's lock, which in WAL mode a reader meets only while the collector opens the file.
_BUSY_TIMEOUT_S = 10.0


class Output:
    """Standard output, shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.dup(sys.stdout.fileno())

    def send(self, line: bytes) -> None:
        """Send a line to the collector."""
        try:
            with self._lock:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except OSError:
            os._exit(0)  # The collector has ended.

    def say(self, words: str) -> None:
        """Send a line for the user to the collector."""
        self.send(json.dumps(words).encode() + b"\n")


class _Harmless(logging.Formatter):
    """Formatter of lines that may repeat what a destination has sent."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without characters that a terminal interprets."""
        return "\n".join(map(make_harmless, super().format(record).split("\n")))


def prepare() -> Output:
    """Prepare the process, whose argument is the number of a log level, and return its output."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Harmless("ztrace: sending on: %(message)s"))
    logging.basicConfig(level=int(sys.argv[1]), handlers=[handler])
    # Ctrl-C and a supervisor's SIGTERM reach the whole group, but the collector ends this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return Output()


def open_file(database: Path) -> sqlite3.Connection:
    """Open the collector's file read-only; the caller closes the connection."""
    uri = f"file:{quote(str(database))}?mode=ro"
    db = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    db.execute("PRAGMA temp_store = MEMORY")
    add_views(db)
    db.execute("PRAGMA query_only=1")
    return db
