"""The collector that a publisher talks to: chosen, connected, given up and replaced.

One idea: nothing that a collector does, or does not do, ends the publisher. A connection that is refused, cut
or lost is made again later, to the same collector or to the next one of the list.
"""

from collections.abc import Callable, Iterator, Mapping

from ztrace import diagnostics
from ztrace.process.probing import Shortage, note
from ztrace.publishing.choosing import Chooser
from ztrace.publishing.intake import Intake
from ztrace.publishing.link import Link
from ztrace.publishing.retrying import Retries
from ztrace.wire import Request

#: Time without a connection after which it is replaced, and the first time after a refusal.
RENEW_S, RENEW_SOON_S = 30.0, 1.0
#: Time and beats without an answer after which a connection is replaced: a process that was stopped has not
#: asked for so long.
SILENT_S, SILENT_BEATS = 5.0, 5
#: Reason under which moves to another collector are counted.
MOVED = "collector_changed"
#: Refusal of a publisher with several collectors, which stands until another one has accepted its spans.
NO_CLICKHOUSE = "it runs without --clickhouse"


class Peer:
    """Connection to one collector at a time.

    Attributes:
        link: the connection, None while none can be made.
        is_connected: the collector receives what is sent.
        reached: a collector has answered a connection.
        refusal: reason for which the collector refuses the connection, if it does.
    """

    def __init__(self, chooser: Chooser, connect: Callable[[str], Link], now_s: float) -> None:
        """Prepare; `connect` makes the first link, and `close` closes the last.

        Args:
            chooser: choice among the collectors.
            connect: function that makes a link to an endpoint, and raises where that is not possible now.
            now_s: the time.
        """
        self.link: Link | None = None
        self.is_connected = self.reached = False
        self.refusal: str | None = None
        self._chooser = chooser
        self._connect = connect
        self._warned = False
        self._renew_s = RENEW_S
        self._start(now_s)

    def _start(self, now_s: float) -> None:
        self._intake = Intake(now_s)
        self._retries = Retries(now_s)
        self._heard_s = now_s
        #: Beats since the collector has sent something.
        self._beats = 0

    @property
    def endpoint(self) -> str:
        """Address of the collector."""
        return self._chooser.endpoint

    def connect(self, now_s: float, *, is_hurried: bool) -> None:
        """Make the link if there is none, to another collector if this one has been away for long.

        Args:
            now_s: the time.
            is_hurried: the process cannot wait.
        """
        self._chooser.look(self.is_connected, now_s)
        if self._chooser.count > 1:
            is_answered = self.refusal is None and self.link is not None and self.link.is_answered
            if self._chooser.move(now_s, is_hurried=is_hurried, is_answered=is_answered):
                self._leave(now_s)
        if self.link is not None or not self._retries.are_due(now_s):
            return
        try:
            self.link = self._connect(self.endpoint)
            return
        except Shortage as shortage:
            note(shortage)
        except Exception:
            diagnostics.count_failure("publisher_start")
        self._retries.note_failure(now_s)

    def receive(self, now_s: float) -> Iterator[Request | Mapping[bytes, int] | None]:
        """Yield what the collector has sent: None for a welcome, requests and acknowledgements.

        Raises:
            Unwanted: it sends what no collector does; `cut` has to follow.
        """
        link = self.link
        if link is None:
            return
        self._intake.weigh(link.count_read(), now_s)
        if link.is_lost:
            self.is_connected = False
            link.renew()
        while (frame := link.receive()) is not None:
            said = self._intake.read(frame, now_s)
            self._heard_s, self._beats = now_s, 0
            if said is None:
                self.is_connected = self.reached = True
                if self.refusal != NO_CLICKHOUSE:
                    self.refusal = None
                self._renew_s = RENEW_S
                link.settle()
            yield said

    def cut(self, reason: str, now_s: float) -> None:
        """Close the connection to a collector that harms the program, and make another one later."""
        link, self.link, self.is_connected = self.link, None, False
        diagnostics.count(reason)
        self.refusal = "it sends what no collector does"
        what = f"{self.endpoint} sends what no collector does ({reason})"
        self._warn(f"{what}; the connection is cut, and tried again: see what listens there")
        if link is not None:
            link.close(0)
        self._intake = Intake(now_s)
        self._retries.note_failure(now_s)

    def turn_away(self) -> None:
        """Stop sending to a collector that refuses publishers with several collectors."""
        self.is_connected = False
        self.refusal = NO_CLICKHOUSE
        self._warn(
            f"the collector at {self.endpoint} refuses publishers with several collectors: start each with"
            " --clickhouse, or give a single one in ZTRACE_ENDPOINT"
        )

    def tend(self, now_s: float) -> bool:
        """Replace a connection that is silent, or has not been made for long; return whether there is one.

        Call it with each beat.
        """
        if self.link is None:
            return False
        if self.is_connected:
            self._beats += 1
            if self._beats <= SILENT_BEATS or now_s - self._heard_s < SILENT_S:
                return True
            self.is_connected = False
            self._heard_s, self._beats = now_s, 0
            self.link.renew()
            return False
        self._hear_refusal(self.link)
        if now_s - self._heard_s >= self._renew_s:
            self._heard_s = now_s
            self._renew_s = min(RENEW_S, 2 * self._renew_s)
            self.link.renew()
        return False

    def close(self, linger_ms: int) -> None:
        """Close the link, after the time given to sent messages to leave."""
        if self.link is not None:
            self._hear_refusal(self.link)
            self.link.close(linger_ms)

    def _leave(self, now_s: float) -> None:
        """Close the connection to the collector that was chosen before."""
        link, self.link, self.is_connected = self.link, None, False
        diagnostics.count(MOVED)
        self._start(now_s)
        if link is not None:
            self._hear_refusal(link)
            link.close(0)

    def _hear_refusal(self, link: Link) -> None:
        """Warn the user of the first refusal: libzmq does not retry, and reports nothing."""
        refusal = link.refusal()
        if refusal is not None:
            if self.refusal is None:
                self._renew_s = RENEW_SOON_S
            self.refusal = refusal.reason
            self._warn(refusal.advice)

    def _warn(self, message: str) -> None:
        """Log the first warning."""
        if not self._warned:
            self._warned = True
            diagnostics.warn(message)
