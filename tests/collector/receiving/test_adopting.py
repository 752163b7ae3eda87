"""Spools of dead processes, stored and counted by the collector itself."""

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, is_balanced, make_span, pack_body, row, rows
from ztrace.spooling.adoption import Adoption
from ztrace.spooling.files import RECORD_BYTES
from ztrace.spooling.spool import Spool
from ztrace.wire import Identity
from ztrace_collector.layout import NOT_DELIVERED, PROCESS_CRASHED, QUEUE_FULL
from ztrace_collector.receiving.adopting import Adopter
from ztrace_collector.storing.store import Store

BATCH = 10


class Owner:
    """Process with a spool, until it is killed."""

    def __init__(self, folder: Path, number: int = 0, limit_bytes: int = 64 << 20) -> None:
        self.incarnation = bytes([number + 1]) * 16
        self.spool = Spool(folder, Identity(self.incarnation, "billing", "desk", 42, EPOCH_NS), limit_bytes)
        self.number = number
        self.sequence = self.spans = 0

    def end_spans(self, count: int) -> None:
        """Count spans as created."""
        for _ in range(count):
            self.spool.count()

    def write(self, batches: int = 1, **attributes: Any) -> None:
        """Count and append batches of ten spans."""
        for _ in range(batches):
            self.end_spans(BATCH)
            first = 1_000_000 * self.number + self.spans
            body = pack_body([make_span(first + at, attributes=attributes) for at in range(BATCH)])
            try:
                self.spool.append(self.sequence, self.spans, BATCH, EPOCH_NS, EPOCH_NS + 1, body)
            except OSError:
                pass
            self.sequence += 1
            self.spans += BATCH

    def kill(self) -> None:
        """Release what the kernel releases for a killed process."""
        self.spool._close_files()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the path of a spool folder that does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store with its own file."""
    with Store(tmp_path / "spans.db") as store:
        yield store


@contextmanager
def adopting(folder: Path, store: Store) -> Iterator[Adopter]:
    """Yield an adopter that writes to a store, and assert that it reports nothing."""
    said: list[str] = []
    with closing(
        Adopter(folder, lambda taken: store.store(taken).acknowledgements, said.append, 0.0)
    ) as adopter:
        yield adopter
    assert said == []


def adopt_all(folder: Path, store: Store) -> int:
    """Adopt until nothing is left, and return the number of steps."""
    with adopting(folder, store) as adopter:
        bites = 1
        while adopter.step(0.0):
            bites += 1
        return bites


def balanced(path: Path) -> bool:
    """Return whether the only publisher's account balances."""
    return is_balanced(row(path, "SELECT * FROM publishers"))


def losses(path: Path) -> dict[str, int]:
    """Return the number of lost spans by reason."""
    return {
        each["reason"]: each["spans"]
        for each in rows(path, "SELECT reason, sum(span_count) AS spans FROM losses GROUP BY reason")
    }


def test_what_was_left_is_stored_and_the_rest_counted(folder: Path, store: Store, tmp_path: Path) -> None:
    """Every span left in a spool is stored or counted as crashed, and the folder is empty."""
    owner = Owner(folder)
    owner.write(25)
    owner.end_spans(7)
    owner.spool.note_counts(3, 0)
    owner.kill()
    assert adopt_all(folder, store) > 1
    path = tmp_path / "spans.db"
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": 250}
    publisher = row(path, "SELECT state, spans_created, spans_stored FROM publishers")
    assert publisher == {"state": "crashed", "spans_created": 257, "spans_stored": 250}
    assert losses(path) == {PROCESS_CRASHED: 4, QUEUE_FULL: 3}
    assert balanced(path)
    assert list(folder.iterdir()) == []


def test_a_publisher_that_ended_with_a_rest_has_not_crashed(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    """A spool of a publisher that ended normally is stored, and its unwritten spans count as undelivered."""
    owner = Owner(folder)
    owner.write(2)
    owner.end_spans(5)
    owner.spool.close(delivered=False)
    adopt_all(folder, store)
    path = tmp_path / "spans.db"
    assert row(path, "SELECT state, spans_stored FROM publishers") == {"state": "ended", "spans_stored": 20}
    assert losses(path) == {NOT_DELIVERED: 5}
    assert balanced(path)


@pytest.mark.parametrize("heard", [0, 1, 2, 3])
def test_what_the_collector_has_already_is_not_stored_twice(
    folder: Path, store: Store, tmp_path: Path, heard: int
) -> None:
    """Batches already stored are not stored again, whatever the dead process knew of them."""
    path = tmp_path / "spans.db"
    owner = Owner(folder)
    owner.write(5)
    owner.kill()
    copy = {each.name: each.read_bytes() for each in folder.iterdir()}
    taken: list[Sequence[bytes]] = []

    def take(messages: Sequence[Sequence[bytes]]) -> Mapping[bytes, int]:
        taken.extend(messages)
        return {}

    with closing(Adopter(folder, take, print, 0.0)) as adopter:
        adopter.step(0.0)
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == copy
    store.store(taken[:heard])
    adopt_all(folder, store)
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": 50}
    assert losses(path) == {}
    assert balanced(path)


def test_damaged_and_missing_batches_are_counted(folder: Path, store: Store, tmp_path: Path) -> None:
    """Batches damaged, truncated or without room are counted as lost, and the others are stored."""
    owner = Owner(folder, limit_bytes=40_000)
    owner.write(3)
    owner.write(1, blob="x" * 4000)
    owner.write(4)
    owner.kill()
    (segment,) = folder.glob("*.spans")
    content = bytearray(segment.read_bytes())
    marks = [at for at in range(len(content)) if content[at : at + 4] == b"ZTB\x01"]
    assert len(marks) == 7
    content[marks[1] + RECORD_BYTES + 50] ^= 1
    content[marks[3] + 20] ^= 1
    segment.write_bytes(content[:-5])
    adopt_all(folder, store)
    path = tmp_path / "spans.db"
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": 40}
    assert sum(losses(path).values()) == 40
    assert balanced(path)


def test_each_of_many_is_adopted(folder: Path, store: Store, tmp_path: Path) -> None:
    """All spools of dead processes are adopted one by one, and those of living ones left alone."""
    owners = [Owner(folder, number) for number in range(6)]
    for owner in owners[:5]:
        owner.write(owner.number + 1)
    for owner in owners[1:]:
        owner.kill()
    adopt_all(folder, store)
    path = tmp_path / "spans.db"
    assert row(path, "SELECT count(*) AS spans FROM spans") == {"spans": 140}
    assert len(rows(path, "SELECT * FROM publishers WHERE state = 'crashed'")) == 4
    assert {each.name.split(".")[0] for each in folder.iterdir()} == {owners[0].incarnation.hex()}
    owners[0].kill()


def test_a_bite_is_small(folder: Path, store: Store) -> None:
    """Each step adopts a limited number of bytes, so network messages do not wait long."""
    owner = Owner(folder)
    owner.write(30, blob="x" * 40_000)
    owner.kill()
    sizes = []

    def write(messages: Sequence[Sequence[bytes]]) -> Mapping[bytes, int]:
        sizes.append(sum(len(body) for _, _, body in messages))
        return store.store(messages).acknowledgements

    with closing(Adopter(folder, write, print, 0.0)) as adopter:
        while adopter.step(0.0):
            pass
    assert len(sizes) > 5
    assert max(sizes) < 1_600_000


def test_the_folder_is_looked_through_again(folder: Path, store: Store, tmp_path: Path) -> None:
    """The folder is scanned again after ten seconds."""
    with adopting(folder, store) as adopter:
        assert not adopter.step(0.0)
        owner = Owner(folder)
        owner.write()
        owner.kill()
        assert not adopter.step(9.0)
        while adopter.step(10.0):
            pass
    assert row(tmp_path / "spans.db", "SELECT count(*) AS spans FROM spans") == {"spans": 10}


def test_a_store_that_holds_is_asked_again(folder: Path, store: Store, tmp_path: Path) -> None:
    """Batches that a holding store did not accept are offered again later, and stored once."""
    owner = Owner(folder)
    owner.write(3)
    owner.kill()
    held: list[Sequence[bytes]] = []

    def write(messages: Sequence[Sequence[bytes]]) -> Mapping[bytes, int]:
        if len(held) < 4:
            held.extend(messages)
            return {}
        return store.store(messages).acknowledgements

    with closing(Adopter(folder, write, print, 0.0)) as adopter:
        assert adopter.step(0.0)
        assert not adopter.step(1.0)
        store.store(held)
        for now_s in range(2, 20):
            adopter.step(now_s)
    assert row(tmp_path / "spans.db", "SELECT count(*) AS spans FROM spans") == {"spans": 30}
    assert balanced(tmp_path / "spans.db")
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_trusted_is_said_once(folder: Path, store: Store) -> None:
    """An insecure folder is reported once and not read."""
    folder.mkdir()
    folder.chmod(0o777)
    said: list[str] = []
    with closing(
        Adopter(folder, lambda taken: store.store(taken).acknowledgements, said.append, 0.0)
    ) as adopter:
        for now_s in (0.0, 10.0, 20.0):
            assert not adopter.step(now_s)
    assert said == [f"cannot adopt from {folder}: others may write to {folder}: chmod go-w"]


def test_a_failing_store_leaves_the_files(folder: Path) -> None:
    """An error of the store propagates and leaves the spool in place."""
    owner = Owner(folder)
    owner.write(2)
    owner.kill()

    def write(messages: Sequence[Sequence[bytes]]) -> Mapping[bytes, int]:
        raise sqlite3.OperationalError("no")

    with closing(Adopter(folder, write, print, 0.0)) as adopter, pytest.raises(sqlite3.OperationalError):
        adopter.step(0.0)
    assert len(os.listdir(folder)) == 2


def test_a_process_with_a_key_takes_over_its_own_service_alone(folder: Path) -> None:
    """A process with a key adopts spools of its own service only; the collector would refuse the others."""
    owner = Owner(folder)
    owner.write()
    owner.kill()
    sent: list[Sequence[bytes]] = []

    def send(frames: Sequence[bytes]) -> bool:
        sent.append(frames)
        return True

    for service, found in (("shop", False), ("billing", True), (None, True)):
        adoption = Adoption(folder, 0.0, service)
        assert adoption.step(send, 0.0) is found
        adoption.close()
    assert len(sent) == 4
