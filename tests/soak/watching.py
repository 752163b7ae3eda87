"""What processes hold at a moment, and whether it grows.

One idea: caches and allocators fill up at first, so only the last third of a run is compared with the third
before. What leaks goes on growing; a median is not moved by a moment's work.
"""

import os
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

#: Growth that is no leak: a share of the memory, and at least so much of it; threads; and descriptors, of
#: which a request takes four for its time.
GROWN_SHARE, GROWN_MB, GROWN_THREADS, GROWN_DESCRIPTORS = 0.10, 12.0, 3, 8
#: Limits of the files of a collector with ``--max-size 100MB``, with what a moment may exceed them by.
MAX_FILES_MB, MAX_FILE_COUNT = 110.0, 8


class Held(NamedTuple):
    """Resident memory, threads and descriptors of a process."""

    memory_mb: float
    threads: int
    descriptors: int


class Sample(NamedTuple):
    """Figures of a moment.

    Attributes:
        at_s: time since the start.
        processes: figures of each process by name.
        database_mb: size of the database file.
        log_mb: size of the log beside it.
        files: number of files in the folder.
    """

    at_s: float
    processes: Mapping[str, Held]
    database_mb: float
    log_mb: float
    files: int


class Verdict(NamedTuple):
    """One figure over time, in the middle and in the last third, and its limit in the last."""

    name: str
    before: float
    after: float
    limit: float

    @property
    def is_flat(self) -> bool:
        """Whether the figure has not grown beyond its limit."""
        return self.after <= self.limit


def look_at(pid: int) -> Held:
    """Return what a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    figures = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
    return Held(figures["VmRSS"] / 1024, figures["Threads"], len(os.listdir(f"/proc/{pid}/fd")))


def look_at_files(database: Path) -> tuple[float, float, int]:
    """Return the sizes of a database and its log in MB, and the number of files in its folder."""
    sizes = [path.stat().st_size if path.exists() else 0 for path in (database, Path(f"{database}-wal"))]
    return sizes[0] / 1e6, sizes[1] / 1e6, len(os.listdir(database.parent))


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Return the verdicts on all figures of a run, of at least three samples."""
    third = len(samples) // 3
    middle, last = samples[-2 * third : -third], samples[-third:]

    def compare(name: str, figure: Callable[[Sample], float], limit: Callable[[float], float]) -> Verdict:
        before, after = (statistics.median(map(figure, part)) for part in (middle, last))
        return Verdict(name, before, after, limit(before))

    verdicts = []
    for name in samples[-1].processes:
        verdicts += [
            compare(
                f"{name}: memory, MB",
                lambda sample, name=name: sample.processes[name].memory_mb,  # type: ignore[misc]
                lambda before: max(before * (1 + GROWN_SHARE), before + GROWN_MB),
            ),
            compare(
                f"{name}: threads",
                lambda sample, name=name: sample.processes[name].threads,  # type: ignore[misc]
                lambda before: before + GROWN_THREADS,
            ),
            compare(
                f"{name}: descriptors",
                lambda sample, name=name: sample.processes[name].descriptors,  # type: ignore[misc]
                lambda before: before + GROWN_DESCRIPTORS,
            ),
        ]
    verdicts += [
        compare(
            "file and log, MB", lambda sample: sample.database_mb + sample.log_mb, lambda _: MAX_FILES_MB
        ),
        compare("files in the folder", lambda sample: sample.files, lambda _: MAX_FILE_COUNT),
    ]
    return verdicts
