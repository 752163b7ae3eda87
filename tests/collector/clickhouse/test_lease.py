"""The lease: one process holds it, another one when that is gone, in thousands of simulated runs."""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import greenlet
import pytest

from tests.clickhouse import Engine
from ztrace_collector.clickhouse.address import ClickHouseAddress, read_address
from ztrace_collector.clickhouse.batches import read_last, write_ahead
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.lease import LEASE_S, RENEW_S, WAIT_S, EngineClaims, Lease
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.tasks import AGAIN_S, LeasedTasks, MakeTask

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Simulated runs of each test.
SEEDS = 700
#: Duration of a run, simulated.
RUN_S = 200.0
#: Interval at which a process calls `keep`, while the engine answers.
TURN_S = 1.0


@dataclass
class Row:
    """Claim in the simulated engine, with the times of its visible states: (visible from, renewed)."""

    since_s: float
    states: list[tuple[float, float]] = field(default_factory=list)


class World:
    """Simulated time, in which processes run as greenlets, and the engine's table."""

    def __init__(self, seed: int, slowest_insert_s: float) -> None:
        self.chance = random.Random(seed)
        self.slowest_insert_s = slowest_insert_s
        self.now_s = 0.0
        self.rows: dict[str, Row] = {}
        self._ids = count(1)
        self._numbers = count()
        self._agenda: list[tuple[float, int, greenlet.greenlet]] = []
        #: Times at which each process held, at the ends of its turns.
        self.held: list[tuple[float, int]] = []

    def make_id(self) -> str:
        """Return ids in random order."""
        return f"{self.chance.random()}-{next(self._ids)}"

    def start(self, run: Callable[[], None]) -> None:
        """Start a process."""
        self._plan(0.0, greenlet.greenlet(run))

    def wait(self, duration_s: float) -> None:
        """Let a time pass for the current process."""
        here = greenlet.getcurrent()
        self._plan(duration_s, here)
        assert here.parent is not None
        here.parent.switch()

    def _plan(self, delay_s: float, process: greenlet.greenlet) -> None:
        heapq.heappush(self._agenda, (self.now_s + delay_s, next(self._numbers), process))

    def run(self) -> None:
        """Run until the end; processes that still run are abandoned."""
        while self._agenda and self.now_s < RUN_S:
            self.now_s, _, process = heapq.heappop(self._agenda)
            process.switch()


class SimulatedClaims:
    """Claims over a connection that delays each request and answer, and each insert until it is visible."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _travel(self) -> None:
        chance = self._world.chance
        self._world.wait(chance.choice((0.001, 0.05, 1.0)) * chance.random())

    def read(self) -> list[str]:
        """Return the live claims that are visible when the request arrives."""
        self._travel()
        now_s, found = self._world.now_s, []
        for claim, row in self._world.rows.items():
            seen = [renewed_s for visible_s, renewed_s in row.states if visible_s <= now_s]
            if seen and seen[-1] > now_s - LEASE_S:
                found.append((row.since_s, claim))
        self._travel()
        return [claim for _, claim in sorted(found)]

    def make(self, claim: str) -> None:
        """Insert a claim."""
        self._travel()
        self._insert(claim, self._world.now_s)

    def renew(self, claim: str, revision: int) -> None:
        """Insert a new state of a claim."""
        self._travel()
        self._insert(claim, self._world.now_s)

    def withdraw(self, claim: str, revision: int) -> None:
        """Insert an expired state of a claim."""
        self._travel()
        self._insert(claim, -LEASE_S)

    def _insert(self, claim: str, renewed_s: float) -> None:
        world = self._world
        row = world.rows.setdefault(claim, Row(world.now_s))
        world.wait(world.chance.choice((0.01, 1.0)) * world.chance.random() * world.slowest_insert_s)
        row.states.append((world.now_s, renewed_s))
        self._travel()


def run_processes(
    seed: int, slowest_insert_s: float, number: int = 3
) -> tuple[World, dict[int, list[tuple[float, float]]]]:
    """Run processes, of which each may vanish, end or stall; return the world, and when each one held."""
    world = World(seed, slowest_insert_s)
    held: dict[int, list[tuple[float, float]]] = {process: [] for process in range(number)}
    begin_together = world.chance.random() < 0.5

    def live(process: int) -> None:
        ahead_s = world.chance.random() * 1000
        lease = Lease(clock_s=lambda: world.now_s + ahead_s, make_id=world.make_id)
        claims = SimulatedClaims(world)
        if not begin_together:
            world.wait(world.chance.random() * 20)
        # The last one stays, so that there is always one that may hold.
        fate_s = RUN_S if process == number - 1 else world.chance.random() * RUN_S * 0.5
        fate = world.chance.choice(("killed", "ended", "stalled"))
        while True:
            lease.keep(claims)
            # What a task does: it looks whether the lease is held, and works for a moment.
            if lease.held():
                began_s = world.now_s
                world.wait(0.1)
                if lease.held():
                    held[process].append((began_s, world.now_s))
            if world.now_s > fate_s:
                if fate == "killed":
                    return
                if fate == "ended":
                    lease.withdraw(claims)
                    return
                world.wait(world.chance.random() * 3 * LEASE_S)
                fate_s = RUN_S
            world.wait(TURN_S)

    for process in range(number):
        world.start(lambda process=process: live(process))  # type: ignore[misc]
    world.run()
    return world, held


def overlaps(held: dict[int, list[tuple[float, float]]]) -> Iterator[float]:
    """Yield the times at which one process worked while another one did."""
    spans = sorted((begin_s, end_s, process) for process, each in held.items() for begin_s, end_s in each)
    latest_s, latest = -1.0, -1
    for begin_s, end_s, process in spans:
        if begin_s < latest_s and process != latest:
            yield begin_s
        if end_s > latest_s:
            latest_s, latest = end_s, process


def test_two_processes_never_hold_at_once() -> None:
    """As long as inserts are visible within the wait, one process holds, whichever vanish, end or stall."""
    for seed in range(SEEDS):
        _, held = run_processes(seed, WAIT_S)
        assert [*overlaps(held)] == [], seed


def test_a_holder_that_is_gone_is_replaced() -> None:
    """There is a holder again soon, also where two processes vanish one after the other."""
    for seed in range(SEEDS):
        _, held = run_processes(seed, WAIT_S)
        times = sorted(begin_s for each in held.values() for begin_s, _ in each)
        gaps = [after_s - before_s for before_s, after_s in zip([0.0, *times], [*times, RUN_S], strict=True)]
        assert max(gaps) < 3 * LEASE_S, seed


def test_two_holders_are_soon_one() -> None:
    """Where inserts are visible too late, two processes hold for two renewals at most, and one goes on."""
    overlapped = 0
    for seed in range(SEEDS):
        _, held = run_processes(seed, 5 * WAIT_S)
        found = [*overlaps(held)]
        overlapped += bool(found)
        for begin_s in found:
            near = [each for each in found if begin_s <= each < begin_s + 10 * RENEW_S]
            assert near[-1] - begin_s < 2 * (RENEW_S + 5 * WAIT_S), seed
    assert overlapped


@pytest.fixture
def address(engine: Engine, database: str) -> ClickHouseAddress:
    """Return the address of a database with tables."""
    address = read_address(engine.url(database), {})
    initialize(address, Layout(), lambda line: None)
    return address


class Counter:
    """Task that counts its steps, of which it has three to do each time."""

    def __init__(self, steps: list[int]) -> None:
        self._steps = steps

    def step(self) -> bool:
        """Count a step."""
        self._steps.append(len(self._steps))
        return len(self._steps) % 3 > 0


class Part:
    """One process's part in the lease of a real engine.

    Attributes:
        steps: the steps that its task has done.
    """

    def __init__(self, client: "Client", clock_s: Callable[[], float]) -> None:
        self.steps: list[int] = []
        claims, lease = EngineClaims(client, "1" * 32), Lease(clock_s=clock_s)
        self.tasks = LeasedTasks(client, claims, lease, [lambda _: Counter(self.steps)], clock_s=clock_s)

    def run(self) -> int:
        """Run what is to be done; return the number of steps so far."""
        self.tasks.run(1)
        return len(self.steps)


@pytest.mark.scale
@pytest.mark.process
def test_a_lease_of_a_real_engine_changes_hands(address: ClickHouseAddress) -> None:
    """Tasks run where the lease is held, and elsewhere once it is given back or has expired."""
    now_s = 0.0
    with open_engine(address) as client:
        first, second, third = (Part(client, lambda: now_s) for _ in range(3))
        assert (first.run(), second.run()) == (0, 0)
        now_s += WAIT_S
        assert (first.run(), second.run()) == (3, 0)
        first.tasks.end()
        now_s += RENEW_S
        assert (second.run(), first.run()) == (0, 3)
        now_s += WAIT_S
        assert (second.run(), first.run()) == (3, 3)
        # The second process vanishes, and its claim expires.
        assert third.run() == 0
        client.command(
            f"INSERT INTO claims SELECT id, journal, since, renewed - {LEASE_S}, revision + 1"
            " FROM claims FINAL"
        )
        now_s += RENEW_S
        assert third.run() == 0
        now_s += WAIT_S
        assert (third.run(), second.run()) == (3, 3)


class Defective:
    """Task with an internal error in its first step."""

    def __init__(self, made: list["Defective"]) -> None:
        made.append(self)
        self._is_first = len(made) == 1

    def step(self) -> bool:
        """Fail, or find nothing to do."""
        if self._is_first:
            raise ValueError("a defect")
        return False


class AlwaysHeld(Lease):
    """Lease that needs no engine."""

    def keep(self, claims: object) -> None:
        """Do nothing."""

    def held(self) -> bool:
        """Return True."""
        return True


@pytest.mark.scale
def test_an_internal_error_pauses_a_task(caplog: pytest.LogCaptureFixture) -> None:
    """A task with a defect is made again after a pause, and others go on."""
    now_s, made, steps = 100.0, list[Defective](), list[int]()
    makers: list[MakeTask] = [lambda _: Defective(made), lambda _: Counter(steps)]
    tasks = LeasedTasks(cast(Any, None), cast(Any, None), AlwaysHeld(), makers, clock_s=lambda: now_s)
    tasks.run(1)
    assert (len(made), len(steps)) == (1, 3)
    assert "ValueError: a defect" in caplog.text
    tasks.run(1)
    assert (len(made), len(steps)) == (1, 6)
    now_s += AGAIN_S
    tasks.run(1)
    assert (len(made), len(steps)) == (2, 9)


@pytest.mark.scale
@pytest.mark.process
def test_a_batch_is_one_of_two(address: ClickHouseAddress) -> None:
    """Of two processes that write the same batch, one is told that the batch is another's."""
    with open_engine(address) as client:
        assert read_last(client, "count") is None
        first = write_ahead(client, "count", 1, '{"a":1}')
        assert first == read_last(client, "count")
        assert write_ahead(client, "count", 1, '{"b":1}') is None
        assert write_ahead(client, "other", 1, "x") is not None
        second = write_ahead(client, "count", 2, "y")
        assert write_ahead(client, "count", 1, "late") is None
        assert second == read_last(client, "count")
        client.command("OPTIMIZE TABLE batches FINAL")
        assert second == read_last(client, "count")
