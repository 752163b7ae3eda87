"""Trees and errors as they arrive in ClickHouse, from several journals, and from a server that goes away."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.viewer.stored import NOON, message, raised, span, trace_id
from tests.viewer.stores.filling import copy_to_clickhouse
from tests.viewer.stores.mixed import NOW
from tests.viewer.web.serving import DEADLINE_S, served
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries import arrivals
from ztrace_viewer.queries.arrivals import ArrivalFollower
from ztrace_viewer.queries.following import Follower, follow
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, open_clickhouse
from ztrace_viewer.queries.stores.sqlite.store import open_file

pytestmark = [pytest.mark.scale, pytest.mark.process]

#: Arrival of the first block, in milliseconds.
FIRST_MS = NOON // 1_000_000

Look = Callable[[], list[tuple[str, str]]]


class _Ended(Exception):
    """The test has ended."""


class Sender:
    """Sender of a file's new rows to a database, in one block with a chosen time of arrival."""

    def __init__(self, path: Path, url: str, journal: str = "0" * 32) -> None:
        self._path, self._url, self._journal = path, url, journal
        self._place = self._publishers = 0

    def send(self, trace: bytes, *spans: Any, arrived_ms: int) -> None:
        """Store spans of a trace, each a number, a parent and a name, and send them."""
        self._publishers += 1
        made = [
            span(trace, number, parent, name=name, exception=exception)
            for number, parent, name, exception in spans
        ]
        with Store(self._path) as store:
            store.store([message("shop", made, self._publishers)])
        self._place = copy_to_clickhouse(
            self._path, self._url, self._journal, place=self._place, arrived_ms=arrived_ms
        )


def tell(event: Any) -> tuple[str, str]:
    """Return what an event is, and the name of its root or origin."""
    return event["event"], event["name"]


def test_a_tree_is_told_once_whenever_its_blocks_commit(
    tmp_path: Path, engine: Engine, database: str
) -> None:
    """A tree is told once its spans have stopped arriving, also from a journal whose clock is behind."""
    sender = Sender(tmp_path / "z.db", engine.url(database))
    late = Sender(tmp_path / "late.db", engine.url(database), "1" * 32)
    sender.send(trace_id(1), (1, None, "before", raised("OldError", "no")), arrived_ms=FIRST_MS)
    sender.send(trace_id(2), (2, 1, "part", None), arrived_ms=FIRST_MS + 1)
    with open_clickhouse(read_address(engine.url(database))) as store:
        follower = ArrivalFollower(store, EVERYTHING)

        def look() -> list[tuple[str, str]]:
            return [tell(event) for event in follower.look(ClickHouseStore(store.reader))]

        assert look() == look() == []
        # The root of a tree that had none.
        sender.send(trace_id(2), (1, None, "pending", None), arrived_ms=FIRST_MS + 2_000)
        assert look() == []
        assert look() == [("trace", "pending")]
        # An error is told at once; another span of its tree arrives between two looks.
        failed = raised("NewError", "no")
        sender.send(trace_id(3), (1, None, "failing", failed), arrived_ms=FIRST_MS + 3_000)
        assert look() == [("error", "failing")]
        sender.send(trace_id(3), (2, 1, "part", None), arrived_ms=FIRST_MS + 4_000)
        assert look() == []
        assert look() == [("trace", "failing")]
        # A journal that is new, and whose blocks are of earlier moments.
        failed = raised("OldError", "no")
        late.send(trace_id(4), (1, None, "late", failed), arrived_ms=FIRST_MS - 3_600_000)
        assert look() == [("error", "late")]
        late.send(trace_id(5), (1, None, "later", None), arrived_ms=FIRST_MS - 3_500_000)
        assert look() == [("trace", "late")]
        assert look() == [("trace", "later")]
        # Late spans of trees that were told, and of one that was there at the start.
        for number in (1, 2, 4):
            sender.send(trace_id(number), (7, 1, "late part", None), arrived_ms=FIRST_MS + 5_000)
        assert look() == look() == look() == []


@pytest.mark.parametrize("selection", [Selection(since_ns=NOON), Selection(NOON, None, "shop", "pay")])
def test_what_was_stored_before_is_told_alike(
    both: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, selection: Selection
) -> None:
    """Trees and errors since a moment are the same events from either store."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    with open_file(both[0], snapshot=False) as file:
        of_file = Follower(file, selection)
        one = [event for _ in range(3) for event in of_file.look()]
    monkeypatch.setattr(arrivals, "PAGE", 5)
    with open_clickhouse(read_address(both[1])) as store:
        follower = ArrivalFollower(store, selection)
        other = [event for _ in range(3) for event in follower.look(ClickHouseStore(store.reader))]
    assert one
    assert sorted(other, key=repr) == sorted(one, key=repr)


def test_a_server_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    """Trees are told once while the server is killed and started; the page says so, and answers again."""
    events: SimpleQueue[tuple[str, str]] = SimpleQueue()
    told: SimpleQueue[str] = SimpleQueue()
    begun, ended = threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        begun.set()
        if ended.wait(0.2):
            raise _Ended

    def run() -> None:
        try:
            for event in follow(read_address(url), EVERYTHING, pause, told.put):
                events.put(tell(event))
        except _Ended:
            return

    with Engine(tmp_path / "engine") as engine:
        url = engine.url("away")
        sender = Sender(tmp_path / "z.db", url)
        sender.send(trace_id(1), (1, None, "before", None), arrived_ms=FIRST_MS)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            with served(url) as site:
                assert begun.wait(DEADLINE_S)
                sender.send(trace_id(2), (1, None, "first", None), arrived_ms=FIRST_MS + 1_000)
                assert events.get(timeout=DEADLINE_S) == ("trace", "first")
                engine.kill()
                assert told.get(timeout=DEADLINE_S).startswith(f"cannot reach {url}")
                answer = site.ask("/data/slow")
                assert answer.status == 503
                assert answer.document["error"].startswith(f"cannot reach {url}: Connection refused")
                engine.start()
                sender.send(trace_id(3), (1, None, "second", None), arrived_ms=FIRST_MS + 2_000)
                assert events.get(timeout=DEADLINE_S) == ("trace", "second")
                assert len(site.get("/data/slow")["traces"]) == 3
        finally:
            ended.set()
            thread.join()
    assert events.empty()
    assert told.empty(), told.get()
