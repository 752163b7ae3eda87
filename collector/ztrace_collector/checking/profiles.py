"""Decoding of the samples in a PROFILE message.

One idea: a profile is a few flat arrays, and each is validated by a few passes that run in C. A profile that
is wrong anywhere is refused whole: its samples refer to each other, and they are counted as lost.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from operator import le
from typing import Any

import msgpack

from ztrace.errors import WireError, quote
from ztrace.records import DECLINED, INT64_MAX, KIND_NAMES, STARTED, WAIT_BUSY, Profile
from ztrace.wire import MAX_BODY_BYTES
from ztrace_collector.checking.mending import MAX_NAME
from ztrace_collector.checking.scalars import is_count, is_id
from ztrace_collector.refusals import PROFILE, UNDECODABLE

#: Maximum of items in an array, of characters in a text, and of answers.
MAX_ITEMS, MAX_TEXT, MAX_ANSWERS = 1 << 16, 1_024, 64
#: Maximum of samples, and of microseconds in an item: more than a message can have, and small enough to add.
MAX_SAMPLES, MAX_US = 1 << 32, 10**12

#: Integers of each item of the flat arrays.
FRAME, STACK, METHOD, SUM, RUN = 3, 2, 2, 4, 4


def read_profile(body: bytes) -> Profile:
    """Return the profile of a message's body.

    Raises:
        WireError: it is refused as a whole, with reason ``undecodable`` or ``profile``.
    """
    if len(body) > MAX_BODY_BYTES:
        raise WireError(PROFILE, f"a profile of {len(body)} bytes")
    try:
        fields = msgpack.unpackb(body, max_array_len=MAX_ITEMS, unicode_errors="surrogateescape")
    except Exception as error:
        raise WireError(UNDECODABLE, f"profile is not msgpack: {quote(error)}") from error
    if type(fields) is not list or len(fields) != len(Profile._fields):
        raise WireError(PROFILE, "a profile with too few or too many fields")
    profile = Profile(*fields)
    for is_right, what in _check(profile):
        if not is_right:
            raise WireError(PROFILE, f"a profile whose {what} are not as they should be")
    return profile


def _check(profile: Profile) -> Iterable[tuple[bool, str]]:
    """Yield the result of each check; those after a failed one may not be asked for."""
    yield is_count(profile.first) and is_count(profile.samples), "counts"
    yield profile.samples <= MAX_SAMPLES and profile.first <= INT64_MAX - MAX_SAMPLES, "counts"
    yield is_count(profile.start_ns) and is_count(profile.end_ns), "times"
    yield profile.start_ns <= profile.end_ns, "times"
    for name in Profile._fields[4:]:
        yield type(getattr(profile, name)) is list, name
    yield len(profile.answers) <= MAX_ANSWERS and all(map(_is_answer, profile.answers)), "answers"
    yield set(map(type, profile.texts)) <= {str}, "texts"
    yield max(map(len, profile.texts), default=0) <= MAX_TEXT, "texts"
    texts, spans = len(profile.texts), len(profile.spans)
    frames, stacks = len(profile.frames) // FRAME, len(profile.stacks) // STACK
    methods = len(profile.methods) // METHOD
    yield _is_table(profile.frames, (texts, texts, INT64_MAX)), "frames"
    yield _is_table(profile.stacks, (stacks, frames)), "stacks"
    # A parent precedes its stack; numbers of stacks count from 1.
    yield all(map(le, profile.stacks[::STACK], count())), "stacks"
    yield _is_table(profile.methods, (max(KIND_NAMES) + 1, texts)), "methods"
    yield set(profile.methods[::METHOD]) <= KIND_NAMES.keys(), "methods"
    yield all(0 < len(profile.texts[name]) <= MAX_NAME for name in profile.methods[1::METHOD]), "methods"
    timed = (stacks + 1, WAIT_BUSY + 1, MAX_US)
    yield _is_table(profile.sums, (methods, *timed)), "sums"
    for span in profile.spans:
        yield type(span) is list and len(span) == 4, "spans"
        trace_id, span_id, method, runs = span
        yield is_id(trace_id, 16) and is_id(span_id, 8), "spans"
        yield is_count(method) and method < methods, "spans"
        yield type(runs) is list and _is_table(runs, (*timed, spans + 1)), "spans"


def _is_answer(answer: Any) -> bool:
    return (
        type(answer) is list
        and len(answer) == 2
        and type(answer[0]) is bytes
        and len(answer[0]) == 8
        and type(answer[1]) is int
        and STARTED <= answer[1] <= DECLINED
    )


def _is_table(values: Sequence[Any], ends: Sequence[int]) -> bool:
    """Return whether a flat array has whole items of integers, each from 0 to below the end of its column."""
    if len(values) % len(ends) or not set(map(type, values)) <= {int}:
        return False
    columns = (values[place :: len(ends)] for place in range(len(ends)))
    return not values or all(
        min(column) >= 0 and max(column) < end for column, end in zip(columns, ends, strict=True)
    )
