"""Process beside a collector that delivers events.

One idea: in its own process a slow command, a slow host or a long comparison takes nothing from the
collector. It reports failed deliveries, line by line, on standard output; the collector counts and
prints them.

``python -m ztrace_viewer.events.beside SOURCE PAGE LEVEL`` is that process; SOURCE is a file or the address
of a ClickHouse database, PAGE the address of the page or empty, and LEVEL its log level. Command, URL, user
and password are in its environment, which other users cannot read.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ztrace.errors import DatabaseError, ZtraceError
from ztrace_collector.clickhouse.address import PASSWORD_VARIABLE, USER_VARIABLE
from ztrace_collector.refusals import EVENT_LEFT_OUT, Note
from ztrace_viewer import lifeline
from ztrace_viewer.events import COMMAND_VARIABLE, WEBHOOK_VARIABLE
from ztrace_viewer.events.receivers import read_receivers
from ztrace_viewer.events.sources import FileSource, SharedSource, Source
from ztrace_viewer.events.watching import Watcher
from ztrace_viewer.queries.stores.source import Source as Database
from ztrace_viewer.queries.stores.source import read_source
from ztrace_viewer.terminal.logs import StandardError
from ztrace_viewer.terminal.saying import complain

#: Niceness of the process: the collector has priority.
NICENESS = 5
#: Time for the process to read what is stored already, before the collector receives anything.
READY_S = 10.0

_READY = "ready"

_log = logging.getLogger(__name__)


class Events(ExitStack):
    """The process as a companion of a collector."""

    def __init__(
        self, source: Database, command: str | None, url: str | None, note: Note, say: Callable[[str], None]
    ) -> None:
        """Prepare the process; nothing is started yet.

        Args:
            source: the file to read, or the database that all collectors share.
            command: words of the command to run for each event; None for no command.
            url: where events are posted; None for nowhere.
            note: counts events that were not delivered; called in any thread.
            say: prints a line; called in any thread.

        Raises:
            SettingsError: the command or the URL cannot be used.
        """
        super().__init__()
        read_receivers(command, url)
        variables = {COMMAND_VARIABLE: command, WEBHOOK_VARIABLE: url}
        if isinstance(source, Path):
            self._source = str(source.absolute())
        else:
            self._source = source.url
            variables |= {USER_VARIABLE: source.user, PASSWORD_VARIABLE: source.password}
        self._variables = {name: value for name, value in variables.items() if value}
        self._note, self._say = note, say
        self._process: subprocess.Popen[bytes] | None = None
        self._hearer: threading.Thread | None = None
        self._ready = threading.Event()
        self._ending = False

    def start(self, page: str | None) -> None:
        """Start the process once the file exists, and wait until it has read what is known.

        Args:
            page: address of the page, without a path; None if it is not served.
        """
        own = {
            key: value for key, value in os.environ.items() if key not in (COMMAND_VARIABLE, WEBHOOK_VARIABLE)
        }
        # In its own session, since Ctrl-C is for the collector, with which the process ends.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                __name__,
                self._source,
                page or "",
                str(_log.getEffectiveLevel()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**own, **self._variables},
            start_new_session=True,
        )
        self._hearer = threading.Thread(target=self._hear, name="ztrace-events", daemon=True)
        self._hearer.start()
        self.callback(self._end)
        self._ready.wait(READY_S)

    def stop(self) -> None:
        """Do nothing: the last events are delivered after the collector has stored everything."""

    def is_done(self) -> bool:
        """Return True: there is nothing to wait for."""
        return True

    def _end(self) -> None:
        assert self._process is not None
        assert self._hearer is not None
        self._ending = True
        lifeline.let_go(self._process, self._hearer)

    def _hear(self) -> None:
        """Count and print what the process reports, until it ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as reports:
            for line in reports:
                report = json.loads(line)
                if report == _READY:
                    self._ready.set()
                    continue
                reason, detail, count, is_said = report
                self._note(reason, detail, count)
                if is_said:
                    what = "dropped" if reason == EVENT_LEFT_OUT else "not delivered"
                    self._say(f"event {what}: {detail}; see 'ztrace status' for the count")
        status = self._process.wait()
        self._ready.set()
        if not self._ending:
            self._say(f"event notifications have stopped (status {status}); the collector continues")


def main() -> int:
    """Watch until standard input ends."""
    page, level = sys.argv[2] or None, int(sys.argv[3])
    logging.basicConfig(level=level, handlers=[StandardError("ztrace: events: %(message)s")])
    os.nice(NICENESS)
    try:
        receivers = read_receivers(
            os.environ.get(COMMAND_VARIABLE) or None, os.environ.get(WEBHOOK_VARIABLE) or None
        )
        watcher = Watcher(_open(read_source(sys.argv[1]), page), receivers, _report)
    except ZtraceError as error:
        complain(f"ztrace: {error}")
        return 2
    lifeline.report(json.dumps(_READY))
    lifeline.hold(watcher.stop)
    watcher.run()
    return 0


def _open(database: Database, page: str | None) -> Source:
    if isinstance(database, Path):
        return FileSource(database, page)
    source = SharedSource(database, page)
    with suppress(DatabaseError):  # It may be away now.
        source.begin(time.time_ns())
    return source


def _report(reason: str, detail: str, count: int, is_said: bool) -> None:
    try:
        lifeline.report(json.dumps((reason, detail, count, is_said)))
    except OSError:
        os._exit(0)  # The collector was killed; there is nobody to report to.


if __name__ == "__main__":
    sys.exit(main())
