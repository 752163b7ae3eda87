"""Work of the collector while nothing is to be received: settling, then thinning, then sealing.

One idea: each step is short, and the loop looks for messages between two of them, so neither delays a
message. While there are always messages, that work has a small share of the time, so that trees are counted
before they expire. An internal error pauses that work alone.
"""

import logging
import time
from collections.abc import Callable

from ztrace_collector.settling.settler import Settler
from ztrace_collector.storing.defects import contained
from ztrace_collector.storing.sealing import Sealer
from ztrace_collector.storing.thinning import Thinner
from ztrace_collector.storing.writer import Writer

#: Pause of a kind of work after an internal error.
AGAIN_S = 30.0
#: Share of the time while there are always messages.
SHARE = 0.05

_log = logging.getLogger(__name__)


class SpareTime:
    """Settler and sealer of a collector, and its thinner if it has one."""

    def __init__(self, thin: float | None) -> None:
        """Begin with nothing looked at.

        Args:
            thin: share of the ordinary traces to keep; None to thin none.
        """
        self._settler = Settler()
        self._thinner = None if thin is None else Thinner(thin)
        self._sealer = Sealer(thins=thin is not None)
        self._settle_s = self._thin_s = self._seal_s = 0.0
        self._owed_s = 0.0

    @property
    def is_owed(self) -> bool:
        """Whether a step may delay messages, as messages have delayed it for long."""
        return time.monotonic() >= self._owed_s

    def wait_s(self) -> float:
        """Return the time until the next step."""
        now_s = time.monotonic()
        wait_s = min(
            max(self._settler.wait_s(), self._settle_s - now_s),
            max(self._sealer.wait_s(), self._seal_s - now_s),
        )
        if self._thinner is None:
            return wait_s
        return min(wait_s, max(self._thinner.wait_s(), self._thin_s - now_s))

    def step(self, writer: Writer) -> None:
        """Do a step of what is due."""
        now_s = time.monotonic()
        if now_s >= self._settle_s and not self._do("settling", lambda: self._settler.step(writer)):
            self._settle_s = now_s + AGAIN_S
        thinner = self._thinner
        if (
            thinner is not None
            and now_s >= self._thin_s
            and not self._do("thinning", lambda: writer.run_beside(thinner.step))
        ):
            self._thin_s = now_s + AGAIN_S
        if now_s >= self._seal_s and not self._do("sealing", lambda: writer.run_beside(self._sealer.step)):
            self._seal_s = now_s + AGAIN_S
        end_s = time.monotonic()
        self._owed_s = end_s + (end_s - now_s) * (1 - SHARE) / SHARE

    def finish(self, writer: Writer, deadline_s: float) -> None:
        """Settle what waits, until a deadline."""
        self._settler.finish(writer, deadline_s)

    @staticmethod
    def _do(name: str, work: Callable[[], object]) -> bool:
        """Return whether some work went without an internal error."""
        with contained(_log, name):
            work()
            return True
        return False
