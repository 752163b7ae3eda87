"""Loop that finds events and delivers them, at a bounded rate.

One idea: what is pending is bounded, and what is beyond is counted. The next event says how many were left
out, and so does the collector's file.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ztrace.errors import DatabaseError
from ztrace_collector.refusals import EVENT_FAILED, EVENT_LEFT_OUT
from ztrace_viewer.documents.events import EventDocument
from ztrace_viewer.events.receivers import NotDelivered, Receiver
from ztrace_viewer.events.sources import Source
from ztrace_viewer.queries.deadline import TooLong

#: Interval of looks.
LOOK_S = 1.0
#: Maximum of pending events, and of events delivered in a minute.
PENDING, A_MINUTE = 50, 10
#: Time for the last events once the collector ends.
END_S = 2.0

_MINUTE_S, _POLL_S = 60.0, 0.1

_log = logging.getLogger(__name__)

#: Function that reports undelivered events: a reason, a detail, a count, and whether to print it.
Report = Callable[[str, str, int, bool], None]


class Watcher:
    """Watcher of one source of events.

    Attributes:
        end_s: deadline of the last delivery, by the monotonic clock; infinite before `stop`.
    """

    def __init__(self, source: Source, receivers: Sequence[Receiver], report: Report) -> None:
        """Begin with nothing pending.

        Args:
            source: where events are found.
            receivers: each gets every event, one after the other.
            report: called for each event that is not delivered.
        """
        self._source, self._receivers, self._report = source, receivers, report
        self._stopping = threading.Event()
        self.end_s = float("inf")
        self._pending: deque[EventDocument] = deque()
        self._left_out = 0
        #: Times of the deliveries of the last minute.
        self._delivered: deque[float] = deque()
        #: What each receiver failed with last.
        self._failing: dict[int, str] = {}

    def stop(self) -> None:
        """Ask `run` to deliver what is left, and to return; thread-safe."""
        self.end_s = time.monotonic() + END_S
        self._stopping.set()

    def run(self) -> None:
        """Find and deliver events until `stop` is called."""
        while not self._stopping.wait(LOOK_S):
            self._turn()
        self._turn()
        if self._pending:
            self._leave_out(len(self._pending), "the collector has ended")
            self._pending.clear()
            self._keep()

    def begin(self, seconds: float) -> "_Moment":
        """Return a deadline in so many seconds, or at the end if that comes first."""
        return _Moment(self, time.monotonic() + seconds)

    def _turn(self) -> None:
        try:
            self._look()
        except (DatabaseError, TooLong) as error:
            _log.info("looking for events failed: %s", error)  # The next look is soon.
        except Exception:
            _log.exception("looking for events failed")
        self._keep()
        while self._pending and self._may_deliver():
            self._deliver(self._pending.popleft())
            self._keep()

    def _look(self) -> None:
        found = self._source.look(time.time_ns(), PENDING)
        for event in found.events:
            self._add(event)
        for number, what in found.left_out:
            self._leave_out(number, what)

    def _keep(self) -> None:
        try:
            if not self._source.keep(len(self._pending)):
                self._pending.clear()  # Counted by the process that took them as lost.
        except (DatabaseError, TooLong) as error:
            _log.info("noting the pending events failed: %s", error)  # The next time is soon.
        except Exception:
            _log.exception("noting the pending events failed")

    def _add(self, event: EventDocument) -> None:
        if len(self._pending) < PENDING:
            self._pending.append(event)
        else:
            self._leave_out(1, event["text"])

    def _leave_out(self, number: int, what: str) -> None:
        # One line for all up to the next delivery; each is counted.
        self._report(EVENT_LEFT_OUT, what, number, not self._left_out)
        self._left_out += number

    def _may_deliver(self) -> bool:
        now_s = time.monotonic()
        while self._delivered and now_s - self._delivered[0] >= _MINUTE_S:
            self._delivered.popleft()
        return len(self._delivered) < A_MINUTE and now_s < self.end_s

    def _deliver(self, event: EventDocument) -> None:
        self._delivered.append(time.monotonic())
        event["left_out"], self._left_out = self._left_out, 0
        for number, receiver in enumerate(self._receivers):
            try:
                receiver.deliver(event, self.begin)
            except NotDelivered as error:
                # One line for a receiver that goes on failing; each event is counted.
                self._report(EVENT_FAILED, str(error), 1, str(error) != self._failing.get(number))
                self._failing[number] = str(error)
            except Exception:
                _log.exception("delivering an event failed")
                self._report(EVENT_FAILED, "a defect of ztrace; its log has the traceback", 1, False)
            else:
                self._failing.pop(number, None)


class _Moment:
    """Deadline, which the end of the watcher moves forward."""

    def __init__(self, watcher: Watcher, deadline_s: float) -> None:
        self._watcher, self._deadline_s = watcher, deadline_s

    def left_s(self) -> float:
        """Return the seconds left, 0 or less if none are."""
        return min(self._deadline_s, self._watcher.end_s) - time.monotonic()

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline."""
        begin_s = time.monotonic()
        while (left_s := min(begin_s + seconds - time.monotonic(), self.left_s())) > 0:
            time.sleep(min(_POLL_S, left_s))
