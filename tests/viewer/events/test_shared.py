"""Events of a database that several processes look into: each is told once, or known to be lost."""

import random
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from ztrace.errors import DatabaseError
from ztrace_collector.clickhouse.address import read_address
from ztrace_viewer.events import sources
from ztrace_viewer.events.sources import SharedSource
from ztrace_viewer.queries.events import REGRESSED_GROUP
from ztrace_viewer.queries.stores.clickhouse.told import Event, Pending, State

#: Most events of a look.
LIMIT = 3


class Engine:
    """Database whose calls fail at random, with their effect or without.

    Attributes:
        groups: those that are stored.
        resolved: moments at which groups that have regressed were resolved.
        told: what is told, with its moment.
        state: the last one.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.groups: list[str] = []
        self.resolved: dict[str, int] = {}
        self.told: dict[tuple[str, str], int] = {}
        self.state: State | None = None
        self.failing = 0.05

    @contextmanager
    def open(self) -> Iterator["Engine"]:
        """Yield a connection."""
        yield self

    @contextmanager
    def within(self, deadline: object) -> Iterator[None]:
        """Do nothing: there is no deadline."""
        yield

    def fail(self) -> None:
        """Raise an error at times."""
        if self.chance.random() < self.failing:
            raise DatabaseError("the engine is away")

    def read(self) -> State | None:
        """Return the last state."""
        self.fail()
        return self.state

    def write(self, state: State | None, events: Sequence[Event], pending: Mapping[str, Pending]) -> bool:
        """Write the next state, if it is the next."""
        self.fail()
        if (state and state.number) != (self.state and self.state.number):
            return False
        self.told |= {(event, key): moment for event, key, moment in events}
        self.state = State(state.number + 1 if state else 1, dict(pending))
        self.fail()
        return True

    def moments(self, event: str) -> dict[str, int]:
        """Return what is told of a kind of event."""
        self.fail()
        return {key: moment for (kind, key), moment in self.told.items() if kind == event}

    def list_groups(self, but: str | None = None) -> list[str]:
        """Return the groups of which nothing is told."""
        self.fail()
        return [each for each in self.groups if but is None or (but, each) not in self.told]

    def regressed(self) -> dict[str, int]:
        """Return the groups that have regressed."""
        self.fail()
        return dict(self.resolved)

    def settled(self, groups: Collection[str]) -> dict[str, int]:
        """Return some moment for all groups."""
        self.fail()
        return dict.fromkeys(groups, 10**9)


class ToldByEngine:
    """What is told, by the engine of a test."""

    def __init__(self, engine: Engine) -> None:
        self.read, self.write, self.moments = engine.read, engine.write, engine.moments
        self.groups, self.regressed, self.settled = engine.list_groups, engine.regressed, engine.settled


class Process:
    """Process that looks into the database, and delivers what it finds."""

    def __init__(self, engine: Engine) -> None:
        self.source = SharedSource(read_address("clickhouse://127.0.0.1/shop"), None)
        self.source._pool = engine  # type: ignore[assignment]
        self.pending: list[Any] = []
        self.left_out = 0

    def look(self) -> None:
        """Look for events, as a watcher does."""
        found = self.source.look(0, LIMIT)
        self.pending += found.events
        self.left_out += sum(number for number, _ in found.left_out)

    def keep(self) -> None:
        """Note what is pending."""
        if not self.source.keep(len(self.pending)):
            self.pending.clear()


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock, and what needs a store; return the time, which a test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sources, "Told", ToldByEngine)
    monkeypatch.setattr(sources, "read_group", lambda store, group: group)
    monkeypatch.setattr(sources, "describe_group", lambda event, page, now_ns: event)
    monkeypatch.setattr(sources, "find_slower", lambda store, now_ns: [])
    return now


def test_each_event_is_told_once_or_counted(now_s: list[float]) -> None:
    """Processes that overlap, are killed and lose connections repeat no event, and count those they lose."""
    assert sum(run(seed, now_s) for seed in range(60))


def run(seed: int, now_s: list[float]) -> int:
    """Run some processes for a while; return the number of events that they have lost."""
    chance = random.Random(seed)
    engine = Engine(chance)
    processes, ended = [Process(engine) for _ in range(3)], list[Process]()
    delivered = Counter[Any]()

    def act(number: int, *, is_calm: bool = False) -> None:
        process = processes[number]
        what = chance.random()
        try:
            if what < 0.02 and not is_calm:
                ended.append(process)
                processes[number] = Process(engine)
            elif what < 0.6 or not process.pending:
                process.look()
                process.keep()
            else:
                delivered[process.pending.pop(0)] += 1
                if what < 0.95 or is_calm:
                    process.keep()
        except DatabaseError:
            pass

    for _ in range(10):
        act(0)
    for step in range(120):
        now_s[0] += chance.choice((0.1, 1.0, 20.0))
        if engine.state is not None and chance.random() < 0.3:
            engine.groups.append(f"group{step}")
        if engine.state is not None and engine.groups and chance.random() < 0.1:
            engine.resolved[chance.choice(engine.groups)] = step
        act(chance.randrange(3))
    engine.failing = 0.0
    for _ in range(150):
        now_s[0] += 20.0
        act(chance.randrange(3), is_calm=True)
    assert engine.state is not None
    assert engine.state.pending == {}
    # A group may be resolved and regress several times, each time of which is told once.
    new = Counter({event: count for event, count in delivered.items() if event.event != REGRESSED_GROUP})
    assert max(new.values(), default=1) == 1
    left_out = sum(process.left_out for process in processes + ended)
    told = sum(1 for kind, _ in engine.told if kind == "new_group")
    assert told == len(engine.groups)
    assert sum(new.values()) + left_out >= told
    return left_out
