"""Server beside a collector, in a process of its own.

One idea: in the collector's process, requests would compete with its transactions for the interpreter. In its
own process the server uses what the machine has left.

``python -m ztrace_viewer.web.beside FILE DESCRIPTOR LEVEL`` is that process; LEVEL is its log level. It ends
with its standard input, and so with the collector, in any way the collector ends.
"""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from ztrace.addresses import Address
from ztrace.errors import EndpointError, ZtraceError
from ztrace_collector.otlp.listening.addresses import find_address, open_socket
from ztrace_viewer import lifeline
from ztrace_viewer.terminal.logs import StandardError
from ztrace_viewer.terminal.saying import complain
from ztrace_viewer.web.token import find_token

#: Niceness of the process: the collector has priority.
NICENESS = 5

_log = logging.getLogger(__name__)


class Beside(ExitStack):
    """The process as a companion of a collector.

    Attributes:
        url: URL of the page with the token; None if the page is not served.
        address: the same without token and path.
    """

    def __init__(
        self, database: Path, address: Address, say: Callable[[str], None], *, is_wanted: bool
    ) -> None:
        """Prepare a server; nothing is opened yet.

        Args:
            database: the file to read.
            address: address to listen on.
            say: prints a warning; called in any thread.
            is_wanted: the address was given by the user, so it is an error if it is in use.
        """
        super().__init__()
        self.url: str | None = None
        self.address: str | None = None
        self._database = database.absolute()
        self._wanted = address
        self._say = say
        self._is_wanted = is_wanted
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._ending = False

    def __enter__(self) -> Self:
        """Open the listening socket.

        Raises:
            EndpointError: the address that the user gave cannot be used.
        """
        super().__enter__()
        try:
            self._listener = self.enter_context(open_socket(self._wanted))
        except EndpointError as error:
            if self._is_wanted:
                raise
            self._say(f"there is no web page: {error.message}; give another address with --web-listen")
        return self

    def start(self) -> None:
        """Start the process once the file exists; early connections wait until it is ready.

        Raises:
            SettingsError: the token cannot be used.
        """
        if self._listener is None:
            return
        token = find_token(self._database)
        self.address = f"http://{find_address(self._listener)}"
        self.url = f"{self.address}/?token={token}"
        descriptor = self._listener.fileno()
        level = str(_log.getEffectiveLevel())
        # In its own session, since Ctrl-C is for the collector, with which the process ends.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(self._database), str(descriptor), level],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
        # Only the process listens from here on, and nothing if it has ended.
        self._listener.close()
        self._watcher = threading.Thread(target=self._watch, name="ztrace-web", daemon=True)
        self._watcher.start()
        self.callback(self._end)

    def stop(self) -> None:
        """Do nothing: the server accepts nothing that has to be stored."""

    def is_done(self) -> bool:
        """Return True: there is nothing to wait for."""
        return True

    def _end(self) -> None:
        """End the process, in time or by force."""
        assert self._process is not None
        assert self._watcher is not None
        self._ending = True
        lifeline.let_go(self._process, self._watcher)

    def _watch(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        if not self._ending:
            self._say(f"the web page has ended (status {status}); the collector continues")


def main() -> int:
    """Serve until standard input ends."""
    try:
        from ztrace_viewer.web.serving import Server, collect_rarely
    except ModuleNotFoundError as error:
        complain(f"ztrace: {error.name} is not installed; pip install 'ztrace[all]'")
        return 2
    database, descriptor, level = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=level, handlers=[StandardError("ztrace: web: %(message)s")])
    os.nice(NICENESS)
    collect_rarely()
    try:
        server = Server(database, find_token(database), socket.socket(fileno=descriptor))
    except ZtraceError as error:
        complain(f"ztrace: {error}")
        return 2
    lifeline.hold(server.stop)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
