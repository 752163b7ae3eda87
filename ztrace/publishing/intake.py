"""Bounds on what a collector can make the traced process take, and the meaning of its frames.

One idea: a collector has little to say, so whatever exceeds that is cut off: the connection is closed, the
reason is counted, and a new connection is made later. Bytes are counted by the system, and before libzmq is
asked for frames: libzmq holds back the frames of a message that never ends. Where the system does not tell,
only frames are counted.
"""

from ztrace.errors import WireError
from ztrace.wire import REQUEST, WELCOME, Request, unpack_acks, unpack_request

#: Reasons for which a connection is cut, as shown by ``ztrace status``.
FLOOD, FOREIGN = "collector_flood", "collector_frame"
#: Bytes that may come between two looks, and further ones for each second between them, up to a number of
#: seconds: a thousand publishers are acknowledged by 0.5 MB a second, and a peer on this machine sends 4 MB.
BURST_BYTES, BYTES_PER_S, MAX_PASSED_S = 128 << 10, 1 << 20, 0.2
#: Bytes that may come without a whole frame, those of the connection's heartbeats included.
MAX_UNFINISHED = 64 << 10
#: Frames that may come at once, and each second.
BURST_FRAMES, FRAMES_PER_S = 1_000, 200
#: Frames that a welcome counts for, since it makes the process send everything in flight again.
WELCOME_FRAMES = 50


class Unwanted(Exception):
    """Input that no collector sends.

    Attributes:
        reason: FLOOD or FOREIGN.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Allowance:
    """Amount that may be spent at once, refilled each second."""

    def __init__(self, burst: int, per_s: int, now_s: float) -> None:
        self._left: float = burst
        self._burst, self._per_s = burst, per_s
        self._filled_s = now_s

    def spend(self, amount: int, now_s: float) -> None:
        """Spend an amount.

        Raises:
            Unwanted: less than that is left.
        """
        self._left = min(self._burst, self._left + (now_s - self._filled_s) * self._per_s) - amount
        self._filled_s = now_s
        if self._left < 0:
            raise Unwanted(FLOOD)


class Intake:
    """Input of one connection after the other, and whether it is within bounds."""

    def __init__(self, now_s: float) -> None:
        self._frames = Allowance(BURST_FRAMES, FRAMES_PER_S, now_s)
        self._weighed_s = now_s
        #: Bytes read from the connection as of the last look, and as of the look before the last frame.
        self._read = self._until = 0
        self._heard = False

    def weigh(self, read: int, now_s: float) -> None:
        """Check the bytes that have come since the last look, before libzmq processes them.

        Args:
            read: bytes read from the connection so far; fewer than before if it is new, 0 if unknown.
            now_s: the time.

        Raises:
            Unwanted: they are too many, or too many have come without a frame.
        """
        if read < self._read:
            self._read = self._until = 0
        elif self._heard:
            self._until = self._read
        more, unfinished = read - self._read, self._read - self._until
        passed_s = min(MAX_PASSED_S, now_s - self._weighed_s)
        self._read, self._weighed_s, self._heard = read, now_s, False
        if more > BURST_BYTES + passed_s * BYTES_PER_S or unfinished > MAX_UNFINISHED:
            raise Unwanted(FLOOD)

    def read(self, frame: bytes, now_s: float) -> Request | dict[bytes, int] | None:
        """Return what a frame says: None for a welcome, a request, or acknowledged numbers by incarnation.

        Raises:
            Unwanted: it says nothing of these, or comes after too many others.
        """
        self._heard = True
        self._frames.spend(1, now_s)
        if frame == WELCOME:
            self._frames.spend(WELCOME_FRAMES, now_s)
            return None
        try:
            return unpack_request(frame) if frame.startswith(REQUEST) else unpack_acks(frame)
        except WireError as error:
            raise Unwanted(FOREIGN) from error
