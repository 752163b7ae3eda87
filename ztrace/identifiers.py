"""Trace and span ids: bytes inside, hex outside.

A trace id starts with six bytes of Unix milliseconds and ends with ten random bytes: ids of the same time are
adjacent in the store's index, and the last seven bytes are random, as W3C's flag 02 requires. A span id is
eight random bytes, never all zero.

Source: W3C Trace Context level 2, "random-trace-id flag"; RFC 9562 for the same layout in UUID version 7.
"""

from struct import Struct

from ztrace.native import urandom

#: Span ids drawn from the system's randomness at once: a span only takes one from a list.
_DRAWN = 512
#: Random bytes at the end of a trace id.
_TAIL_BYTES = 10
_cut = Struct("8s" * _DRAWN).unpack
_cut_tails = Struct(f"{_TAIL_BYTES}s" * _DRAWN).unpack

_span_ids: list[bytes] = []
_tails: list[bytes] = []
#: First nanosecond of the last trace id's millisecond, and the bytes with which ids of that time start.
_moment = (0, bytes(6))
#: Nanoseconds of a millisecond.
_MS_NS = 1_000_000

#: ``take_span_id()`` returns eight random bytes, never all zero, or raises IndexError: then `draw_span_ids`.
take_span_id = _span_ids.pop
_take_tail = _tails.pop


def draw_span_ids() -> bytes:
    """Draw new span ids and return one of them."""
    drawn = urandom(8 * _DRAWN)
    while bytes(8) in drawn:
        drawn = urandom(8 * _DRAWN)
    _span_ids.extend(_cut(drawn))
    return take_span_id()


def new_trace_id(now_ns: int) -> bytes:
    """Return a trace id that starts with ``now_ns`` (Unix)."""
    global _moment
    try:
        tail = _take_tail()
    except IndexError:
        _tails.extend(_cut_tails(urandom(_TAIL_BYTES * _DRAWN)))
        tail = _take_tail()
    first_ns, start = _moment
    if not 0 <= now_ns - first_ns < _MS_NS:
        now_ms = now_ns // _MS_NS
        start = now_ms.to_bytes(6, "big")
        _moment = now_ms * _MS_NS, start
    return start + tail


def forget() -> None:
    """Discard the drawn ids: a forked child must not use its parent's."""
    _span_ids.clear()
    _tails.clear()
