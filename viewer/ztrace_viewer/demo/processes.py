"""Processes of the demo: start, observation, end.

One idea: a process is known only by the object that started it, so the demo stops no other process. Its
standard error goes to a log and not to the screen.
"""

import logging
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ztrace.errors import ZtraceError
from ztrace_viewer import lifeline
from ztrace_viewer.interrupts import allowed

#: Time for a process to start on an overloaded machine.
START_S = 30.0
#: Time for a process to end, beyond its own grace period.
_MARGIN_S = 2.0

_log = logging.getLogger(__name__)


class ProcessError(ZtraceError):
    """A process of the demo did not start, or ended too early; its log is kept."""


class Child:
    """A module of this package in a process of its own.

    Attributes:
        name: name on the screen.
        log: file with its standard error.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        # Without the user's ZTRACE_* variables but for the sampler's, and in its own session, since Ctrl-C is
        # for the demo alone.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("ZTRACE_") or key == "ZTRACE_PROFILE"
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"ztrace_viewer.demo.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        _log.debug("%s started as process %d, log in %s", name, self._process.pid, self.log)

    def wait_until_ready(self) -> str:
        """Wait until the process reports that it is ready, and return its report.

        Raises:
            ProcessError: the process has ended, or is not ready in time.
        """
        pipe = self._process.stdout
        assert pipe is not None
        with allowed():
            is_ready = bool(select.select([pipe], [], [], START_S)[0])
        if not is_ready:
            raise ProcessError(f"{self.name} is not ready after {START_S:.0f} s", hint=f"see {self.log}")
        if word := pipe.readline().decode().strip():
            _log.debug("%s is ready", self.name)
            return word
        self._process.wait()
        raise self.explain_end("did not start")

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the exit status, and return it, or None after the timeout."""
        try:
            with allowed():
                return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def hang_up(self) -> None:
        """Ask the process to finish its work and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def finish(self) -> str:
        """Wait for the end of the process after `hang_up`, and kill it after a timeout.

        Returns:
            A description of the failure, empty if there was none.
        """
        try:
            status = self.wait(lifeline.GRACE_S + _MARGIN_S)
        finally:
            self.kill()
        _log.debug("%s ended with status %s", self.name, status)
        if status is None:
            return f"{self.name} had to be killed"
        if status:
            return f"{self.name} ended with status {status}: {self.last_words()}"
        return "; ".join(f"{self.name}: {line}" for line in self._read_log() if line.startswith("ztrace: "))

    def end(self) -> None:
        """Ask the process to end, and wait until it has."""
        self.hang_up()
        self.finish()

    def kill(self) -> None:
        """Kill the process if it has not ended, and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def explain_end(self, what: str) -> ProcessError:
        """Return the error of a process that ended too early."""
        return ProcessError(f"{self.name} {what}: {self.last_words()}", hint=f"see {self.log}")

    def last_words(self) -> str:
        """Return the last line of the log, which in a traceback is the exception."""
        lines = self._read_log()
        return lines[-1] if lines else f"no output, exit status {self._process.returncode}"

    def _read_log(self) -> list[str]:
        text = self.log.read_text("utf-8", "replace")
        return [line.strip() for line in text.splitlines() if line.strip()]


def finish_all(children: Sequence[Child]) -> list[str]:
    """End processes, all at the same time.

    Returns:
        Descriptions of failures.
    """
    for child in children:
        child.hang_up()
    return [complaint for child in children if (complaint := child.finish())]
