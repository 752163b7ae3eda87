"""Profiles that are invalid anywhere are refused whole, whatever a peer sends."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.collector.messages import make_profile, pack_body, span_id, trace_id
from ztrace.errors import WireError
from ztrace.records import FINISHED, RUN, WAIT_BUSY, Profile
from ztrace.wire import MAX_BODY_BYTES
from ztrace_collector.checking.profiles import MAX_ANSWERS, MAX_TEXT, MAX_US, read_profile

SPANS = [
    [trace_id(1), span_id(1), 0, [2, RUN, 5, 0, 1, WAIT_BUSY, 7, 2]],
    [trace_id(1), span_id(2), 0, []],
]
WHOLE = make_profile(answers=[[b"n" * 8, FINISHED]], spans=SPANS)


@pytest.mark.parametrize(
    "profile",
    [WHOLE, make_profile(), Profile(0, 0, 0, 0, [], [], [], [], [], [], []), WHOLE._replace(sums=[])],
)
def test_a_valid_profile_is_returned(profile: Profile) -> None:
    """A profile comes back as it was packed, also one of answers alone, or without sums."""
    assert read_profile(pack_body(profile)) == Profile(*map(_as_list, profile))


def _as_list(value: Any) -> Any:
    return [_as_list(each) for each in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(
    "changes",
    [
        {"first": -1},
        {"first": (1 << 63) - 1},
        {"samples": True},
        {"samples": 1 << 40},
        {"start_ns": WHOLE.end_ns + 1},
        {"end_ns": 1.5},
        {"answers": [[b"n" * 7, 1]]},
        {"answers": [[b"n" * 8, 4]]},
        {"answers": [[b"n" * 8, 1]] * (MAX_ANSWERS + 1)},
        {"answers": {}},
        {"texts": ["a", 1, "b", "c", "d"]},
        {"texts": ["a" * (MAX_TEXT + 1), "b", "c", "d", "e"]},
        {"frames": [0, 1]},
        {"frames": [5, 1, 1]},
        {"frames": [0, 1, -1]},
        {"frames": [0, 1, None]},
        {"stacks": [1, 0]},
        {"stacks": [0, 3]},
        {"stacks": [0, 0, 2, 1]},
        {"methods": [6, 4]},
        {"methods": [0, 4]},
        {"methods": [2, 5]},
        {"texts": ["shop.py", "main", "load", "render", ""]},
        {"texts": ["shop.py", "main", "load", "render", "m" * 257]},
        {"sums": [1, 1, 0, 5]},
        {"sums": [0, 4, 0, 5]},
        {"sums": [0, 1, 3, 5]},
        {"sums": [0, 1, 0, MAX_US]},
        {"sums": [0, 1, 0]},
        {"spans": [[trace_id(1), span_id(1), 0]]},
        {"spans": [[bytes(16), span_id(1), 0, []]]},
        {"spans": [[trace_id(1), b"short", 0, []]]},
        {"spans": [[trace_id(1), span_id(1), 1, []]]},
        {"spans": [[trace_id(1), span_id(1), 0, [1, 0, 5, 2]]]},
        {"spans": [[trace_id(1), span_id(1), 0, {}]]},
        {"spans": [7]},
    ],
    ids=str,
)
def test_a_bad_field_refuses_the_profile(changes: dict[str, Any]) -> None:
    """A field of a wrong type, out of range, or that leads to no item, is the reason ``profile``."""
    with pytest.raises(WireError) as caught:
        read_profile(pack_body(WHOLE._replace(**changes)))
    assert caught.value.reason == "profile"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "undecodable"),
        (b"\xc1", "undecodable"),
        (msgpack.packb([0] * 10), "profile"),
        (msgpack.packb({}), "profile"),
        (bytes(MAX_BODY_BYTES + 1), "profile"),
        (pack_body(WHOLE) + b"\0", "undecodable"),
        (pack_body(WHOLE._replace(sums=[0] * ((1 << 16) + 4))), "undecodable"),
    ],
    ids=["empty", "no msgpack", "few fields", "map", "large", "more behind", "many items"],
)
def test_a_body_that_is_no_profile_is_refused(body: bytes, reason: str) -> None:
    """A body that cannot be read as the fields of a profile has the reason of what is wrong."""
    with pytest.raises(WireError) as caught:
        read_profile(body)
    assert caught.value.reason == reason


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 63) | st.floats() | st.binary(max_size=16) | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


def read(body: bytes) -> Profile | str:
    """Return the profile of a body, or the reason of its refusal."""
    try:
        return read_profile(body)
    except WireError as error:
        return error.reason


def pack(profile: Profile) -> bytes:
    """Return the body of a profile whose texts may have bytes that are not UTF-8."""
    body: bytes = msgpack.packb(profile, unicode_errors="surrogateescape")
    return body


@given(st.dictionaries(st.sampled_from(Profile._fields), VALUES))
def test_no_value_does_anything_but_refuse(changes: dict[str, Any]) -> None:
    """Whatever stands in the fields, the profile is returned valid or refused."""
    profile = read(pack_body(WHOLE._replace(**changes)))
    assert isinstance(profile, str) or read(pack(profile)) == profile


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_bytes_do_anything_but_refuse(noise: bytes, place: int) -> None:
    """Bytes written over a body make it another valid profile, or one that is refused."""
    whole = pack_body(WHOLE)
    place = min(place, len(whole))
    profile = read(whole[:place] + noise + whole[place + len(noise) :])
    assert isinstance(profile, str) or read(pack(profile)) == profile
