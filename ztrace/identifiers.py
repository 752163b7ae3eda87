"""Trace and span ids: bytes inside, hex outside.

A trace id begins with six bytes of Unix milliseconds and ends with ten random ones: ids made at the same time
lie side by side in the store's index, and the last seven bytes stay random as W3C's flag 02 asks. A span id
is eight random bytes, never all zero.

Source: W3C Trace Context level 2, "random-trace-id flag"; RFC 9562 for the same layout in UUID version 7.
"""

from struct import Struct

from ztrace.native import urandom

#: Span ids drawn from the system's randomness at once: taking one from a list is all that a span pays.
_DRAWN = 512
_cut = Struct("8s" * _DRAWN).unpack

_span_ids: list[bytes] = []

#: ``take_span_id()`` returns eight random bytes, never all zero, or raises IndexError: then `draw_span_ids`.
take_span_id = _span_ids.pop


def draw_span_ids() -> bytes:
    """Draw new span ids and return one of them."""
    drawn = urandom(8 * _DRAWN)
    while bytes(8) in drawn:
        drawn = urandom(8 * _DRAWN)
    _span_ids.extend(_cut(drawn))
    return take_span_id()


def new_trace_id(now_ns: int) -> bytes:
    """Return a trace id that begins with ``now_ns`` (Unix)."""
    try:
        random = take_span_id() + take_span_id()
    except IndexError:
        random = draw_span_ids() + draw_span_ids()
    return (now_ns // 1_000_000).to_bytes(6, "big") + random[:10]


def forget() -> None:
    """Throw away what was drawn: a forked child must not use its parent's ids."""
    _span_ids.clear()
