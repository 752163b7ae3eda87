"""Sampled code as the collector packs it into rows, in either store."""

from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_viewer.queries.stores.answers import Run, StackTime

#: Known states of code.
STATES = {RUN, WAIT, WAIT_BUSY}


def read_sums(packed: object) -> list[StackTime]:
    """Return the items of a row of sums; none if it is not readable: a damaged file can hold anything."""
    import msgpack  # Which no query of a store without code needs.

    try:
        flat = msgpack.unpackb(packed)
        columns = flat[::3], flat[1::3], flat[2::3]
        if set(map(type, flat)) <= {int} and set(columns[1]) <= STATES:
            return [StackTime._make(each) for each in zip(*columns, strict=True)]
    except (ValueError, TypeError, msgpack.UnpackException):
        pass
    return []


def read_runs(packed: object) -> list[Run]:
    """Return the runs of a row, likewise."""
    import msgpack

    try:
        flat, others = msgpack.unpackb(packed)
        ids = [(bytes.hex(trace_id), bytes.hex(span_id), int(method)) for trace_id, span_id, method in others]
        spans = [None, *ids]
        return [
            Run(int(stack), state, 1_000 * us, spans[other])
            for stack, state, us, other in zip(*(flat[place::4] for place in range(4)), strict=True)
            if state in STATES and type(us) is int
        ]
    except (ValueError, TypeError, AttributeError, IndexError, msgpack.UnpackException):
        return []
