"""In-memory stand-ins for the agent: a publisher without thread or socket, and a clock set by hand."""

from collections import deque
from collections.abc import Callable
from typing import Any

import ztrace
from ztrace.records import ExceptionRecord, FrameRecord, Record, Span

#: Unix time at the zero of the monotonic clock.
OFFSET_NS = 1_700_000_000_000_000_000


class Clock:
    """Monotonic and CPU clock that advances only by `pass_ns`."""

    def __init__(self) -> None:
        self.now_ns = 1_000
        self.cpu_ns = 500
        #: Called once, just after a reading of the clock: the work of another thread at that moment.
        self.meanwhile: Callable[[], object] | None = None

    def read(self) -> int:
        """Return the monotonic time in nanoseconds."""
        now_ns = self.now_ns
        if self.meanwhile is not None:
            happens = self.meanwhile
            self.meanwhile = None
            happens()
        return now_ns

    def read_cpu(self) -> int:
        """Return the CPU time of the current thread in nanoseconds."""
        return self.cpu_ns

    def pass_ns(self, duration_ns: int) -> None:
        """Advance the clock by nanoseconds."""
        self.now_ns += duration_ns


class Recorder:
    """Publisher that keeps the records of ended spans in a queue."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.queue: deque[Record] = deque()
        self.room = room
        self.offset_ns = OFFSET_NS
        self.register: dict[object, None] = {}
        self.watched: dict[int, Any] = {}
        self.born_here = True
        self.overflown: list[Record] = []

    def succeed(self) -> None:
        """Stand in for the replacement in a forked child."""

    def overflow(self, record: Record) -> None:
        """Keep a record that exceeds the room in the queue."""
        self.overflown.append(record)

    @property
    def spans(self) -> list[Span]:
        """Ended spans, in the order in which they ended."""
        return [Span(*record) for record in self.queue]

    @property
    def span(self) -> Span:
        """The only span recorded."""
        (only,) = self.spans
        return only

    def named(self, name: object) -> Span:
        """Return the only span with this name."""
        (only,) = (span for span in self.spans if span.name == name)
        return only

    def parents(self) -> dict[str, str | None]:
        """Return the name of each span's parent, by the span's name."""
        names = {span.span_id: span.name for span in self.spans}
        return {span.name: names[span.parent_id] if span.parent_id else None for span in self.spans}


def make_record(number: int = 0, **changes: Any) -> Span:
    """Return the record of an ended span, with the given fields replaced."""
    span = Span(
        trace_id=(number + 1).to_bytes(16, "big"),
        span_id=(number + 1).to_bytes(8, "big"),
        parent_id=None,
        kind=1,
        name="charge",
        start_ns=OFFSET_NS,
        duration_ns=10,
        self_ns=10,
        cpu_ns=None,
        status=0,
        attributes=None,
        links=None,
        exception=None,
    )
    return span._replace(**changes)


def record_of(recorder: Recorder, name: str) -> ExceptionRecord:
    """Return the exception recorded by the span of this name."""
    exception = recorder.named(name).exception
    assert exception is not None
    return ExceptionRecord(*exception)


def run(work: Callable[[], object], *names: str) -> BaseException:
    """Run `work` within nested spans, and return the exception that leaves them."""
    try:
        if names:
            with ztrace.span(names[0]):
                raise run(work, *names[1:])
        else:
            work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def codes(record: ExceptionRecord) -> list[str]:
    """Return the source lines of an exception's in-app frames."""
    return [frame.code for frame in (FrameRecord(*fields) for fields in record.frames) if frame.in_app]
