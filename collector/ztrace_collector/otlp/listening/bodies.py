"""Bodies of OTLP requests, and the bounds on the bytes and values that are read from one.

One idea: every bound is applied before the memory is taken. Decompression runs in steps, against the limit
that the compressed size permits and the limit of all requests together; JSON values are counted before they
are parsed. Each step checks the request's deadline, which the collector's end brings forward.
"""

import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from google.rpc.code_pb2 import INVALID_ARGUMENT, RESOURCE_EXHAUSTED

from ztrace.errors import OtlpError
from ztrace_collector.receiving.inbox import Busy
from ztrace_collector.refusals import OTLP_BODY, OTLP_OVERSIZED

#: Bytes of a request, after decompression: the minimum that the specification asks of a receiver.
MAX_BODY_BYTES = 64 << 20
#: Decompressed bytes that any compressed body may have, and further ones per compressed byte, fewer for JSON,
#: whose values become Python objects.
#: Spans compress to a tenth or a thirtieth, and a batch of 8192 stays below either.
INFLATED_BYTES, INFLATED_RATIO = 12 << 20, 12
INFLATED_JSON_BYTES, INFLATED_JSON_RATIO = 8 << 20, 4
#: Decompressed bytes of all requests at once.
MAX_INFLATED_BYTES = MAX_BODY_BYTES
#: Objects, arrays and elements of a JSON request: 30 MB of Python objects, and some 5,000 spans.
MAX_JSON_VALUES = 250_000
#: Members of a gzip stream: proxies concatenate a few.
MAX_MEMBERS = 1_000
#: Bytes decompressed at a time, and compressed bytes given to zlib at a time.
STEP_BYTES, FED_BYTES = 1 << 20, 64 << 10
#: Longest wait of a request for its commit, less than the 10 s after which exporters give up.
ANSWER_S = 8.0
#: Time that requests in flight have at the collector's end.
GRACE_S = 1.5
#: Processor time that reading a request may take: far more than can be stored before `ANSWER_S`.
MAX_WORK_S = 4.0
#: Default delay before a retry, which a disk or a busy writer may need.
RETRY_AFTER_S = 1.0
#: Compressed bytes start like gzip's or like zlib's, which HTTP calls deflate.
_EITHER = zlib.MAX_WBITS | 32


class RefusedRequest(OtlpError):
    """A request that cannot be accepted, now or later.

    Attributes:
        code: google.rpc.Code.
        reason: the word it is counted under.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Body(NamedTuple):
    """Content of a request as received.

    Attributes:
        is_json: JSON, otherwise protobuf.
        is_compressed: by gzip or deflate.
    """

    content: bytes
    is_json: bool = False
    is_compressed: bool = False


class Ending:
    """Point in time at which requests in flight must end, once the collector ends."""

    def __init__(self) -> None:
        self.at_s = float("inf")

    def begin(self) -> None:
        """Give requests in flight `GRACE_S` to end."""
        self.at_s = min(self.at_s, time.monotonic() + GRACE_S)


class Deadline:
    """Deadline of one request in its thread, by time and by processor time."""

    def __init__(self, since_s: float, ending: Ending) -> None:
        """Start the deadline of a request received at ``since_s``, by the monotonic clock."""
        self._end_s = since_s + ANSWER_S
        self._ending = ending
        self._work_end_s = time.thread_time() + MAX_WORK_S

    def remaining_s(self) -> float:
        """Return the time left, above 0.

        Raises:
            Busy: no time is left; the sender may retry.
            RefusedRequest: the request takes too much work.
        """
        if time.thread_time() > self._work_end_s:
            raise too_large("the request takes too long to read; send fewer spans at a time")
        left_s = min(self._end_s, self._ending.at_s) - time.monotonic()
        if left_s <= 0:
            if self._end_s > self._ending.at_s:
                raise Busy(RETRY_AFTER_S, "the collector is ending")
            raise Busy(RETRY_AFTER_S)
        return left_s

    @contextmanager
    def holding(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock, waiting for it until the deadline."""
        if not lock.acquire(timeout=self.remaining_s()):
            raise Busy(RETRY_AFTER_S)
        try:
            self.remaining_s()
            yield
        finally:
            lock.release()


class Room:
    """Bytes that all requests may hold together."""

    def __init__(self, byte_count: int) -> None:
        self._left = byte_count
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator["Held"]:
        """Yield the share of one request, which is released at the end of the block."""
        share = Held(self)
        try:
            yield share
        finally:
            self.take(-share.byte_count)

    def take(self, byte_count: int) -> None:
        """Acquire bytes.

        Raises:
            Busy: other requests hold them.
        """
        with self._lock:
            if byte_count > self._left:
                raise Busy(RETRY_AFTER_S, "too much is being received; try again")
            self._left -= byte_count


class Held:
    """Share of one request in a `Room`."""

    def __init__(self, room: Room) -> None:
        self.byte_count = 0
        self._room = room

    def add(self, byte_count: int) -> None:
        """Acquire more bytes; raises `Busy` if other requests hold them."""
        self._room.take(byte_count)
        self.byte_count += byte_count


def too_large(message: str = "") -> RefusedRequest:
    """Return the refusal of a request that is larger than allowed."""
    return RefusedRequest(
        RESOURCE_EXHAUSTED,
        OTLP_OVERSIZED,
        message or f"a request may have {MAX_BODY_BYTES >> 20} MiB, decompressed; send fewer spans at a time",
    )


def check_json(content: bytes | bytearray) -> None:
    """Refuse JSON whose objects would take too much memory.

    Raises:
        RefusedRequest: it has more than `MAX_JSON_VALUES`.
    """
    # Characters inside strings count as well: this is a bound, at one pass of memchr for each.
    if content.count(b",") + content.count(b"{") + content.count(b"[") > MAX_JSON_VALUES:
        raise too_large(f"a request may have {MAX_JSON_VALUES:,} JSON values; send fewer spans at a time")


def inflate(body: Body, deadline: Deadline, held: Held) -> bytearray:
    """Decompress gzip or deflate with all its members.

    Args:
        body: the compressed body.
        deadline: checked at each step.
        held: acquires the memory of the decompressed bytes.

    Raises:
        RefusedRequest: the content is neither gzip nor deflate, or larger than allowed.
        Busy: there is no time or memory for it at the moment.
    """
    # One buffer, because joining parts would take their memory twice.
    whole = bytearray()
    content = memoryview(body.content)
    least, ratio = (
        (INFLATED_JSON_BYTES, INFLATED_JSON_RATIO) if body.is_json else (INFLATED_BYTES, INFLATED_RATIO)
    )
    limit = min(MAX_BODY_BYTES, least + ratio * len(content))
    at = members = 0
    try:
        while at < len(content):
            members += 1
            if members > MAX_MEMBERS:
                raise too_large(f"a gzip stream may have {MAX_MEMBERS:,} members")
            stream = zlib.decompressobj(_EITHER)
            fed: bytes | memoryview = b""
            while not stream.eof:
                deadline.remaining_s()
                if not fed:
                    fed = content[at : at + FED_BYTES]
                    at += len(fed)
                had = len(fed)
                part = stream.decompress(fed, STEP_BYTES)
                fed = stream.unconsumed_tail
                if not had and not part and not stream.eof:
                    raise zlib.error("it ends too early")
                if len(whole) + len(part) > limit:
                    raise (
                        too_large()
                        if limit == MAX_BODY_BYTES
                        else too_large(f"{len(content):,} bytes may become {limit:,}, decompressed")
                    )
                held.add(len(part))
                whole += part
            at -= len(stream.unused_data)
    except zlib.error as error:
        message = f"the body cannot be decompressed: {error}"
        raise RefusedRequest(INVALID_ARGUMENT, OTLP_BODY, message) from None
    return whole
