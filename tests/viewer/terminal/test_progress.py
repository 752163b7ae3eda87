"""Progress lines of running commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ztrace_viewer.terminal.progress import format_counts

#: Longer than a collector takes to start and stop.
DEADLINE_S = 20

CLI = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"


def test_a_collectors_line_has_its_figures() -> None:
    """A collector's line has spans stored, rate, publishers and refusals."""
    assert (
        format_counts(1_234_567, 89_012.3, 1, 4)
        == "1,234,567 spans stored   89,012/s   1 publisher   4 refused"
    )
    assert format_counts(7, 0.0, 2, 0, holding=True) == "7 spans stored   holding   2 publishers   0 refused"


@pytest.mark.process
def test_a_collectors_line_is_drawn_in_place(tmp_path: Path) -> None:
    """On a terminal, the line is overwritten in place and cleared at the end."""
    leader, follower = os.openpty()
    command = [sys.executable, "-c", CLI, "collect", "--bind", "tcp://127.0.0.1:*"]
    with subprocess.Popen([*command, "--db", str(tmp_path / "t.db")], stderr=follower) as child:
        os.close(follower)
        try:
            shown = b""
            while b"0 spans stored" not in shown:
                shown += os.read(leader, 4096)
            child.terminate()
            child.wait(DEADLINE_S)
            shown += os.read(leader, 4096)
        finally:
            if child.poll() is None:
                child.kill()
            os.close(leader)
    announcement, _, line = shown.partition(b"\r\n")
    assert announcement.startswith(b"ztrace: collecting at ")
    assert line.startswith(b"\r\x1b[K0 spans stored")
    assert line.endswith(b"\r\x1b[K")
    assert b"\n" not in line
