"""Writer on full disks and on locked, damaged or moved files, with real faults."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.collector.disks import fill, small_disk
from tests.collector.messages import Sender, is_balanced, make_span, row, rows, trace_id
from ztrace.errors import DatabaseCorrupt
from ztrace_collector.storing import writer as module
from ztrace_collector.storing.damage import is_sound
from ztrace_collector.storing.store import Store, Written
from ztrace_collector.storing.writer import RETRY_S, Writer

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60


class Lines(list[str]):
    """Lines reported by a writer."""

    def __call__(self, line: str) -> None:
        """Keep a line of the report."""
        assert "\n" not in line
        self.append(line)


@pytest.fixture
def lines() -> Lines:
    """Return a collection of a writer's lines."""
    return Lines()


def until_stored(writer: Writer) -> dict[bytes, int]:
    """Retry the held messages until stored; return the acknowledgements."""
    deadline_s = time.monotonic() + DEADLINE_S
    while True:
        acknowledgements = writer.write().acknowledgements
        if not writer.holding:
            return acknowledgements
        assert time.monotonic() < deadline_s, "timed out"
        time.sleep(min(writer.wait_s(), 0.05))


def spans(first: int, count: int) -> list[object]:
    """Return spans of separate traces, with attributes of some size."""
    return [make_span(number, attributes={"note": "x" * 400}) for number in range(first, first + count)]


def count_spans(path: Path) -> int:
    """Return a file's number of spans."""
    return int(row(path, "SELECT count(*) AS n FROM spans")["n"])


@pytest.mark.process
def test_a_full_disk_holds_and_goes_on_by_itself(tmp_path: Path, lines: Lines) -> None:
    """On a full disk nothing is acknowledged; with space again the writer stores all held spans once."""
    with small_disk(tmp_path / "disk", 24) as disk:
        if disk is None:
            _run_limited(tmp_path)
            return
        path = disk / "traces.db"
        sender = Sender()
        with Writer(path, say=lines) as writer:
            assert writer.write([sender.data(*spans(0, 100))]).acknowledgements == {sender.incarnation: 1}
            filler = fill(disk, leaving_kb=500)
            assert writer.write([sender.data(*spans(100, 100))]).acknowledgements == {}
            assert writer.holding
            assert writer.wait_s() <= RETRY_S
            # Retried, and reported once.
            deadline_s = time.monotonic() + 3 * RETRY_S
            while time.monotonic() < deadline_s:
                assert writer.write().acknowledgements == {}
                time.sleep(0.05)
            (line,) = lines
            assert line.startswith(f"no space for {path}:")
            assert "storing resumes by itself" in line
            assert count_spans(path) == 100
            filler.unlink()
            assert until_stored(writer) == {sender.incarnation: 2}
            assert lines[1:] == [f"storing again in {path}"]
            assert writer.write([sender.data(*spans(200, 10)), sender.bye()]).acknowledgements == {
                sender.incarnation: 4
            }
        assert count_spans(path) == 210
        assert is_balanced(row(path, "SELECT * FROM publishers"))
        assert sorted(os.listdir(disk)) == ["traces.db"]


LIMITED = """
import resource, sys, time
from pathlib import Path
from tests.collector.messages import Sender, make_span
from ztrace_collector.storing.writer import Writer
path, lines, sender = Path(sys.argv[1]), [], Sender()
def batch(first, count):
    return [sender.data(*(make_span(n, attributes={"note": "x" * 400}) for n in range(first, first + count)))]
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
with Writer(path, say=lines.append) as writer:
    assert writer.write(batch(0, 100)).acknowledgements == {sender.incarnation: 1}
    size = Path(f"{path}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, unlimited[1]))
    assert writer.write(batch(100, 1000)).acknowledgements == {}
    for _ in range(3):
        time.sleep(writer.wait_s())
        assert writer.write().acknowledgements == {} and writer.holding
    assert len(lines) == 1 and "IOERR" in lines[0], lines
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    time.sleep(writer.wait_s())
    assert writer.write().acknowledgements == {sender.incarnation: 2}, lines
    assert len(lines) == 2, lines
    assert writer.write(batch(1100, 10)).acknowledgements == {sender.incarnation: 3}
print("held and stored")
"""


def _run_limited(folder: Path) -> None:
    """Run a writer with a limited file size in a separate process."""
    path = folder / "limited.db"
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(path)]
    child = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (child.stdout, child.stderr) == ("held and stored\n", "")
    assert count_spans(path) == 1110


@pytest.mark.process
@pytest.mark.slow
def test_a_limit_of_file_sizes_holds_as_well(tmp_path: Path) -> None:
    """A write that fails half way through a transaction loses nothing, and the file stays usable."""
    _run_limited(tmp_path)


@pytest.mark.process
def test_a_disk_is_not_written_to_its_end(tmp_path: Path, lines: Lines) -> None:
    """A disk is filled down to the minimum of free space, with checkpoints of the log near the end."""
    with small_disk(tmp_path / "disk", 16) as disk:
        if disk is None:
            _run_limited(tmp_path)
            return
        path = disk / "traces.db"
        sender = Sender()
        sent = 0
        with Writer(path, say=lines) as writer:
            while not writer.holding:
                writer.write([sender.data(*spans(100 * sent, 100))])
                sent += 1
                assert sent < 1000
            free = os.statvfs(disk)
            assert 0 < free.f_bavail * free.f_frsize <= 16 << 20
            assert count_spans(path) == 100 * (sent - 1)
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            # The usable space was used: stored spans take most of the disk.
            assert path.stat().st_size > 8 << 20
            assert writer.finish() == {}
        assert lines[-1].startswith("ended while holding: 1 message received and not stored")


@pytest.mark.process
def test_a_full_disk_at_the_start_holds(tmp_path: Path, lines: Lines) -> None:
    """A collector started on a full disk waits for space."""
    with small_disk(tmp_path / "disk", 16) as disk:
        if disk is None:
            _run_limited(tmp_path)
            return
        path = disk / "traces.db"
        filler = fill(disk)
        sender = Sender()
        with Writer(path, say=lines) as writer:
            assert writer.holding
            assert (writer.span_count, writer.publishers, writer.refused_count) == (0, {}, 0)
            writer.noted.note("frames", "meanwhile")
            assert writer.write([sender.data(make_span())]).acknowledgements == {}
            writer.tend()
            filler.unlink()
            assert until_stored(writer) == {sender.incarnation: 1}
            assert (writer.span_count, writer.refused_count) == (1, 1)
        assert len(lines) == 2


def test_another_programs_lock_holds(path: Path, lines: Lines) -> None:
    """Another program's lock holds the messages until it is released."""
    sender = Sender()
    with Writer(path, say=lines) as writer, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert writer.write([sender.data(make_span(0))]).acknowledgements == {}
        assert "another program is writing" in lines[0]
        other.execute("COMMIT")
        assert until_stored(writer) == {sender.incarnation: 1}
    assert len(lines) == 2


def test_nothing_to_store_is_no_transaction(path: Path, lines: Lines) -> None:
    """An idle writer starts no transaction."""
    with Writer(path, say=lines) as writer, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert writer.write().acknowledgements == {}
        assert not writer.holding
        other.execute("COMMIT")
    assert lines == []


def make_file(path: Path, messages: int = 40) -> Sender:
    """Create a file with several thousand spans; return their sender."""
    sender = Sender()
    with Store(path) as store:
        for number in range(messages):
            store.store([sender.data(*spans(50 * number, 50))])
    return sender


def test_a_damaged_file_is_set_aside_at_the_start(path: Path, lines: Lines) -> None:
    """A damaged file is renamed unchanged on opening, and a new file continues with balanced accounts."""
    sender = make_file(path)
    path.write_bytes(path.read_bytes()[: 5 * 4096 + 77])
    damaged = path.read_bytes()
    sender.floor, sender.retired = sender.sequence, sender.created
    with Writer(path, say=lines) as writer:
        assert writer.write([sender.data(make_span(9000)), sender.bye()]).acknowledgements == {
            sender.incarnation: 42
        }
    (line,) = lines
    (name,) = (each for each in path.parent.iterdir() if ".damaged-" in each.name)
    assert name.name in line
    assert ".recover" in line
    assert name.read_bytes() == damaged
    assert count_spans(path) == 1
    publisher = row(path, "SELECT * FROM publishers")
    assert is_balanced(publisher)
    assert publisher["spans_elsewhere"] == 2000


def test_a_name_that_is_taken_is_left_alone(
    path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files damaged in the same second get distinct names."""
    monkeypatch.setattr(time, "strftime", lambda form: "20260131T141500")
    names = []
    for _ in range(3):
        make_file(path, 2)
        path.write_bytes(path.read_bytes()[:8192])
        with Writer(path, say=lines):
            pass
        names.append(lines[-1].split(" was renamed to ")[1].split(";")[0])
    first = "traces.db.damaged-20260131T141500"
    assert names == [first, f"{first}-2", f"{first}-3"]
    assert set(names) <= set(os.listdir(path.parent))


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_stop_a_collector_for_long(path: Path, lines: Lines, seed: int) -> None:
    """A collector stores new spans in a file with random damage, or in a new file beside it.

    Damage that SQLite's check misses, and that prevents opening, is an error that leaves the file alone.
    """
    rng = random.Random(seed)
    sender = make_file(path, 20)
    content = bytearray(path.read_bytes())
    # The first page identifies the file; other tests damage it.
    for at in [rng.randrange(4096, len(content)) for _ in range(rng.choice((1, 10, 300)))]:
        content[at] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    inode = path.stat().st_ino
    sender.floor, sender.retired = sender.sequence, sender.created
    try:
        with Writer(path, say=lines) as writer:
            for number in range(5):
                written = writer.write([sender.data(*spans(9000 + 50 * number, 50))])
                assert written.acknowledgements == {sender.incarnation: 21 + number}
                sender.floor, sender.retired = sender.sequence, sender.created
    except DatabaseCorrupt:
        assert is_sound(path)
        assert lines == []
        assert [(each.name, each.stat().st_ino) for each in path.parent.iterdir()] == [(path.name, inode)]
        return
    assert len(lines) <= 1
    # The latest spans are readable; earlier ones may be damaged.
    last = rows(path, "SELECT trace_id FROM spans ORDER BY id DESC LIMIT 50")
    assert {each["trace_id"] for each in last} == {trace_id(9200 + number) for number in range(50)}
    assert inode in {each.stat().st_ino for each in path.parent.iterdir()}


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))]
)
def test_damage_while_it_writes_is_set_aside(path: Path, lines: Lines, seed: int) -> None:
    """A file damaged under a running collector is set aside when the damage is met, and storing continues."""
    rng = random.Random(seed)
    sender = make_file(path, 20)
    with Writer(path, say=lines) as writer:
        with open(path, "r+b") as file:
            pages = path.stat().st_size // 4096
            for page in rng.sample(range(pages), pages // 2) if seed else [0]:
                file.seek(4096 * page)
                file.write(bytes(4096))
        for number in range(20):
            sender.floor, sender.retired = sender.sequence, sender.created
            written = writer.write([sender.data(*spans(9000 + 50 * number, 50))])
            assert written.acknowledgements == {sender.incarnation: 21 + number}
        sender.floor, sender.retired = sender.sequence, sender.created
    assert len(lines) <= 1
    with Writer(path, say=lines) as writer:
        assert writer.write([sender.data(make_span(99_999))]).acknowledgements == {sender.incarnation: 41}
    assert len(lines) <= 2


def test_a_file_whose_first_page_is_lost_is_known_as_ours(path: Path, lines: Lines) -> None:
    """A file whose first page is zeroed is set aside as damaged."""
    make_file(path)
    with open(path, "r+b") as file:
        file.write(bytes(4096))
    with Writer(path, say=lines) as writer:
        assert writer.write([Sender(1).data(make_span())]).acknowledgements
    assert "is damaged" in lines[0]


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_file_that_is_moved_away_is_noticed(path: Path, lines: Lines, how: str) -> None:
    """A file moved away is noticed, and acknowledged spans are in the file under the original name."""
    sender, moved = Sender(), path.with_name("moved.db")
    with Writer(path, say=lines) as writer:
        writer.write([sender.data(*spans(0, 100))])
        if how == "deleted":
            path.unlink()
        else:
            path.rename(moved)
        if how == "replaced":
            with Store(path.with_name("other.db")) as other:
                other.store([Sender(2).data(*spans(5000, 100))])
            path.with_name("other.db").rename(path)
        sender.floor, sender.retired = sender.sequence, sender.created
        assert writer.write([Sender(1).data(*spans(1000, 10))]).acknowledgements
        assert writer.write([sender.data(*spans(2000, 10))]).acknowledgements == {sender.incarnation: 2}
    assert lines == [f"{path} was moved away; continuing with the file of that name, or a new one"]
    assert count_spans(path) == (120 if how == "replaced" else 20)
    if how != "deleted":
        assert count_spans(moved) == 100


@pytest.mark.process
def test_a_damaged_log_is_nothing_to_do(path: Path, lines: Lines) -> None:
    """SQLite drops the transactions of a damaged log from the damage on, without an error."""
    code = (
        "import os, sys; from pathlib import Path; from tests.collector.messages import Sender, make_span;"
        "from ztrace_collector.storing.store import Store;"
        "store = Store(Path(sys.argv[1])); sender = Sender();"
        "[store.store([sender.data(make_span(n))]) for n in range(20)]; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    log = Path(f"{path}-wal")
    content = bytearray(log.read_bytes())
    content[-5000] ^= 0xFF
    log.write_bytes(content)
    with Writer(path, say=lines) as writer:
        assert writer.write([Sender(1).data(make_span(100))]).acknowledgements == {Sender(1).incarnation: 1}
    assert lines == []
    assert count_spans(path) == 20


@pytest.mark.parametrize("content", [b"dear diary, " * 5000, bytes(10_000), b"\0" * 4096 + b"CREATE TABLE"])
def test_a_file_that_is_not_ours_is_never_moved(path: Path, lines: Lines, content: bytes) -> None:
    """A file that is no database is refused and left unchanged."""
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match="not an SQLite database"), Writer(path, say=lines):
        pass
    assert lines == []
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == content


def damage(path: Path) -> None:
    """Overwrite all pages of a file but the first."""
    with open(path, "r+b") as file:
        size = path.stat().st_size
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


def test_a_disk_that_damages_every_file_ends_the_collector(
    path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second file damaged before anything is stored ends the collector."""
    make_file(path, 2)

    def fail(self: Store, *brought: object) -> Written:
        self.checkpoint()
        damage(path)
        raise DatabaseCorrupt("damaged again")

    with Writer(path, say=lines) as writer:
        monkeypatch.setattr(Store, "store", fail)
        with pytest.raises(DatabaseCorrupt):
            writer.write([Sender().data(make_span())])
    assert len(lines) == 1
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_the_file_is_checked_once_in_ten_minutes(
    path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two checks a file that SQLite calls malformed is held; the next check replaces it."""
    now_s = [1000.0]
    checked: list[Path] = []

    def check(path: Path) -> bool:
        checked.append(path)
        return is_sound(path)

    monkeypatch.setattr(module, "is_sound", check)
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    sender = make_file(path, 2)
    with Writer(path, say=lines) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "store", raising(TypeError("a defect")))
            writer.write([Sender(1).data(make_span(0))])
            assert len(checked) == 1
        with monkeypatch.context() as patch:

            def fail(self: Store, *brought: object) -> Written:
                self.checkpoint()
                damage(path)
                raise DatabaseCorrupt("damaged")

            patch.setattr(Store, "store", fail)
            assert writer.write([sender.data(make_span(9000))]).acknowledgements == {}
        assert writer.holding
        for _ in range(5):
            now_s[0] += 100
            assert writer.write().acknowledgements == {}
        assert (len(checked), len(list(path.parent.glob("*.damaged-*")))) == (1, 0)
        now_s[0] += 101
        sender.floor, sender.retired = sender.sequence, sender.created
        assert writer.write([sender.beat()]).acknowledgements == {sender.incarnation: 3}
    assert (len(checked), len(list(path.parent.glob("*.damaged-*")))) == (2, 1)


def raising(error: Exception) -> Callable[..., Written]:
    """Return a method that raises an error, whatever its arguments."""

    def fail(self: object, *arguments: object, **named: object) -> Written:
        raise error

    return fail
