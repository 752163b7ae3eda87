"""Times at which samples are due: one in each period, at random within it.

One idea: samples at a fixed distance resonate with programs that do the same again and again. A call that
takes some periods is then seen at the same few places, for minutes; at random times each place is seen in the
end, and a sample still stands for its whole period. Samples that fall due while C code keeps the interpreter
to itself are taken at its end, as one that stands for all of them.
"""

from ztrace.native import urandom

#: Times drawn at once, and bytes of each.
_DRAWN, _BYTES = 64, 2


class Due:
    """The time at which the next sample is due.

    The program's `random` is not used: a program that seeds it expects the same numbers with
    and without ztrace.

    Attributes:
        period_ns: the length of a period; a change holds from the next one on.
        next_ns: time of the next sample, by the monotonic clock.

    Args:
        now_ns: the time, at which the first period begins.
        period_ns: see above.
    """

    def __init__(self, now_ns: int, period_ns: int) -> None:
        self.period_ns = period_ns
        self._start_ns = now_ns
        self._drawn: list[int] = []
        self.next_ns = self._draw()

    def pass_to(self, now_ns: int) -> int:
        """Return the time that a sample stands for: the periods whose samples were due until now."""
        before_ns = self._start_ns
        whole_ns = (now_ns - before_ns) // self.period_ns * self.period_ns
        if whole_ns > 0:
            self._start_ns += whole_ns
            self.next_ns = self._draw()
        if self.next_ns <= now_ns:
            self._start_ns += self.period_ns
            self.next_ns = self._draw()
        return self._start_ns - before_ns

    def _draw(self) -> int:
        """Return a time within the period."""
        if not self._drawn:
            raw = urandom(_DRAWN * _BYTES)
            self._drawn = [int.from_bytes(raw[at : at + _BYTES], "big") for at in range(0, len(raw), _BYTES)]
        return self._start_ns + (self._drawn.pop() * self.period_ns >> 8 * _BYTES)
