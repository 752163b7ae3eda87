"""Adoption of spans that dead processes left on this machine.

One idea: the collector adopts as any traced process does (`ztrace.spooling.adoption`), but writes straight to
the store. So the spans arrive even where no traced process is left to send them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ztrace.spooling.adoption import Adoption

#: Bytes adopted at a time: they delay messages from the network no more than a transaction does.
BITE_BYTES = 1 << 20


class Adopter:
    """Adoption of a spool folder's orphans, a bite at a time."""

    def __init__(
        self,
        folder: Path,
        write: Callable[[Sequence[Sequence[bytes]]], Mapping[bytes, int]],
        say: Callable[[str], None],
        now_s: float,
        *,
        collectors: int = 1,
    ) -> None:
        """Name the folder, which may not exist yet.

        Args:
            folder: the services' ``ZTRACE_SPOOL``.
            write: stores messages and returns the next sequence number of each incarnation.
            say: called with a line for the user when adopting is not possible.
            now_s: the current time of the monotonic clock.
            collectors: number of collectors to which the services may have sent.
        """
        self._folder = folder
        self._write = write
        self._say = say
        self._said = ""
        self._adoption = Adoption(folder, now_s, collectors=collectors)

    def close(self) -> None:
        """Release the orphan that is being adopted."""
        self._adoption.close()

    def step(self, now_s: float) -> bool:
        """Store a bite of the orphans' spans.

        Returns:
            True if more can be adopted at once.
        """
        bite: list[Sequence[bytes]] = []
        size = 0

        def take(frames: Sequence[bytes]) -> bool:
            nonlocal size
            if size >= BITE_BYTES:
                return False
            bite.append(frames)
            size += sum(map(len, frames))
            return True

        try:
            adopting = self._adoption.step(take, now_s)
        except OSError as error:
            self._say_once(f"cannot adopt from {self._folder}: {error}")
            return False
        if bite:
            # While the store holds, nothing is acknowledged: the bite is offered again, and detected then.
            self._adoption.acknowledge(self._write(bite), now_s)
        return adopting and bool(bite)

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)
