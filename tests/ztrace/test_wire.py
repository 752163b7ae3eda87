"""Wire format: round trips, and rejection of malformed headers and acknowledgements."""

from itertools import product
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztrace.errors import WireError
from ztrace.wire import (
    ACK,
    BEAT,
    BYE,
    CRASH,
    DATA,
    MAGIC,
    MAX_ACKS,
    MAX_FRAME_BYTES,
    MAX_HZ,
    MAX_REQUEST_S,
    PROFILE,
    REFUSED,
    REQUEST,
    TOMBSTONE,
    VERSION,
    WELCOME,
    Header,
    Request,
    find_incarnation,
    pack_acks,
    pack_header,
    pack_request,
    unpack_acks,
    unpack_header,
    unpack_request,
)

HEADER = Header(
    kind=DATA,
    incarnation=b"i" * 16,
    sequence=9,
    floor=7,
    covered=1,
    span_count=512,
    created=5000,
    dropped=3,
    retired=4000,
    mended={"attribute_cut": 2},
    service="billing",
    host="desk",
    pid=42,
    started_ns=1_700_000_000_000_000_000,
    sampled=70,
    service_version="1.2",
    acknowledged_elsewhere=30,
    collectors=2,
)

COUNTS = st.integers(0, (1 << 63) - 1)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Return any header that a publisher could send."""
    floor, sequence = sorted((draw(COUNTS), draw(COUNTS)))
    return Header(
        kind=draw(st.sampled_from([DATA, TOMBSTONE, BEAT, BYE, CRASH, PROFILE])),
        incarnation=draw(st.binary(min_size=16, max_size=16)),
        sequence=sequence,
        floor=floor,
        covered=draw(COUNTS),
        span_count=draw(COUNTS),
        created=draw(COUNTS),
        dropped=draw(COUNTS),
        retired=draw(COUNTS),
        mended=draw(st.dictionaries(st.text(max_size=64), COUNTS, max_size=8)),
        service=draw(st.text(max_size=256)),
        host=draw(st.text(max_size=256)),
        pid=draw(COUNTS),
        started_ns=draw(COUNTS),
        sampled=draw(COUNTS),
        service_version=draw(st.text(max_size=100)),
        acknowledged_elsewhere=draw(COUNTS),
        collectors=draw(COUNTS),
    )


def packed(*fields: Any) -> bytes:
    """Return the fields packed as the frame of a header."""
    frame: bytes = msgpack.packb(fields)
    return frame


def reason_of(frame: bytes) -> str:
    """Return the reason for which a header is rejected."""
    with pytest.raises(WireError) as caught:
        unpack_header(frame)
    assert str(caught.value)
    return caught.value.reason


@given(headers())
def test_a_header_comes_back(header: Header) -> None:
    """A packed header is parsed back to the same fields."""
    assert unpack_header(pack_header(header)) == header
    assert find_incarnation(pack_header(header)) == header.incarnation


def test_an_incarnation_is_found_in_any_valid_form() -> None:
    """A header that another encoder has packed, with wider lengths, has its incarnation found too."""
    wide = b"\xdd\0\0" + pack_header(HEADER)[1:]
    assert unpack_header(wide) == HEADER
    assert find_incarnation(wide) == HEADER.incarnation


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", b"GET /", pack_header(HEADER)[1:], pack_header(HEADER._replace(kind=200))]
)
def test_a_frame_without_a_header_has_no_incarnation(frame: bytes) -> None:
    """A frame that is no header names no incarnation."""
    assert find_incarnation(frame) is None


@given(st.dictionaries(st.binary(min_size=16, max_size=16), COUNTS | st.just(REFUSED), max_size=40))
def test_an_acknowledgement_comes_back(acks: dict[bytes, int]) -> None:
    """A packed acknowledgement is parsed back, and starts as no other frame does."""
    frame = pack_acks(acks)
    assert unpack_acks(frame) == acks
    assert not frame.startswith((WELCOME, REQUEST))


@pytest.mark.parametrize(
    "frame", [b"", b"\xc1", pack_header(HEADER)[:-1], pack_header(HEADER) + b"\0", b"GET /"]
)
def test_what_is_not_msgpack_is_undecodable(frame: bytes) -> None:
    """Truncated msgpack, trailing bytes and other protocols are rejected as undecodable or foreign."""
    assert reason_of(frame) in ("undecodable", "foreign")


@pytest.mark.parametrize(
    "value", [["x"] * 65, dict.fromkeys(range(65), 0), "x" * 4097, b"x" * 65, {1: 2}, ["x" * 4097]]
)
def test_oversized_headers_are_undecodable(value: Any) -> None:
    """A header cannot make the collector allocate much memory."""
    assert reason_of(packed(MAGIC, VERSION, value)) == "undecodable"


@pytest.mark.parametrize(
    "fields", [[], [MAGIC], ["ZT", VERSION], [b"XX", VERSION], [VERSION, MAGIC], [[MAGIC], 1]]
)
def test_other_protocols_are_foreign(fields: list[Any]) -> None:
    """A message that does not start with the magic bytes is rejected as foreign."""
    assert reason_of(packed(*fields)) == "foreign"


@pytest.mark.parametrize("value", [None, 5, "ZT", b"ZT", {"magic": "ZT"}])
def test_what_is_no_array_is_foreign(value: Any) -> None:
    """A msgpack value that is no array is rejected as foreign."""
    assert reason_of(msgpack.packb(value)) == "foreign"


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_other_versions_are_told(version: Any) -> None:
    """The version is checked before the other fields, and the error names the version received."""
    with pytest.raises(WireError, match=r"wire version .* reads 1") as caught:
        unpack_header(packed(MAGIC, version, "unknown"))
    assert caught.value.reason == "version"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in Header._fields),
        *({name: True} for name in Header._fields),
        *({name: -1} for name in Header._fields if type(getattr(HEADER, name)) is int),
        *(
            {name: 1 << 63}
            for name in ("sequence", "created", "dropped", "retired", "pid", "started_ns", "sampled")
        ),
        {"kind": 0},
        {"kind": 8},
        {"incarnation": b"short"},
        {"incarnation": b"i" * 17},
        {"floor": 10},
        {"service": b"bytes"},
        {"mended": {"reason": -1}},
        {"mended": {"reason": "many"}},
        {"mended": {"reason": True}},
        {"mended": {b"reason": 1}},
        {"mended": {"r" * 65: 1}},
    ],
    ids=str,
)
def test_fields_that_are_wrong_are_refused(changes: dict[str, Any]) -> None:
    """A field of the wrong type or out of range is rejected."""
    assert reason_of(pack_header(HEADER._replace(**changes))) == "header"


def test_missing_and_additional_fields_are_refused() -> None:
    """A header with a missing or additional field is rejected."""
    assert reason_of(packed(MAGIC, VERSION, *HEADER[:-1])) == "header"
    assert reason_of(packed(MAGIC, VERSION, *HEADER, 0)) == "header"
    assert reason_of(packed(MAGIC, VERSION)) == "header"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        ACK,
        ACK[:-1],
        ACK + b"\xc1",
        pack_acks({b"i": 1})[:-1],
        b"xxxx" + pack_acks({b"i": 1})[4:],
        ACK + packed(VERSION + 1, {}),
        ACK + packed(VERSION),
        ACK + packed(VERSION, []),
        ACK + packed(VERSION, {"text": 1}),
        ACK + packed(VERSION, {b"i": None}),
        ACK + packed(VERSION, {b"i": "many"}),
        ACK + packed(VERSION, {1: 1}),
        ACK + packed(VERSION, {number.to_bytes(16, "big"): 1 for number in range(MAX_ACKS + 1)}),
        ACK + packed(VERSION, {b"i": 1, bytes(MAX_FRAME_BYTES): 1}),
        ACK + packed(VERSION, {bytes(15): 1}),
        ACK + packed(VERSION, {bytes(16): -2}),
        ACK + packed(VERSION, {bytes(16): 1 << 63}),
        ACK + packed(VERSION, {bytes(16): 2.5}),
        ACK + packed(VERSION, {bytes(16): "9"}),
        ACK + packed(VERSION, {bytes(16): True}),
    ],
)
def test_what_is_no_acknowledgement_is_refused(frame: bytes) -> None:
    """A malformed acknowledgement is rejected as undecodable."""
    with pytest.raises(WireError) as caught:
        unpack_acks(frame)
    assert caught.value.reason == "undecodable"


REQUESTED = Request(b"n" * 8, "billing", 50, 30)


@pytest.mark.parametrize(
    "changes", [{}, {"service": ""}, {"hz": MAX_HZ}, {"seconds": MAX_REQUEST_S}], ids=str
)
def test_a_request_comes_back(changes: dict[str, Any]) -> None:
    """A packed request is parsed back, and starts as no other frame does."""
    request = REQUESTED._replace(**changes)
    assert unpack_request(pack_request(request)) == request
    assert not pack_request(request).startswith((WELCOME, ACK))


#: Positions of a request's fields, and invalid values of each.
WRONG: list[tuple[int, Any]] = [
    *product(range(4), (None, 1.5, True)),
    *product((0,), (b"short", "n" * 8)),
    *product((1,), (b"billing", "s" * MAX_FRAME_BYTES)),
    *product((2,), (0, -1, MAX_HZ + 1, "9")),
    *product((3,), (0, MAX_REQUEST_S + 1, 1 << 63)),
]


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        REQUEST,
        REQUEST + b"\xc1",
        ACK + pack_request(REQUESTED)[len(REQUEST) :],
        pack_request(REQUESTED) + b"\0",
        REQUEST + packed(VERSION + 1, *REQUESTED),
        REQUEST + packed(VERSION, *REQUESTED[:-1]),
        *(
            REQUEST + packed(VERSION, *REQUESTED[:place], wrong, *REQUESTED[place + 1 :])
            for place, wrong in WRONG
        ),
    ],
)
def test_what_is_no_request_is_refused(frame: bytes) -> None:
    """A malformed request, or one beyond the limits, is rejected as undecodable."""
    with pytest.raises(WireError) as caught:
        unpack_request(frame)
    assert caught.value.reason == "undecodable"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.binary(), inner, max_size=5),
)


@given(
    st.binary()
    | st.binary().map(lambda rest: ACK + rest)
    | VALUES.map(msgpack.packb)
    | VALUES.map(lambda value: ACK + msgpack.packb((VERSION, value)))
    | st.lists(VALUES, max_size=16).map(lambda values: packed(MAGIC, VERSION, *values))
)
def test_any_bytes_are_read_or_refused(frame: bytes) -> None:
    """Parsing arbitrary bytes raises only WireError, and a parsed header survives a round trip."""
    try:
        header = unpack_header(frame)
    except WireError:
        header = None
    assert header is None or unpack_header(pack_header(header)) == header
    try:
        acks = unpack_acks(frame)
    except WireError:
        acks = {}
    assert all(type(incarnation) is bytes and type(acks[incarnation]) is int for incarnation in acks)
