"""Jobs as the queue keeps them: what to run, how often, and how far each has come."""

from dataclasses import dataclass, field
from typing import Any, Final

#: States of a job. A waiting job whose time has not come is shown as delayed.
WAITING: Final = "waiting"
RUNNING: Final = "running"
DEAD: Final = "dead"
DONE: Final = "done"
CANCELLED: Final = "cancelled"

#: Failure of an attempt: the arguments of an ERR, and the details beside them
Failed = tuple[list[Any], Any]

#: Longest wait between two attempts.
MAX_BACKOFF_S: Final = 300.0


@dataclass(slots=True)
class Task:
    """One job; times are Unix seconds.

    Attributes:
        id: text, unique among all queues.
        name: function to call.
        body: packed ``[name, args, kwargs]``.
        key: idempotency key; None for a job without.
        timeout_s: limit of one attempt; None for no limit.
        max_attempts: attempts after which the job is dead.
        backoff_s: wait after the first failure, doubled by each further one.
        created_s: when the job was put.
        due_s: when the job may run next.
        context: trace context of the producer, as in a header.
        previous: trace context of the last attempt that failed; empty if unknown.
        state: one of the states above.
        attempts: attempts that were started and not given back.
        serial: number of the last attempt, which its id ends with.
        failure: last failure.
        result: of a job that is done.
        settled_s: when the job was done.
    """

    id: str
    name: str
    body: bytes
    key: str | None = None
    timeout_s: float | None = None
    max_attempts: int = 5
    backoff_s: float = 1.0
    created_s: float = 0.0
    due_s: float = 0.0
    context: dict[str, str] = field(default_factory=dict)
    previous: dict[str, str] = field(default_factory=dict)
    state: str = WAITING
    attempts: int = 0
    serial: int = 0
    failure: Failed | None = None
    result: Any = None
    settled_s: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the job needs no further attempt, unless it is retried from the dead list."""
        return self.state not in (WAITING, RUNNING)

    def next_backoff_s(self) -> float:
        """Return the wait after the attempt that has just failed."""
        return min(self.backoff_s * 2.0 ** min(self.attempts - 1, 20), MAX_BACKOFF_S)
