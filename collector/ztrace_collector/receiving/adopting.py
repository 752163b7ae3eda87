"""What dead processes left on this machine, stored without a detour.

One idea: the collector adopts as any traced process does (`ztrace.spooling.adoption`), but what it sends
goes straight to the store. So spans arrive also where nobody is left to send them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ztrace.spooling.adoption import Adoption

#: Bytes taken at a time: what is received over the network does not wait for longer than it would anyway.
BITE_BYTES = 1 << 20


class Adopter:
    """Takes over a spool folder's orphans, a bite at a time."""

    def __init__(
        self,
        folder: Path,
        write: Callable[[Sequence[Sequence[bytes]]], Mapping[bytes, int]],
        say: Callable[[str], None],
        now_s: float,
    ) -> None:
        """Take note of where to look; there may be no folder yet.

        Args:
            folder: the services' ``ZTRACE_SPOOL``.
            write: stores messages and returns the next sequence number of each incarnation.
            say: is told in one line why there is no adopting.
            now_s: by the monotonic clock.
        """
        self._folder = folder
        self._write = write
        self._say = say
        self._said = ""
        self._adoption = Adoption(folder, now_s)

    def close(self) -> None:
        """Release the orphan that is being adopted."""
        self._adoption.close()

    def step(self, now_s: float) -> bool:
        """Store a bite of what there is.

        Returns:
            Whether there is more to do at once.
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
            # While the store holds there is no word of it: it is offered again, and recognised then.
            self._adoption.acknowledge(self._write(bite), now_s)
        return adopting and bool(bite)

    def _say_once(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)
