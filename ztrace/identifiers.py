"""Trace and span ids: bytes inside, hex outside.

A trace id begins with six bytes of Unix milliseconds and ends with ten random ones: ids made at the same time
lie side by side in the store's index, and the last seven bytes stay random as W3C's flag 02 asks. A span id
is eight random bytes, never all zero. The generator is ztrace's own, so that a program that seeds `random`
for itself neither repeats ids nor has its own numbers disturbed.

Source: W3C Trace Context level 2, "random-trace-id flag"; RFC 9562 for the same layout in UUID version 7.
"""

from random import Random

_generator = Random()

#: ``random_bits(n)``: a bound method of a C type, so threads and greenlets share it without a lock.
random_bits = _generator.getrandbits


def new_span_id() -> bytes:
    """Return eight random bytes, never all zero."""
    return (random_bits(64) or 1).to_bytes(8, "big")


def new_trace_id(now_ns: int) -> bytes:
    """Return a trace id that begins with ``now_ns`` (Unix)."""
    return (now_ns // 1_000_000).to_bytes(6, "big") + random_bits(80).to_bytes(10, "big")


def reseed() -> None:
    """Start over from the system's randomness: a forked child must not repeat its parent's ids."""
    _generator.seed()
