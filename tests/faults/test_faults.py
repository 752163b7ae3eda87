"""Short faults in real processes, with assertions that are independent of the machine's speed."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.faults import (
    attacks,
    calls,
    collector_faults,
    hostile,
    pressure,
    publisher_faults,
    readers,
    surroundings,
    trouble,
)
from tests.faults.disk import Disk, limited_files, small_disk
from tests.faults.running import Length
from tests.faults.stage import Stage
from tests.faults.table import Row

pytestmark = [pytest.mark.process, pytest.mark.slow]

SHORT = Length(short=True, peer=False)

#: Faults that take seconds: `.ci/run` does them as well
LONGER = [
    collector_faults.come_late,
    collector_faults.black_hole,
    collector_faults.stop,
    collector_faults.lose_acknowledgements,
    collector_faults.cut,
    collector_faults.mix,
    pressure.rush,
    publisher_faults.run_gevent,
    publisher_faults.run_asyncio,
]


@pytest.mark.parametrize(
    "fault",
    [
        collector_faults.kill,
        publisher_faults.fork,
        *(pytest.param(fault, marks=pytest.mark.slow) for fault in LONGER),
    ],
    ids=lambda fault: fault.__name__,
)
def test_what_is_over_one_day_loses_nothing(fault: Callable[[Length], Row]) -> None:
    """After a temporary fault of collector, network or process, every span is stored once."""
    assert fault(SHORT).lost == 0


@pytest.mark.parametrize(
    "kind",
    [small_disk, pytest.param(limited_files, marks=pytest.mark.slow)],
    ids=lambda kind: kind.__name__,
)
def test_a_full_disk_loses_nothing(kind: Callable[[Stage], AbstractContextManager[Disk]]) -> None:
    """Spans wait at their publisher while a disk is full, even if the collector is killed meanwhile."""
    assert pressure.fill_disk(SHORT, kind).lost == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        trouble.carry_liars,
        trouble.raise_odd_texts,
        trouble.decorate_anything,
        trouble.interrupt,
        surroundings.run_out,
        surroundings.collect_garbage,
        surroundings.terminate_pools,
        pytest.param(surroundings.fork_by_c, marks=pytest.mark.trouble),
        pytest.param(surroundings.end_children, marks=pytest.mark.trouble),
    ],
    ids=lambda fault: fault.__name__,
)
def test_a_program_in_trouble_is_as_without_ztrace(fault: Callable[[Length], Row]) -> None:
    """A program that misbehaves gets what it would get without ztrace, and loses no span."""
    row = fault(SHORT)
    assert row.reached, row.seen


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [
        attacks.bomb,
        attacks.never_end,
        attacks.half_ask,
        attacks.push_out,
        attacks.make_up_code,
        readers.hold_log,
        readers.ask_huge,
        hostile.besiege_program,
    ],
    ids=lambda attack: attack.__name__,
)
def test_an_attack_costs_nobody_else(attack: Callable[[Length], Row]) -> None:
    """An attack takes bounded memory and work, delays no end, and costs no one else a span or an answer."""
    row = attack(SHORT)
    assert row.reached, row.seen


@pytest.mark.parametrize("fault", [calls.hop_on, calls.hold_calls], ids=lambda fault: fault.__name__)
def test_calls_end_at_each_server(fault: Callable[[Length], Row]) -> None:
    """Calls in flight, through several servers too, are answered or end with their caller."""
    assert fault(SHORT).lost == 0


def test_what_finds_no_room_is_counted() -> None:
    """Spans beyond the room of window and queue are lost, and counted exactly."""
    assert pressure.flood(SHORT).lost > 0


def test_what_a_killed_process_left_is_delivered() -> None:
    """The next process delivers a killed one's spool, and spans not spooled yet are counted exactly."""
    assert publisher_faults.kill_spooled(SHORT).lost < 3 * 2_500
