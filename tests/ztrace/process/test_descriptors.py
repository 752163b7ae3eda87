"""Descriptors that a daemon closes, and whose numbers its own files get."""

import os
from pathlib import Path

import pytest

from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver
from ztrace.process.descriptors import OwnFile

#: A program that may fork, closes every descriptor, opens files of its own, and traces.
DAEMON = """
import os, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1], spool=sys.argv[2] or None)
folder, before, forks = sys.argv[3:]
if before:
    with ztrace.span("before"): pass
    assert ztrace.flush(20)
for _ in range(int(forks)):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        sys.exit(0)
os.closerange(3, 256)
files = [open(f"{folder}/{number}", "w") for number in range(20)]
def write(text):
    for file in files:
        file.write(text)
        file.flush()
write("first\\n")
for number in range(100):
    with ztrace.span(str(number)): pass
assert ztrace.flush(20)
write("second\\n")
ztrace.shutdown(20)
write("third\\n")
for file in files: file.close()
"""


@pytest.mark.process
@pytest.mark.parametrize(("forks", "before"), [(0, ""), (1, ""), (1, "a span"), (2, "a span")])
@pytest.mark.parametrize("spooled", [False, True], ids=["", "spool"])
def test_a_daemon_that_closes_all_descriptors(
    receiver: Receiver, tmp_path: Path, forks: int, before: str, spooled: bool
) -> None:
    """A daemon's files are its own, and every span is delivered once.

    Left out is a span before and no fork: libzmq aborts where its descriptors are closed under its thread.
    """
    spool, folder = tmp_path / "spool", tmp_path / "files"
    folder.mkdir()
    arguments = (receiver.endpoint, str(spool) if spooled else "", str(folder), before, str(forks))
    done = run_program(DAEMON, *arguments)
    assert done.stderr == ""
    assert {path.read_text() for path in folder.iterdir()} == {"first\nsecond\nthird\n"}
    assert sorted(receiver.names()) == sorted([*map(str, range(100)), *["before"] * bool(before)])
    assert not spooled or list(spool.iterdir()) == []


def test_a_file_whose_number_is_another_files_is_neither_used_nor_closed(tmp_path: Path) -> None:
    """The number of a closed file that another one has got is refused, and stays open."""
    own = OwnFile(os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT))
    number = own.fileno()
    os.close(number)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    try:
        assert other == number
        assert not own.is_open
        with pytest.raises(OSError, match="Bad file descriptor"):
            own.fileno()
        own.close()
        assert os.write(other, b"still open") == 10
    finally:
        os.close(other)


def test_a_file_is_closed_once(tmp_path: Path) -> None:
    """`close` closes the file, and a second call closes nothing that has the number since."""
    own = OwnFile(os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT))
    number = own.fileno()
    own.close()
    again = os.open(tmp_path / "own", os.O_RDWR)
    try:
        assert again == number
        own.close()
        assert os.fstat(again)
    finally:
        os.close(again)
