"""The server beside a collector: a process of its own.

One idea: both would be Python in one process, where an answer being made takes the interpreter from the
collector at every one of its transactions. In a process of its own it takes what the machine has left.

``python -m ztrace_viewer.web.beside FILE DESCRIPTOR`` is that process. It ends when its standard input does,
and so with the collector, however that ends.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from ztrace.errors import ZtraceError
from ztrace_viewer.demo import lifeline

#: How much less of the processor it gets than the collector, where both want it.
NICENESS = 5
#: What it may take to end beyond the time it gives itself.
_MARGIN_S = 2.0


class Beside:
    """The process, from `start` to the end of the ``with`` block."""

    def __init__(self, database: Path, listener: socket.socket, say: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            database: the file that is read.
            listener: where it listens; closed at the end.
            say: told when it ends before it is told to.
        """
        self._database = database
        self._listener = listener
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._ending = False

    def start(self) -> None:
        """Start it; it serves as soon as it can, and who connects before waits."""
        descriptor = self._listener.fileno()
        # A session of its own: Ctrl-C is for the collector, with whose end it ends.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(self._database.absolute()), str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
        self._listener.close()
        self._watcher = threading.Thread(target=self._watch, name="ztrace-web", daemon=True)
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._listener.close()
        if self._process is None or self._watcher is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._watcher.join(lifeline.GRACE_S + _MARGIN_S)
        if self._watcher.is_alive():
            self._process.kill()
            self._watcher.join()

    def _watch(self) -> None:
        assert self._process is not None
        status = self._process.wait()
        if not self._ending:
            self._say(f"the web page has ended (status {status}); the collector goes on")


def main() -> int:
    """Serve until standard input ends."""
    from ztrace_viewer.web.serving import Server
    from ztrace_viewer.web.token import find_token

    database, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    os.nice(NICENESS)
    try:
        server = Server(database, find_token(database), socket.socket(fileno=descriptor))
    except ZtraceError as error:
        print(f"ztrace: {error}", file=sys.stderr)
        return 2
    lifeline.hold(server.stop)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
