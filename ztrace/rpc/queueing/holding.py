"""Core of a worker: the jobs of one queue in its hands, without socket, thread or clock.

A job is in hand from its arrival until the queue has acknowledged its result. Results are sent again until
then, so neither a broken connection nor a restart of the queue repeats work that was done.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

#: Time after which a result without acknowledgement is sent again.
RESEND_S: Final = 1.0


@dataclass(slots=True)
class Holding:
    """Jobs of one queue.

    Attributes:
        open: ids of attempts that have no result yet.
        token: of the queue's life that was heard last; a restarted queue has another.
        mark: last mark of that life.
    """

    open: set[str] = field(default_factory=set)
    token: str = ""
    mark: int = 0
    _results: dict[str, tuple[Any, float]] = field(default_factory=dict)

    @property
    def held(self) -> list[str]:
        """Ids of the attempts in hand."""
        return [*self.open, *self._results]

    def take(self, attempt_id: str) -> bool:
        """Take a job; return False if it is in hand already."""
        if attempt_id in self.open or attempt_id in self._results:
            return False
        self.open.add(attempt_id)
        return True

    def finish(self, attempt_id: str, result: Any, now_s: float) -> None:
        """Keep a result, which the driver sends at once, until it is acknowledged."""
        self.open.discard(attempt_id)
        self._results[attempt_id] = (result, now_s)

    def acknowledge(self, attempt_ids: Iterable[str]) -> None:
        """Let go of results that the queue has."""
        for attempt_id in attempt_ids:
            self._results.pop(attempt_id, None)

    def hear(self, token: str, mark: int) -> None:
        """Process a mark of the queue; all results are due again for a queue that was restarted."""
        if token != self.token:
            self._results = {key: (result, float("-inf")) for key, (result, _) in self._results.items()}
        self.token, self.mark = token, mark

    def take_due(self, now_s: float) -> list[Any]:
        """Return results to be sent again, and count them as sent."""
        due = [key for key, (_, sent_s) in self._results.items() if now_s - sent_s >= RESEND_S]
        for key in due:
            self._results[key] = (self._results[key][0], now_s)
        return [self._results[key][0] for key in due]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in hand."""
        return not self.open and not self._results
