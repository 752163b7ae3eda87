"""Spool files: contents, limits, locks, and adoption after a kill."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.ztrace.interrupting import Interrupter, Limit, interrupt
from tests.ztrace.programs import ROOT
from tests.ztrace.waiting import DEADLINE_S, wait_for
from ztrace.process import owners
from ztrace.publishing.window import Place
from ztrace.spooling import files, spool
from ztrace.spooling.files import RECORD_BYTES
from ztrace.spooling.orphans import Orphan, find_orphans
from ztrace.spooling.spool import Spool
from ztrace.wire import Identity

INCARNATION = bytes(range(16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of a spool folder that does not exist yet."""
    return tmp_path / "spools" / "here"


def make_spool(folder: Path, incarnation: bytes = INCARNATION, limit_bytes: int = 64 << 20) -> Spool:
    """Return a spool with the service, host and pid that the tests expect."""
    return Spool(folder, Identity(incarnation, "billing", "host", 77, 1_000, "1.2 β"), limit_bytes)


def fill(target: Spool, bodies: list[bytes], first: int = 0, spans_before: int = 0) -> list[Place]:
    """Append batches of two spans each."""
    for _ in bodies:
        target.count()
        target.count()
    return [
        target.append(first + number, spans_before + 2 * number, 2, 10 + number, 20 + number, body)
        for number, body in enumerate(bodies)
    ]


def kill(target: Spool) -> None:
    """Close the files without an end marker, as a kill does."""
    target._close_files()


@contextmanager
def only_orphan(folder: Path) -> Iterator[Orphan]:
    """Yield the only orphan of a folder, and release it afterwards."""
    (orphan,) = find_orphans(folder)
    try:
        yield orphan
    finally:
        orphan.release()


def test_an_heir_finds_what_was_left(folder: Path) -> None:
    """An orphan has its owner's identity and counts, and every unacknowledged batch."""
    owner = make_spool(folder)
    before_ns = time.time_ns()
    fill(owner, [b"a", b"bb", b"ccc"])
    owner.count()
    owner.note_counts(1, 0)
    owner.release(1, 2)
    assert list(find_orphans(folder)) == []
    kill(owner)
    with only_orphan(folder) as orphan:
        assert orphan.identity == Identity(INCARNATION, "billing", "host", 77, 1_000, "1.2 β")
        assert (orphan.created, orphan.dropped, orphan.next_sequence) == (7, 1, 3)
        assert (orphan.floor, orphan.retired, orphan.ended, orphan.delivered) == (1, 2, False, False)
        assert before_ns <= orphan.last_ns <= time.time_ns()
        assert [entry[:5] for entry in orphan.entries] == [(1, 2, 2, 11, 21), (2, 4, 2, 12, 22)]
        assert [orphan.read(entry) for entry in orphan.entries] == [b"bb", b"ccc"]


def test_files_are_for_their_owner_alone(folder: Path) -> None:
    """The folder and its files are accessible to their owner only."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2
    owner.close(delivered=True)


def test_nothing_is_left_once_all_is_delivered(folder: Path) -> None:
    """A spool whose spans are all delivered, or that had none, leaves no file."""
    owner, idle = make_spool(folder), make_spool(folder, b"i" * 16)
    fill(owner, [b"a"])
    owner.close(delivered=True)
    owner.close(delivered=True)
    idle.close(delivered=False)
    assert list(folder.iterdir()) == []
    owner.count()


def test_an_end_with_batches_left_is_no_crash(folder: Path) -> None:
    """A spool closed with undelivered batches is marked as ended, and keeps the batches for adoption."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    owner.close(delivered=False)
    with only_orphan(folder) as orphan:
        assert (orphan.ended, orphan.delivered, len(orphan.entries)) == (True, False, 1)


def test_there_is_one_heir(folder: Path) -> None:
    """An orphan is locked by one heir at a time, until it is released or deleted."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    kill(owner)
    (orphan,) = find_orphans(folder)
    assert list(find_orphans(folder)) == []
    orphan.release()
    (orphan,) = find_orphans(folder)
    orphan.delete()
    assert list(folder.iterdir()) == []
    assert list(find_orphans(folder)) == []


def test_an_attempt_to_open_that_is_interrupted_is_repeated(folder: Path) -> None:
    """Wherever an exception arrives in the first attempt to open a spool, the second one opens it."""
    for number in range(1000):
        interrupter = Interrupter("line", number, Limit)
        interrupt(lambda: make_spool(folder).close(delivered=True), interrupter)
        make_spool(folder).close(delivered=True)
        assert list(folder.iterdir()) == []
        if not interrupter.raised:
            break
    assert number > 20


def test_a_folder_that_is_not_there_has_no_orphans(folder: Path) -> None:
    """A missing folder has no orphans and is not created."""
    assert list(find_orphans(folder)) == []
    assert not folder.exists()


def test_batches_are_read_back_from_any_segment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner reads batches from any segment in any order while it writes, and so does an heir."""
    monkeypatch.setattr(files, "SEGMENT_BYTES", 1000)
    owner = make_spool(folder)
    bodies = [os.urandom(300) for _ in range(20)]
    places = fill(owner, bodies)
    assert len({place.segment for place in places}) == 10
    for number in (0, 19, 7, 8, 7, 0):
        assert owner.read(places[number]) == bodies[number]
    assert owner.size_bytes == sum(path.stat().st_size for path in folder.iterdir())
    kill(owner)
    with only_orphan(folder) as orphan:
        assert [orphan.read(entry) for entry in orphan.entries] == bodies
        assert [orphan.read(entry) for entry in orphan.walk(0)] == bodies
        assert [entry.sequence for entry in orphan.walk(17)] == [17, 18, 19]


def test_what_is_acknowledged_takes_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged segments are deleted, and the current one is truncated before it grows large."""
    monkeypatch.setattr(files, "SEGMENT_BYTES", 100_000)
    owner = make_spool(folder)
    body = b"x" * 30_000
    places = fill(owner, [body] * 10)
    owner.release(5, 10)
    assert {path.name.split(".")[1] for path in folder.glob("*.spans")} == {
        f"{place.segment:08d}" for place in places[5:]
    }
    assert owner.read(places[5]) == body
    owner.release(10, 20)
    assert owner.size_bytes < 70_000
    places = fill(owner, [body] * 3, 10, 20)
    owner.release(13, 26)
    assert owner.size_bytes < 70_000
    assert len(list(folder.glob("*.spans"))) == 1
    (place,) = fill(owner, [b"last"], 13, 26)
    assert owner.read(place) == b"last"
    kill(owner)
    with only_orphan(folder) as orphan:
        assert [entry.sequence for entry in orphan.entries] == [13]


def test_the_limit_is_the_folders(folder: Path) -> None:
    """The size limit includes orphans' files, and a batch refused for it leaves a gap in the sequence."""
    dead = make_spool(folder, b"d" * 16)
    fill(dead, [b"x" * 50_000])
    kill(dead)
    owner = make_spool(folder, limit_bytes=150_000)
    fill(owner, [b"x" * 50_000])
    with pytest.raises(OSError, match="spool is full") as caught:
        owner.append(1, 2, 2, 0, 0, b"x" * 50_000)
    assert caught.value.errno == errno.EDQUOT
    owner.append(2, 4, 2, 0, 0, b"x")
    with pytest.raises(OSError, match="spool is full"):
        owner.append(3, 6, 2, 0, 0, b"x" * 50_000)
    kill(owner)
    for orphan in find_orphans(folder):
        if orphan.incarnation == INCARNATION:
            assert [entry[:2] for entry in orphan.entries] == [(0, 0), (2, 4)]
            assert orphan.next_sequence == 4
        orphan.delete()


def test_the_number_of_batches_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of batches is limited, since each costs memory for the owner and the heir."""
    monkeypatch.setattr(spool, "MAX_BATCHES", 3)
    owner = make_spool(folder)
    fill(owner, [b"a", b"b", b"c"])
    with pytest.raises(OSError, match="too many batches"):
        owner.append(3, 6, 2, 0, 0, b"d")
    owner.release(2, 4)
    fill(owner, [b"e"], 4, 8)
    kill(owner)
    with only_orphan(folder) as orphan:
        assert [entry.sequence for entry in orphan.entries] == [2, 4]


def test_room_comes_back(folder: Path) -> None:
    """Acknowledged batches free their room at once."""
    owner = make_spool(folder, limit_bytes=150_000)
    fill(owner, [b"x" * 140_000])
    with pytest.raises(OSError, match="spool is full"):
        owner.append(1, 2, 2, 0, 0, b"x" * 50_000)
    owner.release(2, 4)
    fill(owner, [b"y" * 140_000], 2, 4)
    owner.close(delivered=True)


def test_a_file_that_cannot_grow_leaves_no_half_batch(folder: Path) -> None:
    """A failed write leaves no partial record, and smaller batches can still be appended."""
    owner = make_spool(folder)
    fill(owner, [b"first"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"No space left|too large"):
            owner.append(1, 2, 2, 0, 0, b"x" * 10_000)
        owner.append(2, 4, 2, 0, 0, b"third")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    kill(owner)
    with only_orphan(folder) as orphan:
        assert [(entry.sequence, orphan.read(entry)) for entry in orphan.entries] == [
            (0, b"first"),
            (2, b"third"),
        ]


def damage(folder: Path, offset: int, piece: bytes) -> None:
    """Overwrite part of the first segment."""
    path = min(folder.glob("*.spans"))
    content = path.read_bytes()
    path.write_bytes(content[:offset] + piece + content[offset + len(piece) :])


@pytest.mark.parametrize("kept", [1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 5])
def test_a_batch_that_was_being_written_is_not_there(folder: Path, kept: int) -> None:
    """A partially written batch is ignored and counts as lost with the crash."""
    owner = make_spool(folder)
    *_, last = fill(owner, [b"whole", b"cut off"])
    kill(owner)
    os.truncate(min(folder.glob("*.spans")), last.offset + kept)
    with only_orphan(folder) as orphan:
        assert [entry.sequence for entry in orphan.entries] == [0]


@pytest.mark.parametrize("at", [0, 5, RECORD_BYTES - 1])
def test_a_damaged_record_is_passed_over(folder: Path, at: int) -> None:
    """A damaged record is skipped, and the next one tells how many spans precede it."""
    owner = make_spool(folder)
    places = fill(owner, [b"a" * 100_000, b"b" * 100_000, b"c" * 100_000])
    kill(owner)
    damage(folder, places[1].offset + at, b"\xff\xfe")
    with only_orphan(folder) as orphan:
        assert [(entry.sequence, entry.spans_before) for entry in orphan.entries] == [(0, 0), (2, 4)]
        assert [orphan.read(entry)[:1] for entry in orphan.entries] == [b"a", b"c"]


def test_a_damaged_body_is_not_delivered(folder: Path) -> None:
    """A batch with a damaged body is rejected for the owner and for the heir."""
    owner = make_spool(folder)
    places = fill(owner, [b"a" * 100, b"b" * 100])
    damage(folder, places[0].offset + RECORD_BYTES + 50, b"x")
    with pytest.raises(ValueError, match="damaged"):
        owner.read(places[0])
    kill(owner)
    with only_orphan(folder) as orphan:
        first, second = orphan.entries
        with pytest.raises(ValueError, match="damaged"):
            orphan.read(first)
        assert orphan.read(second) == b"b" * 100


@pytest.mark.parametrize(
    "change",
    [
        lambda page: b"",
        lambda page: page[:100],
        lambda page: b"something else" + page[14:],
        lambda page: page[:8] + b"\x02\x00\x00\x00" + page[12:],
        lambda page: page[:50] + b"\xff" + page[51:],
        lambda page: page + b"more",
    ],
    ids=["empty", "short", "foreign", "newer", "damaged", "long"],
)
def test_a_page_that_is_not_understood_is_left_alone(folder: Path, change: Callable[[bytes], bytes]) -> None:
    """Files with an unreadable page, perhaps of a later version, are ignored and kept."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    kill(owner)
    (page,) = folder.glob("*.page")
    page.write_bytes(change(page.read_bytes()))
    assert list(find_orphans(folder)) == []
    assert len(list(folder.iterdir())) == 2


def test_links_and_other_things_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Symbolic links and special files are ignored, so no other user chooses the file to read."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    kill(owner)
    (page,) = folder.glob("*.page")
    elsewhere = page.rename(tmp_path / page.name)
    page.symlink_to(elsewhere)
    os.mkfifo(folder / "pipe.page")
    (folder / "folder.page").mkdir()
    assert list(find_orphans(folder)) == []


def test_a_folder_that_others_can_write_to_is_refused(folder: Path) -> None:
    """A folder writable by other users is refused for the owner and for an heir."""
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="others may write"):
        make_spool(folder)
    with pytest.raises(PermissionError, match="others may write"):
        list(find_orphans(folder))
    assert list(folder.iterdir()) == []


def test_a_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of another user is refused for the owner and for an heir, root included."""
    folder.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(owners, "trusted_users", lambda: {os.geteuid() + 4242})
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_spool(folder)
    with pytest.raises(PermissionError, match="belongs to another user"):
        list(find_orphans(folder))
    assert list(folder.iterdir()) == []


def test_files_of_another_user_are_not_adopted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orphan of another user is not delivered as the process's own, and is left as it is."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    kill(owner)
    mine = os.geteuid()
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(owners, "trusted_users", lambda: {mine})
    monkeypatch.setattr(os, "geteuid", lambda: mine + 4242)
    assert list(find_orphans(folder)) == []
    assert sorted(path.name for path in folder.iterdir()) == before
    monkeypatch.undo()
    with only_orphan(folder) as orphan:
        assert orphan.created == 2


def test_what_nobody_can_deliver_goes_after_a_day(folder: Path) -> None:
    """Segments without a page and unfinished pages are deleted after a day."""
    owner = make_spool(folder)
    fill(owner, [b"a"])
    for name in ("aa.00000000.spans", "bb.new", "cc.00000000.spans", "dd.new", "notes.txt"):
        (folder / name).touch()
    segment = next(folder.glob(f"{INCARNATION.hex()}.*.spans"))
    old_s = time.time() - 90_000
    for path in (folder / "aa.00000000.spans", folder / "bb.new", folder / "notes.txt", segment):
        os.utime(path, (old_s, old_s))
    assert list(find_orphans(folder)) == []
    assert {path.name for path in folder.iterdir()} == {
        "cc.00000000.spans",
        "dd.new",
        "notes.txt",
        segment.name,
        f"{INCARNATION.hex()}.page",
    }
    owner.close(delivered=True)


def test_threads_count_exactly(folder: Path) -> None:
    """Concurrent increments are all counted."""
    owner = make_spool(folder)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: [owner.count() for _ in range(50_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert owner.created == 200_000
    owner.close(delivered=True)


KILLED = """
import os, sys, threading
from pathlib import Path
from ztrace.spooling.spool import Spool
from ztrace.wire import Identity
spool = Spool(Path(sys.argv[1]), Identity(os.urandom(16), "billing", "host", os.getpid(), 1), 64 << 20)
sequence = created = 0
while True:
    for _ in range(100):
        spool.count()
        created += 1
    spool.append(sequence, 100 * sequence, 100, 5, 6, os.urandom(20_000))
    sequence += 1
    spool.release(sequence // 2, 100 * (sequence // 2))
    os.write(1, created.to_bytes(8, "little") + sequence.to_bytes(8, "little"))
"""


@pytest.mark.process
@pytest.mark.parametrize("turn", range(5))
def test_a_kill_loses_no_count(folder: Path, turn: int) -> None:
    """Counts and batches written before a kill are found, whenever the kill happens."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.read(16) for _ in range(10 + 37 * turn)]
        process.send_signal(signal.SIGKILL)
        said += [last[at : at + 16] for last in [process.stdout.read()] for at in range(0, len(last), 16)]
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
    created, sequence = (int.from_bytes(number, "little") for number in (said[-1][:8], said[-1][8:]))
    with only_orphan(folder) as orphan:
        assert created <= orphan.created <= created + 100
        assert sequence <= orphan.next_sequence <= sequence + 1
        entries = orphan.entries
        assert entries[0].sequence == orphan.floor
        assert entries[0].spans_before == orphan.retired == 100 * orphan.floor
        assert all(later.sequence == entry.sequence + 1 for entry, later in pairwise(entries))
        assert sequence - 1 <= entries[-1].sequence <= sequence
        assert all(len(orphan.read(entry)) == 20_000 for entry in entries)
        assert orphan.created >= entries[-1].spans_before + 100


STOPPED = """
import os, sys
from pathlib import Path
from ztrace.spooling.spool import Spool
from ztrace.wire import Identity
spool = Spool(Path(sys.argv[1]), Identity(os.urandom(16), "billing", "host", os.getpid(), 1), 64 << 20)
for _ in range(12_345):
    spool.count()
print(spool.created, flush=True)
if len(sys.argv) > 2:
    child = os.fork()
    if not child:
        spool.abandon()
        spool.count()
        print("forked", os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""


@pytest.mark.process
def test_created_is_exact(folder: Path) -> None:
    """The number of created spans equals the last count of the killed process."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"12345\n"
        assert list(find_orphans(folder)) == []
        process.kill()
    with only_orphan(folder) as orphan:
        assert (orphan.created, orphan.next_sequence, orphan.entries) == (12_345, 0, [])


@pytest.mark.process
def test_a_forked_child_does_not_keep_the_parents_spool(folder: Path) -> None:
    """A forked child does not hold the lock of its parent's spool or add to its counts."""
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(folder), "fork"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"12345\n"
        child = int(process.stdout.readline().split()[1])
        assert list(find_orphans(folder)) == []
        process.kill()
        assert process.wait(DEADLINE_S) == -signal.SIGKILL
        os.kill(child, 0)
        with only_orphan(folder) as orphan:
            assert orphan.created == 12_345
        process.stdin.close()  # Closing the pipe ends the child.
        wait_for(lambda: process.stdout is not None and process.stdout.read() == b"")


def test_counting_costs_next_to_nothing(folder: Path) -> None:
    """Counting a span is one call implemented in C, taking less than a microsecond."""
    owner = make_spool(folder)
    best_ns = min(_time_ns(owner) for _ in range(20))
    assert best_ns < 1_000
    assert type(owner.count).__name__ == "method-wrapper"
    owner.close(delivered=True)
    assert spool.SPOOL_BYTES == 256 << 20


def _time_ns(owner: Spool) -> float:
    began_ns = time.perf_counter_ns()
    for _ in range(1000):
        owner.count()
    return (time.perf_counter_ns() - began_ns) / 1000
