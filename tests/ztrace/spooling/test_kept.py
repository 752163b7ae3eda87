"""The report at exit: how many spans were not delivered, and how many of them the spool keeps."""

import re
from pathlib import Path

import pytest

from tests.ztrace.programs import ALONE, QUICK, run_program
from tests.ztrace.receiving import Receiver

pytestmark = pytest.mark.process

PROGRAM = (
    ALONE
    + """
import os, shutil, sys, time
import ztrace
ztrace.configure("billing", sys.argv[1])
count, size = map(int, sys.argv[2:4])
for number in range(count):
    with ztrace.span(str(number), text="x" * size): pass
    if number % 500 == 499:
        time.sleep(0.05)
time.sleep(0.3)
{last}
"""
)

HEIR = (
    QUICK
    + """
import os, sys, time
import ztrace
ztrace.configure("heir", sys.argv[1])
with ztrace.span("heir"): pass
assert ztrace.flush(20)
end_s = time.monotonic() + 20
while len(os.listdir(os.environ["ZTRACE_SPOOL"])) > 2 and time.monotonic() < end_s:
    time.sleep(0.01)
"""
)


def report(tmp_path: Path, count: int, size: int, last: str = "", **settings: str) -> tuple[int, int]:
    """Run a program without a collector, and return the numbers of spans not delivered and kept."""
    spool, endpoint = str(tmp_path / "spool"), f"ipc://{tmp_path}/nobody"
    settings = {"ZTRACE_SPOOL": spool, **settings}
    said = run_program(
        PROGRAM.format(last=last), endpoint, str(count), str(size), expect=0, **settings
    ).stderr
    found = re.fullmatch(
        r"(?:ztrace: not keeping .*\n)?ztrace: ([\d,]+) spans not delivered to (\S+?)"
        r"(, (?:([\d,]+) of them )?kept in (\S+))?\n",
        said,
    )
    assert found is not None, said
    assert found[2] == endpoint
    left = int(found[1].replace(",", ""))
    if found[3] is None:
        return left, 0
    assert found[5] == spool
    return left, left if found[4] is None else int(found[4].replace(",", ""))


def adopted(receiver: Receiver, tmp_path: Path) -> int:
    """Return how many spans another process finds in the spool and delivers."""
    run_program(HEIR, receiver.endpoint, ZTRACE_SPOOL=str(tmp_path / "spool"))
    return len(receiver.names()) - 1


def test_spans_in_the_spool_are_reported_as_kept(receiver: Receiver, tmp_path: Path) -> None:
    """All spans are kept, and the next process delivers them."""
    assert report(tmp_path, 1000, 10) == (1000, 1000)
    assert adopted(receiver, tmp_path) == 1000


def test_spans_beyond_the_limit_are_not_reported_as_kept(receiver: Receiver, tmp_path: Path) -> None:
    """With a full spool, the number of kept spans is what the next process delivers."""
    left, kept = report(tmp_path, 4000, 4000, ZTRACE_SPOOL_BYTES=str(8 << 20))
    assert left == 4000
    assert 0 < kept < 4000
    assert adopted(receiver, tmp_path) == kept


def test_dropped_spans_are_not_reported_as_kept(receiver: Receiver, tmp_path: Path) -> None:
    """Spans that found no room in the queue are among those not delivered, but not among those kept."""
    left, kept = report(tmp_path, 499, 10, ZTRACE_QUEUE_SPANS="50")
    assert left == 499
    assert 50 <= kept < 499
    assert adopted(receiver, tmp_path) == kept


@pytest.mark.parametrize(
    "last",
    [
        "shutil.rmtree(os.environ['ZTRACE_SPOOL'])",
        "os.rename(os.environ['ZTRACE_SPOOL'], sys.argv[1][6:] + 'x')",
    ],
    ids=["removed", "renamed"],
)
def test_spans_of_a_spool_that_is_gone_are_not_reported_as_kept(tmp_path: Path, last: str) -> None:
    """A spool that was removed or renamed meanwhile keeps nothing that another process would find."""
    assert report(tmp_path, 100, 10, last) == (100, 0)


def test_spans_without_a_usable_spool_are_not_reported_as_kept(tmp_path: Path) -> None:
    """A folder that others may write to is refused, and keeps nothing."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    assert report(tmp_path, 100, 10) == (100, 0)
