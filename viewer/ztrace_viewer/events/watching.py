"""Loop that finds events and delivers them, at a bounded rate.

One idea: what is pending is bounded, and what is beyond is counted. The next event says how many were left
out, and so does the collector's file.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from ztrace.errors import DatabaseError
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.refusals import EVENT_FAILED, EVENT_LEFT_OUT
from ztrace_viewer.documents.events import EventDocument
from ztrace_viewer.events.describing import describe_group, describe_slower
from ztrace_viewer.events.receivers import NotDelivered, Receiver
from ztrace_viewer.queries.deadline import Deadline, TooLong
from ztrace_viewer.queries.events import GroupWatch, find_slower
from ztrace_viewer.queries.stores.sqlite.store import open_file

#: Interval of looking for groups, and of comparing times.
LOOK_S, COMPARE_S = 1.0, 300.0
#: Time limit of a look.
ANSWER_S = 8.0
#: Maximum of pending events, and of events delivered in a minute.
PENDING, A_MINUTE = 50, 10
#: Time before the same method is reported as slower again.
QUIET_NS = HOUR_NS
#: Time for the last events once the collector ends.
END_S = 2.0

_MINUTE_S, _POLL_S = 60.0, 0.1

_log = logging.getLogger(__name__)

#: Function that reports undelivered events: a reason, a detail, a count, and whether to print it.
Report = Callable[[str, str, int, bool], None]


class Watcher:
    """Watcher of one database, from what it holds at first.

    Attributes:
        end_s: deadline of the last delivery, by the monotonic clock; infinite before `stop`.
    """

    def __init__(
        self, database: Path, receivers: Sequence[Receiver], page: str | None, report: Report
    ) -> None:
        """Take what is stored as known.

        Args:
            database: the file.
            receivers: each gets every event, one after the other.
            page: address of the page, without a path; None if it is not served.
            report: called for each event that is not delivered.

        Raises:
            DatabaseError: the file cannot be used.
        """
        self._database, self._receivers, self._page, self._report = database, receivers, page, report
        self._stopping = threading.Event()
        self.end_s = float("inf")
        self._pending: deque[EventDocument] = deque()
        self._left_out = 0
        #: Times of the deliveries of the last minute.
        self._delivered: deque[float] = deque()
        #: Times at which methods were last reported as slower.
        self._slower: dict[tuple[str, str, str], int] = {}
        #: What each receiver failed with last.
        self._failing: dict[int, str] = {}
        self._compare_s = time.monotonic() + COMPARE_S
        with open_file(database) as store:
            self._groups = GroupWatch(store)

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
        while self._pending and self._may_deliver():
            self._deliver(self._pending.popleft())

    def _look(self) -> None:
        now_ns = time.time_ns()
        with open_file(self._database) as store, store.within(Deadline(ANSWER_S)):
            found, beyond = self._groups.look(store, PENDING)
            for event in found:
                self._add(describe_group(event, self._page, now_ns))
            if beyond:
                self._leave_out(beyond, "groups that are new or regressed")
            if time.monotonic() < self._compare_s:
                return
            self._compare_s = time.monotonic() + COMPARE_S
            for method in find_slower(store, now_ns):
                key = method["service"], method["name"], method["kind"]
                if now_ns - self._slower.get(key, 0) >= QUIET_NS:
                    self._slower[key] = now_ns
                    self._add(describe_slower(method, self._page, now_ns))
            self._slower = {key: at for key, at in self._slower.items() if now_ns - at < QUIET_NS}

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
