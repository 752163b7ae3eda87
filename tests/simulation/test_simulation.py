"""Some hundred simulated worlds, and a moment of fuzzing; ``python -m tests.simulation`` runs thousands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.fuzz import ROUND, Fuzzer
from tests.simulation.programs import CLOSED, KILLED
from tests.simulation.running import prepared, run_seed

#: Seeds of one test: each test has its own, so that a failing one is found again.
SEEDS = 50


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Yield a folder in memory."""
    with prepared() as folder:
        yield folder


@pytest.mark.parametrize("first", range(0, 5 * SEEDS, SEEDS))
def test_every_account_is_exact(folder: Path, first: int) -> None:
    """Whatever is killed, cut, late, repeated, full or begun anew, each span is stored or counted once."""
    for seed in range(first, first + SEEDS):
        try:
            run_seed(seed, folder)
        except Exception as error:
            raise AssertionError(f"replay with: python -m tests.simulation --seed {seed}") from error


def test_a_seed_happens_again(folder: Path) -> None:
    """A replay shows what happened, to the last message."""
    logs: list[list[str]] = [[], []]
    for log in logs:
        for seed in range(5):
            run_seed(seed, folder, log.append)
    assert logs[0] == logs[1]
    assert len(logs[0]) > 200


def test_what_is_to_go_wrong_goes_wrong(folder: Path) -> None:
    """The first seeds have each kind of trouble in them, so an exact account says something."""
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
    """Broken messages neither stop the store nor disappear, and good ones in between are stored."""
    fuzzer = Fuzzer(seed)
    assert fuzzer.fuzz_store() == ROUND
    assert fuzzer.accepted > ROUND / 20
    for _ in range(ROUND):
        fuzzer.fuzz_small()
