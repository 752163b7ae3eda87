"""Sealed traces as bytes: the same spans before and after, and damage."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ztrace.records import INT64_MAX
from ztrace_collector.sealing.form import DICTIONARY_BYTES, Compressor, Row, SealDamaged, pack, unpack
from ztrace_collector.storing.dictionaries import make_dictionary
from ztrace_collector.storing.store import Store

_IDS = st.binary(min_size=8, max_size=8)
_NUMBERS = st.integers(0, INT64_MAX // 2)
_TEXTS = st.none() | st.text(max_size=200)
_ROWS = st.lists(
    st.builds(
        Row,
        id=_NUMBERS,
        span_id=_IDS,
        parent_id=st.none() | _IDS,
        method=st.integers(1, 300),
        instance=st.integers(1, 300),
        start_ns=_NUMBERS,
        duration_ns=st.none() | _NUMBERS,
        self_ns=st.none() | _NUMBERS,
        cpu_ns=st.none() | _NUMBERS,
        lane=st.none() | st.integers(0, 5),
        status=st.integers(0, 2),
        attributes=_TEXTS,
        links=_TEXTS,
        details=_TEXTS,
    ),
    min_size=1,
    max_size=20,
)


def seal(rows: list[Row], dictionary: bytes = b"some text") -> bytes:
    """Return spans as they are sealed."""
    packed, span_ids = pack(rows)
    return Compressor(dictionary).compress(packed) + span_ids


def unseal(data: bytes, first: int, dictionary: bytes = b"some text") -> list[Row]:
    """Return sealed spans."""
    return [Row._make(each) for each in zip(*unpack(data, dictionary, first), strict=True)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=_ROWS, family=st.booleans(), dictionary=st.binary(max_size=20_000))
def test_spans_are_the_same(rows: list[Row], family: bool, dictionary: bytes) -> None:
    """Any spans of a trace are the same after sealing, with any dictionary."""
    if family:
        rows = [row._replace(parent_id=rows[place // 2].span_id) for place, row in enumerate(rows)]
    dictionary = dictionary[-DICTIONARY_BYTES:]
    assert unseal(seal(rows, dictionary), rows[0].id, dictionary) == rows


def make_row(**changes: Any) -> Row:
    """Return a span."""
    return Row(
        7, b"\x01" * 8, None, 3, 2, 10**18, 5_000, 4_000, None, 1, 0, '{"card":"visa"}', None, None
    )._replace(**changes)


def test_any_damage_is_recognised() -> None:
    """Each changed byte in front of the ids, a missing end, and another dictionary are damage."""
    rows = [make_row(), make_row(id=9, span_id=b"\x02" * 8, parent_id=b"\x01" * 8)]
    data = seal(rows)
    for place in range(len(data) - 16):
        with pytest.raises(SealDamaged):
            unseal(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :], 7)
    for length in (0, 1, 10, len(data) - 16, len(data) - 1):
        with pytest.raises(SealDamaged):
            unseal(data[:length], 7)
    for dictionary in (b"", b"other text"):
        with pytest.raises(SealDamaged):
            unseal(data, 7, dictionary)


def test_what_cannot_be_packed_is_refused() -> None:
    """Ids of another length and numbers too far apart are refused."""
    with pytest.raises(ValueError, match="length"):
        pack([make_row(span_id=b"short")])
    with pytest.raises(OverflowError):
        pack([make_row(start_ns=-(2**63)), make_row(start_ns=2**64 - 1)])


def test_a_dictionary_has_a_bounded_size() -> None:
    """A dictionary has the last of the samples, each once."""
    assert make_dictionary([b"one", b"two", b"one"]) == b"onetwo"
    assert make_dictionary([b"a" * DICTIONARY_BYTES, b"end"])[-4:] == b"aend"
    assert len(make_dictionary([b"a" * DICTIONARY_BYTES, b"end"])) == DICTIONARY_BYTES


def test_rows_have_the_columns_of_the_table(path: Path) -> None:
    """A sealed span has every column of ``spans``."""
    Store(path).close()
    with closing(sqlite3.connect(path)) as db:
        columns = {each[1] for each in db.execute("PRAGMA table_info(spans)")}
    assert {*Row._fields, "trace_id"} == columns
