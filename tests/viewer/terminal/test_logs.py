"""Log records of long-running commands, on standard error."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ztrace_viewer.terminal.logs import showing_logs

CLI = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
DEADLINE_S = 60

_log = logging.getLogger("ztrace_collector.storing")


def test_errors_are_shown_with_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --verbose warnings and errors are printed, each with its traceback, and nothing else."""
    with showing_logs(verbose=False):
        _log.debug("a detail")
        _log.info("a step")
        try:
            raise TypeError("a defect")
        except TypeError as error:
            _log.error("internal error", exc_info=error)
    _log.info("afterwards")
    first, *trace = capsys.readouterr().err.splitlines()
    assert first == "ztrace: internal error"
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "TypeError: a defect")


def test_everything_is_shown_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With --verbose every record of ztrace is printed, and none of a library's details."""
    with showing_logs(verbose=True):
        _log.debug("a detail")
        logging.getLogger("urllib3").debug("somebody else's detail")
    assert capsys.readouterr().err.endswith(" DEBUG ztrace_collector.storing: a detail\n")
    assert _log.getEffectiveLevel() == logging.WARNING


@pytest.mark.process
def test_a_collector_tells_its_steps(tmp_path: Path) -> None:
    """The option reaches the collector, which says what it opens."""
    command = [sys.executable, "-c", CLI, "collect", "-v", "--bind", "tcp://127.0.0.1:*"]
    environment = os.environ | {"ZTRACE_DB": str(tmp_path / "t.db")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as child:
        try:
            assert child.stderr is not None
            lines = [child.stderr.readline()]
            while "collecting at" not in lines[-1]:
                lines.append(child.stderr.readline())
            child.send_signal(signal.SIGTERM)
            assert child.wait(DEADLINE_S) == 0
        finally:
            if child.poll() is None:
                child.kill()
    assert any("INFO ztrace_collector.storing.writer: opened " in line for line in lines)
