"""The demo's processes, seen from the demo: started, watched, stopped.

One idea: a process is known by the object that started it and by nothing else, so that only what the demo
started is ever stopped; what it has to say goes to a log, not over the screen.
"""

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ztrace.errors import ZtraceError
from ztrace_viewer import lifeline
from ztrace_viewer.interrupts import allowed

#: How long a process may take to start on a machine with too much to do.
START_S = 30.0
#: What a process gets beyond the time it gives itself.
_MARGIN_S = 2.0


class ProcessError(ZtraceError):
    """A process of the demo did not start, or ended before its time; its log is kept."""


class Child:
    """A module of this package in a process of its own.

    Attributes:
        name: what it is called on the screen.
        log: the file with what it wrote to standard error.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        # The user's ZTRACE_* are for the user's services. A session of its own: Ctrl-C is for the demo alone.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ZTRACE_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"ztrace_viewer.demo.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def wait_until_ready(self) -> str:
        """Return the word with which it reported that it can be used.

        Raises:
            ProcessError: it has ended, or does not get ready.
        """
        pipe = self._process.stdout
        assert pipe is not None
        with allowed():
            is_ready = bool(select.select([pipe], [], [], START_S)[0])
        if not is_ready:
            raise ProcessError(f"{self.name} is not ready after {START_S:.0f} s", hint=f"see {self.log}")
        if word := pipe.readline().decode().strip():
            return word
        self._process.wait()
        raise self.explain_end("did not start")

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status, or None if it still runs when the time is up."""
        try:
            with allowed():
                return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def hang_up(self) -> None:
        """Ask it to finish what it does, and to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def finish(self) -> str:
        """Wait for its end after `hang_up`; kill it if it does not come.

        Returns:
            What went wrong, or nothing.
        """
        status = self.wait(lifeline.GRACE_S + _MARGIN_S)
        self.kill()
        if status is None:
            return f"{self.name} had to be killed"
        if status:
            return f"{self.name} ended with status {status}: {self.last_words()}"
        return "; ".join(f"{self.name}: {line}" for line in self._read_log() if line.startswith("ztrace: "))

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def explain_end(self, what: str) -> ProcessError:
        """Return the error for an end that came too early."""
        return ProcessError(f"{self.name} {what}: {self.last_words()}", hint=f"see {self.log}")

    def last_words(self) -> str:
        """Return the last line of its log: of a traceback, that is the exception."""
        lines = self._read_log()
        return lines[-1] if lines else f"it said nothing, exit status {self._process.returncode}"

    def _read_log(self) -> list[str]:
        text = self.log.read_text("utf-8", "replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


def finish_all(children: Sequence[Child]) -> list[str]:
    """Let processes end, all at the same time.

    Returns:
        What went wrong.
    """
    for child in children:
        child.hang_up()
    return [complaint for child in children if (complaint := child.finish())]
