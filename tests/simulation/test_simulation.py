"""Several hundred simulated worlds and a short run of the fuzzer; `tests.simulation` runs thousands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.fuzz import ROUND, Fuzzer
from tests.simulation.programs import CLOSED, KILLED
from tests.simulation.running import prepared, run_seed

#: Seeds per test, distinct between tests, so that a failing one can be replayed.
SEEDS = 50


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a prepared folder, in memory where possible."""
    with prepared() as folder:
        yield folder


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(SEEDS * n, marks=pytest.mark.slow) for n in range(1, 5))]
)
def test_every_account_is_exact(folder: Path, first: int) -> None:
    """Each span is stored or counted once, under any kills, cuts, delays, full disks and restarts."""
    for seed in range(first, first + SEEDS):
        try:
            run_seed(seed, folder)
        except Exception as error:
            raise AssertionError(f"replay with: python -m tests.simulation --seed {seed}") from error


def test_a_seed_happens_again(folder: Path) -> None:
    """A replayed seed has the same events, to the last message."""
    logs: list[list[str]] = [[], []]
    for log in logs:
        for seed in range(5):
            run_seed(seed, folder, log.append)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 200


@pytest.mark.slow
def test_what_is_to_go_wrong_goes_wrong(folder: Path) -> None:
    """The first seeds include every kind of fault, so the exact accounts are meaningful."""
    happened: set[str] = set()
    fates: set[str] = set()
    for seed in range(SEEDS):
        world = run_seed(seed, folder, lambda line: happened.update(line[10:].split()))
        fates.update(program.fate for program in world.programs.values())
    words = {
        "killed,",
        "crashes",
        "stands",
        "cut",
        "clock",
        "empty",
        "store",
        "CRASH",
        "BYE",
        "TOMBSTONE",
        "OPEN",
    }
    assert words <= happened
    assert fates == {CLOSED, KILLED}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_arrives_is_stored_or_counted(seed: int) -> None:
    """Broken messages are stored or counted without stopping the store, and valid ones between are stored."""
    fuzzer = Fuzzer(seed)
    assert fuzzer.fuzz_store() == ROUND
    assert fuzzer.accepted > ROUND / 20
    for _ in range(ROUND):
        fuzzer.fuzz_small()
