"""Encoding of spans into bodies that unpack and fit a message, whatever the spans carry."""

import enum
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NoReturn

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ztrace.recording import make_record
from ztrace import diagnostics
from ztrace.publishing import encoding
from ztrace.publishing.encoding import REFUSED, encode
from ztrace.publishing.values import (
    CUT,
    MAX_ATTRIBUTES,
    MAX_FOREIGN_TEXT,
    MAX_ITEMS,
    MAX_NAME,
    MAX_TEXT,
    REPLACED,
)
from ztrace.records import RAISED, ExceptionRecord, FrameRecord, Span
from ztrace.scrubbing.rules import REASON as SCRUBBED
from ztrace.wire import MAX_BODY_BYTES, MAX_FRAME_BYTES

PLAIN = {"text": "visa", "number": 12, "share": 0.5, "yes": True, "none": None}


@pytest.fixture(autouse=True)
def _counted(counts: dict[str, int]) -> None:
    """Check that no count is left over from or for another test."""


def sent(*records: Any) -> list[Span]:
    """Return the spans unpacked from the bodies, after checking each body's size and number of spans."""
    spans: list[Span] = []
    for span_count, body in encode(records):
        assert len(body) < MAX_FRAME_BYTES
        fields = msgpack.unpackb(body, strict_map_key=False)
        assert len(fields) == span_count > 0
        spans += [Span(*one) for one in fields]
    return spans


def sent_between(record: Span) -> Span:
    """Return a span as unpacked from a batch, after checking that its neighbours are unchanged."""
    before, after = make_record(1, attributes=PLAIN), make_record(3, attributes=PLAIN)
    first, middle, last = sent(before, record, after)
    assert (first, last) == (before, after)
    assert middle.span_id == record.span_id
    return middle


def sent_value(value: object) -> Any:
    """Return an attribute's value as unpacked, after checking that the other attributes are unchanged."""
    attributes = sent_between(make_record(2, attributes={**PLAIN, "odd": value})).attributes
    assert attributes is not None
    odd = attributes.pop("odd")
    assert attributes == PLAIN
    return odd


def test_plain_records_come_back() -> None:
    """Valid records are sent unchanged in one body."""
    records = [make_record(number, attributes=PLAIN) for number in range(500)]
    assert sent(*records) == records
    assert len(list(encode(records))) == 1
    assert diagnostics.counts == {}


def test_nothing_is_sent_for_nothing() -> None:
    """No records give no body."""
    assert list(encode([])) == []


class Text(str):
    """Text whose methods all raise."""

    def __len__(self) -> NoReturn:
        raise RuntimeError

    __str__ = __getitem__ = __iter__ = __eq__ = __hash__ = encode = __len__  # type: ignore[assignment]


class Number(int):
    """Integer whose methods all raise."""

    def __int__(self) -> NoReturn:
        raise RuntimeError

    __index__ = __str__ = __format__ = __eq__ = __hash__ = __bool__ = __int__  # type: ignore[assignment]


class Share(float):
    """Float whose conversion raises."""

    def __float__(self) -> NoReturn:
        raise RuntimeError


class Binary(bytes):
    """Bytes whose methods all raise."""

    def __len__(self) -> NoReturn:
        raise RuntimeError

    __bytes__ = __getitem__ = __iter__ = decode = __len__  # type: ignore[assignment]


class Endless(list[int]):
    """List whose iteration never ends."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1

    def __len__(self) -> NoReturn:
        raise RuntimeError


class Colour(enum.IntEnum):
    """Integer subclass with named values."""

    RED = 3


class Tone(enum.StrEnum):
    """Text subclass with named values."""

    LOW = "low"


class Odd:
    """Type unknown to msgpack, whose methods all raise."""

    def __str__(self) -> NoReturn:
        raise RuntimeError

    __repr__ = __bool__ = __iter__ = __len__ = __str__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-(1 << 63), -(1 << 63)),
        ((1 << 63) - 1, (1 << 63) - 1),
        (float("inf"), float("inf")),
        (b"bytes", b"bytes"),
        (bytearray(b"bytes"), b"bytes"),
        ([1, "a", None, 0.5], [1, "a", None, 0.5]),
        ((1, 2), [1, 2]),
        ([[1], (2,)], [[1], [2]]),
        (Colour.RED, 3),
        (Tone.LOW, "low"),
        (Text("text"), "text"),
        (Number(5), 5),
        (Share(0.5), 0.5),
        (Binary(b"bytes"), b"bytes"),
        (Endless([1, 2]), [1, 2]),
        ("", ""),
        ("x" * MAX_TEXT, "x" * MAX_TEXT),
        ("🂡" * MAX_TEXT, "🂡" * MAX_TEXT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_can_travel(value: object, expected: object) -> None:
    """Scalars, bytes and lists of up to two levels are sent as values of their base type."""
    assert sent_value(value) == expected
    assert diagnostics.counts == {}


def test_not_a_number_stays_one() -> None:
    """NaN is sent unchanged."""
    value = sent_value(float("nan"))
    assert value != value
    assert diagnostics.counts == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 << 70, hex(1 << 70)),
        (-(1 << 70), hex(-(1 << 70))),
        (Odd(), "<Odd>"),
        ({"a": 1}, "<dict>"),
        ({1, 2}, "<set>"),
        (Fraction(1, 2), "<Fraction>"),
        (memoryview(b"x"), "<memoryview>"),
        ([1, Odd()], [1, "<Odd>"]),
        ([[[1]]], [["<list>"]]),
        ([1 << 70], [hex(1 << 70)]),
        ("a\ud800b", "a?b"),
        (["a\udcff"], ["a?"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_cannot_travel_are_replaced(value: object, expected: object) -> None:
    """An unsupported value is replaced by a text, and the replacement is counted once."""
    assert sent_value(value) == expected
    assert diagnostics.counts == {REPLACED: 1}


def test_a_value_without_end_is_replaced() -> None:
    """A list that contains itself is replaced at the maximum depth."""
    loop: list[Any] = []
    loop.append(loop)
    assert sent_value(loop) == [["<list>"]]
    assert diagnostics.counts == {REPLACED: 1}


def test_an_enormous_number_is_cut() -> None:
    """An integer beyond 64 bits is sent as hexadecimal text, truncated to the maximum length."""
    value = sent_value(1 << 1_000_000)
    assert value[:3] == "0x1"
    assert len(value) <= MAX_TEXT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x" * 10_000_000, "x" * (MAX_TEXT - 1) + "…"),
        (Text("x" * 5000), "x" * (MAX_TEXT - 1) + "…"),
        (b"x" * 10_000_000, b"x" * MAX_TEXT),
        (bytearray(5000), bytes(MAX_TEXT)),
        (list(range(1000)), list(range(MAX_ITEMS))),
        (tuple(range(1000)), list(range(MAX_ITEMS))),
        (["x" * 5000], ["x" * (MAX_TEXT - 1) + "…"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_too_long_are_cut(value: object, expected: object) -> None:
    """An oversized value is truncated at its end, and the truncation is counted once."""
    assert sent_value(value) == expected
    assert diagnostics.counts == {CUT: 1}


def test_each_mending_is_counted_once() -> None:
    """A text both too long and not valid UTF-8 is counted as truncated once and replaced once."""
    value = sent_value("\ud800" + "x" * 5000)
    assert value == "?" + "x" * (MAX_TEXT - 2) + "…"
    assert diagnostics.counts == {CUT: 1, REPLACED: 1}


def test_all_that_is_wrong_in_a_batch_is_counted() -> None:
    """Every correction in every span of a batch is counted."""
    records = [make_record(number, attributes={"a": Odd(), "b": "x" * 5000}) for number in range(10)]
    assert [span.attributes for span in sent(*records, make_record(10, attributes={"a": 1 << 70}))][:10] == [
        {"a": "<Odd>", "b": "x" * (MAX_TEXT - 1) + "…"}
    ] * 10
    assert diagnostics.counts == {CUT: 10, REPLACED: 11}


@pytest.mark.parametrize(
    ("name", "expected", "reasons"),
    [
        ("x" * MAX_NAME, "x" * MAX_NAME, {}),
        ("x" * 10_000_000, "x" * (MAX_NAME - 1) + "…", {CUT: 1}),
        (Text("charge"), "charge", {}),
        (b"charge", "charge", {}),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}", {}),
        ("caf\udce9", "caf?", {REPLACED: 1}),
        (None, "<NoneType>", {REPLACED: 1}),
        (5, "<int>", {REPLACED: 1}),
        (Odd(), "<Odd>", {REPLACED: 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_names(name: Any, expected: str, reasons: dict[str, int]) -> None:
    """A span's name is converted to valid text of limited length."""
    assert sent_between(make_record(2, name=name)).name == expected
    assert diagnostics.counts == reasons


def test_names_of_attributes() -> None:
    """Names of attributes are converted to text and truncated when a span needs correction anyway."""
    attributes = {"odd": Odd(), 5: 1, "x" * 500: 2, b"bytes": 3}
    assert sent_between(make_record(2, attributes=attributes)).attributes == {
        "odd": "<Odd>",
        "<int>": 1,
        "x" * (MAX_NAME - 1) + "…": 2,
        "bytes": 3,
    }
    assert diagnostics.counts == {REPLACED: 2, CUT: 1}


def test_names_of_attributes_that_only_the_collector_can_tell_are_kept() -> None:
    """An integer as the name of an attribute can be packed and is sent unchanged."""
    kept: Any = sent_between(make_record(2, attributes={5: 1})).attributes
    assert kept == {5: 1}


@pytest.mark.parametrize("attributes", ["text", 5, [1], Odd()])
def test_attributes_that_are_no_dictionary_are_replaced(attributes: Any) -> None:
    """Attributes that are no dictionary are replaced by a marker, and the span is kept."""
    name = type(attributes).__name__
    expected = {"ztrace.replaced": f"<{name}>"}
    assert sent_between(make_record(2, attributes=attributes)).attributes == expected
    assert diagnostics.counts == {REPLACED: 1}


def test_attributes_beyond_the_hundred_and_twenty_eighth_are_cut() -> None:
    """A span that needs correction keeps its first 128 attributes and counts the others as cut."""
    attributes = {str(number): number for number in range(200)} | {"0": Odd()}
    kept = sent_between(make_record(2, attributes=attributes)).attributes
    assert kept is not None
    assert list(kept) == [str(number) for number in range(MAX_ATTRIBUTES)]
    assert diagnostics.counts == {REPLACED: 1, CUT: 200 - MAX_ATTRIBUTES}


@pytest.mark.parametrize(
    "attributes",
    [
        {f"key {number}": "x" * 4000 for number in range(2500)},
        {f"key {number}": "🂡" * 4000 for number in range(100)},
        {f"key {number}": ["x" * 4000] * 128 for number in range(20)},
        {"x" * 10_000_000: 1},
    ],
    ids=["many", "wide", "nested", "key"],
)
@pytest.mark.parametrize("alone", [True, False])
def test_ten_megabytes_of_attributes_are_cut(attributes: dict[str, Any], alone: bool) -> None:
    """A span too large for a message loses its attributes and carries a marker, alone or in a batch."""
    record = make_record(2, attributes=attributes)
    span = sent(record)[0] if alone else sent_between(record)
    assert span.attributes is not None
    assert list(span.attributes) == ["ztrace.cut"]
    assert diagnostics.counts == {CUT: 1}


def test_a_batch_that_is_large_in_all_is_sent_in_parts() -> None:
    """A large batch of small spans is split into several bodies in order, without truncation."""
    records = [make_record(number, attributes={"text": "x" * 4000}) for number in range(1000)]
    bodies = [body for _, body in encode(records)]
    assert len(bodies) > 3
    assert max(map(len, bodies)) <= MAX_BODY_BYTES
    assert sent(*records) == records
    assert diagnostics.counts == {}


def test_an_enormous_exception_loses_its_frames() -> None:
    """An exception too large for a message loses its frames, and the neighbouring spans are sent."""
    frames = [FrameRecord("x" * 100_000, 1, "work", "module", "code", True)] * 50
    exception = ExceptionRecord("x" * 10_000_000, "no", frames, [], RAISED, b"t" * 16, b"s" * 8)
    span = sent_between(make_record(2, attributes=PLAIN, exception=exception))
    assert span.exception is not None
    assert span.exception == ["x" * MAX_NAME, "no", [], [], RAISED, b"t" * 16, b"s" * 8, [], []]
    assert diagnostics.counts == {CUT: 1}


def test_an_exception_that_is_not_utf8_is_kept() -> None:
    """An exception's text that is not valid UTF-8 is replaced as in attributes."""
    frames = [FrameRecord("file\udcff.py", 1, "work", "module", "code", True)]
    exception = ExceptionRecord("OSError", "no \udcff", frames, [], RAISED, b"t" * 16, b"s" * 8)
    span = sent_between(make_record(2, exception=exception))
    assert span.exception == [
        "OSError",
        "no ?",
        [["file?.py", 1, "work", "module", "code", True, 0, 0, None]],
        [],
        RAISED,
        b"t" * 16,
        b"s" * 8,
        [],
        [],
    ]
    assert diagnostics.counts == {REPLACED: 1}


def test_many_links_are_cut() -> None:
    """Links too large for a message are removed and counted as cut."""
    links = [[b"t" * 16, b"s" * 8]] * 300_000
    assert sent_between(make_record(2, links=links)).links is None
    assert diagnostics.counts == {CUT: 1}


@pytest.mark.parametrize("alone", [True, False])
def test_a_record_that_cannot_be_mended_is_refused(alone: bool) -> None:
    """A span whose ids cannot be packed is refused and counted, and its neighbours are sent."""
    record = make_record(2, trace_id=Odd())
    if alone:
        assert list(encode([record])) == []
    else:
        before, after = make_record(1), make_record(3)
        assert sent(before, record, after) == [before, after]
    assert diagnostics.counts == {REFUSED: 1}


def test_a_record_that_is_too_large_without_its_attributes_is_refused() -> None:
    """A span too large even without attributes is refused, so the collector never drops the connection."""
    assert sent(make_record(1), make_record(2, trace_id=b"x" * 10_000_000)) == [make_record(1)]
    assert diagnostics.counts == {CUT: 1, REFUSED: 1}


class Changing(dict[str, Any]):
    """Dictionary that grows while its values are read."""

    def values(self) -> Any:
        """Yield the values, and insert another item before each."""
        for number, value in enumerate(super().values()):
            self[f"new {number}"] = number
            yield value


def test_a_dictionary_that_changes_while_it_is_read_is_copied() -> None:
    """Attributes modified by the program while being read are sent as of one moment."""
    attributes = Changing(PLAIN)
    kept = sent_between(make_record(2, attributes=attributes)).attributes
    assert kept is not None
    assert PLAIN.items() <= kept.items()
    assert diagnostics.counts == {}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.text(st.characters(codec=None, categories=["Cs", "Lu"]), max_size=5)
    | st.binary()
    | st.builds(Odd)
    | st.builds(Text, st.text())
    | st.builds(Number, st.integers())
    | st.just("x" * 200_000)
    | st.just(["🂡" * 4000] * 128),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)

RECORDS = st.builds(
    make_record,
    st.integers(0, 1000),
    name=st.text() | st.binary() | VALUES,
    attributes=st.none() | st.dictionaries(st.text() | st.integers(), VALUES, max_size=6) | VALUES,
    links=st.none() | st.lists(st.tuples(st.binary(), st.binary()), max_size=3),
    trace_id=st.binary(min_size=16, max_size=16) | st.just(Odd()),
)


@settings(max_examples=settings().max_examples // 2)
@given(st.lists(RECORDS, max_size=8))
def test_any_records_make_bodies_that_can_be_sent(records: list[Span]) -> None:
    """Any records give bodies that unpack, fit a message and contain every span not refused."""
    diagnostics.counts.clear()
    spans = sent(*records)
    assert len(spans) == len(records) - diagnostics.counts.get(REFUSED, 0)
    assert [span.span_id for span in spans] == [
        record.span_id for record in records if isinstance(record.trace_id, bytes)
    ]
    assert all(type(span.name) is str for span in spans)
    assert set(diagnostics.counts) <= {CUT, REPLACED, REFUSED, SCRUBBED}


def test_mending_twice_changes_nothing() -> None:
    """Correcting a corrected record changes nothing and counts nothing."""
    record = make_record(0, attributes={"a": "x" * 5000, "b": Odd(), "c": list(range(500))})
    mended = encoding._mend(record)
    before = dict(diagnostics.counts)
    assert encoding._mend(mended) == mended
    assert diagnostics.counts == before


def test_details_travel_with_mappings_and_lists() -> None:
    """Details keep the types of OpenTelemetry's values at any depth, mappings and NaN included."""
    value = {"a": [1, 1.0, True, None, b"\0\xff", "x", [["y"], {"z": 2}]], "b": float("inf")}
    details = {"events": [{"name": "e", "time_ns": 5, "attributes": value}], "scope": {"name": "s"}}
    span = sent_between(make_record(2, attributes={"nested": value}, details=details))
    assert span.details == details
    assert span.attributes == {"nested": value}
    assert diagnostics.counts == {}


def test_mappings_are_not_kept_of_spans_without_details() -> None:
    """A mapping among the agent's own attributes is replaced by the name of its type."""
    assert sent_value({"a": 1}) == "<dict>"
    assert diagnostics.counts == {REPLACED: 1}


def test_secrets_are_taken_out_of_details() -> None:
    """Details are scrubbed by name and by pattern, like attributes."""
    event = {"name": "login", "time_ns": 5, "attributes": {"password": "hunter2", "user": "ada"}}
    details = {"events": [event], "status_message": "refused: Authorization: Bearer abcdefghijklmnop"}
    span = sent_between(make_record(2, attributes={"deep": {"api_key": "k1"}}, details=details))
    text = repr(span)
    assert "ada" in text
    assert not any(secret in text for secret in ("hunter2", "abcdefghijklmnop", "k1"))
    assert diagnostics.counts.keys() == {SCRUBBED}


def test_long_texts_and_deep_values_in_details_are_cut() -> None:
    """Details keep longer texts than attributes, and are removed from a span that is too large."""
    deep: list[object] = []
    deep.append(deep)
    span = sent_between(
        make_record(2, details={"text": "x" * 20_000, "long": "x" * 200_000, "deep": deep, "odd": Odd()})
    )
    assert span.details is not None
    assert span.details["text"] == "x" * 20_000
    assert len(span.details["long"]) == MAX_FOREIGN_TEXT
    assert span.details["odd"] == "<Odd>"
    assert diagnostics.counts == {CUT: 1, REPLACED: 2}
    large = make_record(2, details={str(number): "x" * MAX_FOREIGN_TEXT for number in range(40)})
    assert sent_between(large).details is None
    assert diagnostics.counts == {CUT: 2, REPLACED: 2}
