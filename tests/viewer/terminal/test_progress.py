"""Progress lines of running commands."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.viewer.stored import NOON, span, store, trace_id
from ztrace_viewer.terminal.progress import (
    CollectorProgress,
    CountProgress,
    StageProgress,
    format_count,
    format_counts,
)

#: Longer than any of the commands takes.
DEADLINE_S = 60

CLI = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: Control sequences that hide and show the cursor, and the last ones of a line that is cleared.
HIDE, SHOW, CLEARED = b"\x1b[?25l", b"\x1b[?25h", b"\r\x1b[1A\x1b[2K"
CTRL_C = b"\x03"


class Terminal:
    """The other end of a command's terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", leader: int) -> None:
        self.process = process
        self.leader = leader
        self.shown = b""

    def wait_for(self, text: bytes) -> None:
        """Read until a text is shown."""
        while text not in self.shown:
            assert self._read(), f"ended before {text!r}: {self.shown!r}"

    def finish(self) -> int:
        """Read to the end, and return the exit status."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self) -> bool:
        try:
            read = os.read(self.leader, 4096)
        except OSError:  # The command has ended.
            return False
        self.shown += read
        return bool(read)


@contextmanager
def on_terminal(*arguments: object) -> Iterator[Terminal]:
    """Run a command in a session of its own, whose terminal is all its files."""
    leader, follower = os.openpty()
    command = [sys.executable, "-c", f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {CLI}"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONWARNINGS": "error"},
    )
    os.close(follower)
    try:
        yield Terminal(process, leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database that takes a second to export."""
    path = tmp_path_factory.mktemp("large") / "large.db"
    for part in range(2):
        numbers = range(part * 4000 + 1, part * 4000 + 4001)
        store(path, {"shop": [span(trace_id(number), 1, at_ns=NOON + number) for number in numbers]})
    return path


def test_a_collectors_line_has_its_figures() -> None:
    """A collector's line has spans stored, rate, publishers and refusals."""
    assert (
        format_counts(1_234_567, 89_012.3, 1, 4)
        == "1,234,567 spans stored   89,012/s   1 publisher   4 refused"
    )
    assert format_counts(7, 0.0, 2, 0, holding=True) == "7 spans stored   holding   2 publishers   0 refused"


def test_an_exports_line_has_its_figures() -> None:
    """An export's line has the number of spans and the rate."""
    assert format_count(1500, "spans", 2.0) == "1,500 spans   750/s"


@pytest.mark.process
def test_a_collectors_line_is_drawn_in_place(tmp_path: Path) -> None:
    """On a terminal, the line is below the announcement, and cleared at the end."""
    with on_terminal("collect", "--bind", "tcp://127.0.0.1:*", "--db", tmp_path / "t.db") as terminal:
        terminal.wait_for(b"0 spans stored")
        os.write(terminal.leader, CTRL_C)
        assert terminal.finish() == 0
    announcement, _, line = terminal.shown.partition(HIDE)
    assert announcement.startswith(b"ztrace: collecting at ")
    assert announcement.endswith(b"\r\n")
    assert line.startswith(b"0 spans stored   0/s   0 publishers   0 refused")
    assert line.endswith(SHOW + CLEARED)


@pytest.mark.process
def test_an_export_shows_how_far_it_is(large: Path, tmp_path: Path) -> None:
    """On a terminal, an export has a bar with its share, and what it prints at the end takes its place."""
    with on_terminal("export", "--db", large, "-o", tmp_path / "a.json") as terminal:
        assert terminal.finish() == 0
    line, _, told = terminal.shown.partition(SHOW + CLEARED)
    assert line.startswith(HIDE)
    assert b"%" in line
    assert b" spans   " in line
    assert told.startswith(b"exported 8,000 spans")


@pytest.mark.process
@pytest.mark.parametrize("command", ["export", "import", "demo"])
def test_ctrl_c_leaves_the_terminal_sound(large: Path, tmp_path: Path, command: str) -> None:
    """Ctrl-C on a terminal clears the line, shows the cursor and ends the command with status 130."""
    arguments: list[object] = ["--db", large, "-o", tmp_path / "a.json"]
    if command == "import":
        file = tmp_path / "b.json"
        subprocess.run([sys.executable, "-c", CLI, "export", "--db", large, "-o", file], check=True)
        arguments = [file, "--db", tmp_path / "b.db"]
    elif command == "demo":
        arguments = ["--db", tmp_path / "c.db"]
    with on_terminal(command, *arguments) as terminal:
        terminal.wait_for(HIDE)
        os.write(terminal.leader, CTRL_C)
        assert terminal.finish() == 128 + signal.SIGINT, terminal.shown.decode()
    assert terminal.shown.endswith(SHOW + CLEARED)
    assert terminal.shown.count(HIDE) == terminal.shown.count(SHOW) == 1


def test_without_a_terminal_there_are_only_lines(capfd: pytest.CaptureFixture[str]) -> None:
    """Figures are not drawn into a file; lines for the user and stages of a command are printed."""
    with CountProgress("spans") as counting, CollectorProgress() as collecting, StageProgress() as stages:
        for line in (counting, collecting, stages):
            line._then_s -= 1_000
        counting.update(5, 0.5)
        collecting.update(_Counts())
        stages.update("moving on")
        assert capfd.readouterr() == ("", "")
        stages.begin("opening")
        collecting.say("a line")
    assert capfd.readouterr() == ("", "opening\nztrace: a line\n")


def test_services_that_join_are_told_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a terminal each service that joins is a line, up to a number that fits it."""
    drawn: list[str] = []
    counts = _Counts()
    with CollectorProgress() as collecting:
        collecting.shown = True
        monkeypatch.setattr(collecting, "draw", drawn.append)
        many = dict.fromkeys(("mail", *map(str, range(100))), 1)
        for publishers in (counts.publishers, counts.publishers, many):
            monkeypatch.setattr(_Counts, "publishers", publishers)
            collecting._then_s -= 1_000
            collecting.update(counts)
    told = capfd.readouterr().err.splitlines()
    assert told[:4] == [
        "ztrace: shop has joined",
        "ztrace: bank[2J has joined",
        "ztrace: a service without a name has joined",
        "ztrace: mail has joined",
    ]
    assert len(told) == 50
    assert "4 publishers" in drawn[0]


class _Counts:
    span_count, refused_count, holding = 1, 2, False
    publishers = MappingProxyType({"shop": 2, "bank\x1b[2J": 0, "": 2})
