"""The soak's judgement, and a short soak."""

from collections.abc import Sequence

import pytest

from tests.faults.stage import Stage
from tests.soak.running import Soak
from tests.soak.watching import Held, Sample, judge


def make(memory_mb: Sequence[float], threads: Sequence[int], log_mb: float = 1.0) -> list[Sample]:
    """Return samples of one process."""
    figures = zip(memory_mb, threads, strict=True)
    return [
        Sample(5.0 * at, {"collector": Held(memory, number, 20)}, 50.0, log_mb, 4)
        for at, (memory, number) in enumerate(figures)
    ]


def grown(samples: Sequence[Sample]) -> list[str]:
    """Return the names of the figures that are not flat."""
    return [verdict.name for verdict in judge(samples) if not verdict.is_flat]


def test_what_fills_up_at_first_is_flat() -> None:
    """Memory that grows in the first third, and a peak of a moment, are no leak."""
    assert grown(make([40, 60, 80, 90, 91, 90, 92, 200, 93], [4] * 9)) == []


def test_what_goes_on_growing_is_not() -> None:
    """Memory and threads that grow throughout, and files beyond their limit, are told."""
    assert grown(make(range(40, 130, 10), range(4, 22, 2), 100.0)) == [
        "collector: memory, MB",
        "collector: threads",
        "file and log, MB",
    ]


@pytest.mark.slow
@pytest.mark.process
def test_a_short_soak() -> None:
    """Services that call, fail, are killed and reloaded, and readers, leave a collector that ends in time."""
    with Stage() as stage:
        soak = Soak(stage)
        samples = soak.run(24, lambda sample: None)
        assert soak.stop() < 5
    answered, unanswered = soak.answered
    assert answered > 20
    assert unanswered == 0
    assert min(soak.killed, soak.jobs, soak.commands) > 0
    assert [verdict for verdict in judge(samples) if "files" in verdict.name and not verdict.is_flat] == []
