"""The parts of its surroundings that a worker uses: the publisher, the adoption of spools, the clocks."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ztrace.native import monotonic, unix_ns
from ztrace.process.collection import HeldCollection
from ztrace.publishing.delivery import Send
from ztrace.publishing.unfinished import Watch
from ztrace.records import Record
from ztrace.settings import Settings
from ztrace.spans import Span
from ztrace.wire import Identity, Request


class Clocks(NamedTuple):
    """Clocks of a worker; tests bring their own."""

    monotonic_s: Callable[[], float] = monotonic
    unix_ns: Callable[[], int] = unix_ns


SYSTEM_CLOCKS = Clocks()


class Source(Protocol):
    """The part of a publisher that its thread works on.

    Attributes:
        queue: records of ended spans, oldest first; spans append, the thread takes.
        open_spans: spans that have started lately and not ended, oldest first.
        watched: the spans that have run for long, by ``id``.
        dropped: spans that found no room, or could not be encoded.
        offset_ns: Unix time minus the monotonic clock.
    """

    queue: deque[Record]
    open_spans: dict[Span, None]
    watched: OrderedDict[int, Watch]
    dropped: int
    offset_ns: int

    @property
    def settings(self) -> Settings:
        """Settings of the process."""
        ...

    @property
    def identity(self) -> Identity:
        """Identity of the incarnation."""
        ...

    def renew_offset(self) -> None:
        """Read both clocks again."""
        ...

    def give_back(self, objects: list[Any]) -> None:
        """Queue objects of the program's for release by one of the program's threads."""
        ...


class Profiler(Protocol):
    """Sampler of the stacks of open spans, as `ztrace.profiling.profiler.Profiler` is one.

    Attributes:
        sampled: samples taken so far.
    """

    sampled: int

    @property
    def is_running(self) -> bool:
        """Whether there are samples, or will be, that `take` has not returned."""
        ...

    def start(self) -> None:
        """Start sampling, where that does not wait for a request."""
        ...

    def hear(self, request: Request) -> None:
        """Process a request of the collector."""
        ...

    def take(self) -> tuple[int, int, bytes] | None:
        """Return the next profile that is ready: its start and its end, Unix, and the body of its message."""
        ...

    def close(self) -> None:
        """End sampling; the samples that are left are ready soon."""
        ...

    def abandon(self) -> None:
        """Restore what the parent's profiler has changed, in a forked child."""
        ...


class NoProfiler:
    """Profiler of a process that takes no samples, and answers no request."""

    sampled = 0
    is_running = False

    def __init__(self, collection: HeldCollection) -> None:
        """Accept the arguments of a factory."""

    def start(self) -> None:
        """Do nothing."""

    def hear(self, request: Request) -> None:
        """Do nothing."""

    def take(self) -> None:
        """Return None: no profile is ready."""

    def close(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class Adopter(Protocol):
    """Delivery of the spools of dead processes, as `ztrace.spooling.adoption.Adoption` does it."""

    def step(self, send: Send, now_s: float) -> bool:
        """Send some entries; return whether there is a spool to deliver."""
        ...

    def acknowledge(self, acks: Mapping[bytes, int], now_s: float) -> None:
        """Process acknowledgements, by incarnation."""
        ...

    def start_over(self, now_s: float, collector: str) -> None:
        """Send again what is not acknowledged, over a new connection to a collector."""
        ...

    def close(self) -> None:
        """Release the spool that is being delivered."""
        ...

    def abandon(self) -> None:
        """Release the parent's files in a forked child."""
        ...
