"""Prefixes of ids: lookup, ambiguity, and shortest unique ones."""

from pathlib import Path

import pytest

from tests.viewer.stored import HOUR, NOON, raised, span, store, trace_id
from ztrace.errors import NotFoundError, SettingsError
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.identifiers import (
    find_group,
    find_trace,
    is_trace,
    shorten_groups,
    shorten_traces,
    show_trace,
)
from ztrace_viewer.queries.stores.sqlite.store import open_file

#: Ids that share all digits but the last, and one as other libraries make them.
IDS = [
    bytes.fromhex(text) for text in ("0123456789abcdef" + "0" * 15 + "1", "0123456789abcdef" + "0" * 15 + "2")
]
OTHER = bytes.fromhex("ffeeddccbbaa99887766554433221100")


@pytest.fixture
def three(path: Path) -> Path:
    """Return a database with three traces, two of which share all digits but one."""
    return store(path, {"shop": [span(trace, number) for number, trace in enumerate([*IDS, OTHER], 1)]})


@pytest.mark.parametrize("prefix", ["ffee", "FFEE", " ffeed", "ffeeddccbbaa99887766554433221100"])
def test_a_unique_prefix_is_enough(three: Path, prefix: str) -> None:
    """A unique prefix is found, of even or odd length, in either case, with blanks around."""
    with open_file(three) as db:
        assert find_trace(db, prefix) == OTHER


def test_an_ambiguous_prefix_names_the_candidates(three: Path) -> None:
    """An ambiguous prefix raises an error with the candidates."""
    with open_file(three) as db, pytest.raises(SettingsError, match="ambiguous") as caught:
        find_trace(db, "0123")
    assert all(each.hex() in str(caught.value) for each in IDS)


def test_candidates_are_few(path: Path) -> None:
    """The list of candidates is limited."""
    store(path, {"shop": [span(trace_id(number), number) for number in range(1, 50)]})
    with open_file(path) as db, pytest.raises(SettingsError, match="…") as caught:
        find_trace(db, trace_id(1).hex()[:8])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("xyzw", "not a trace id"),
        ("", "not a trace id"),
        ("fff", "too short"),
        ("f" * 33, "more than 32"),
        ("٣٣٣٣", "not"),
    ],
)
def test_what_is_no_prefix_is_refused(three: Path, prefix: str, text: str) -> None:
    """An invalid prefix raises an error with the reason."""
    with open_file(three) as db, pytest.raises(SettingsError, match=text):
        find_trace(db, prefix)


def test_a_prefix_of_nothing_is_not_found(three: Path) -> None:
    """An unknown prefix raises an error distinct from an invalid one."""
    with open_file(three) as db, pytest.raises(NotFoundError):
        find_trace(db, "abcd")
    with open_file(three) as db, pytest.raises(NotFoundError):
        find_group(db, "abcd")


def test_what_is_shown_is_unique(three: Path) -> None:
    """A displayed id has sixteen digits, or as many as make it unique."""
    with open_file(three) as db:
        short = shorten_traces(db, [trace.hex() for trace in [*IDS, OTHER]])
        assert [len(each) for each in short.values()] == [32, 32, 16]
        for trace, shown in short.items():
            assert find_trace(db, shown).hex() == trace


def test_groups_are_found_by_what_is_shown(path: Path) -> None:
    """A displayed group id has at least eight digits and is found in either case."""
    errors = [raised(f"Error{number}", "no") for number in range(20)]
    store(path, {"shop": [span(trace_id(n), n, exception=error) for n, error in enumerate(errors, 1)]})
    with open_file(path) as db:
        groups = [group["group"] for group in list_groups(db)["groups"]]
        assert len(set(groups)) == 20
        for group, shown in shorten_groups(db, groups).items():
            assert len(shown) >= 8
            assert find_group(db, shown.upper()) == group


#: Ids of 64 bits, of which one has leading zeros, and a longer id that begins with the digits of one.
SHORT, TINY = "1e223ff1f80f1c69", "00000000000000ab"
LONG = "0123456789abcdef" + "0" * 15 + "1"


@pytest.fixture
def short(path: Path) -> Path:
    """Return a database with ids of 64 and of 128 bits."""
    ids = [bytes.fromhex(each.zfill(32)) for each in (SHORT, TINY, LONG, LONG[:16])]
    return store(path, {"shop": [span(trace, number) for number, trace in enumerate(ids, 1)]})


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (SHORT, SHORT),
        (SHORT.upper(), SHORT),
        (SHORT[:4], SHORT),
        ("0" * 16 + SHORT, SHORT),
        ("0" * 16 + SHORT[:3], SHORT),
        (TINY, TINY),
        ("ab", TINY),
        ("0ab", TINY),
        (LONG, LONG),
        (LONG[1:], LONG),
        (LONG[:17], LONG),
        # An id of 64 bits has precedence over a prefix of the same digits.
        (LONG[:16], LONG[:16]),
    ],
)
def test_an_id_of_64_bits_is_found_as_people_have_it(short: Path, written: str, wanted: str) -> None:
    """An id is found by its own digits, with zeros before them or without."""
    with open_file(short) as db:
        assert find_trace(db, written).hex() == wanted.zfill(32)


def test_an_id_of_64_bits_is_shown_by_its_own_digits(short: Path) -> None:
    """The zeros before an id of 64 bits are not displayed, and what is displayed names it."""
    with open_file(short) as db:
        shown = shorten_traces(db, [each.zfill(32) for each in (SHORT, TINY, LONG)])
        assert list(shown.values()) == [SHORT, TINY, LONG[:17]]
        for trace, text in shown.items():
            assert find_trace(db, text).hex() == trace
            assert is_trace(text, trace)
    assert show_trace(SHORT.zfill(32)) == SHORT
    assert show_trace(OTHER.hex()) == OTHER.hex()[:16]


def test_a_number_of_no_trace_is_too_short(short: Path) -> None:
    """Fewer digits than a prefix has are an id or nothing."""
    with open_file(short) as db, pytest.raises(SettingsError, match="too short"):
        find_trace(db, "abc")


def test_a_trace_that_is_no_longer_kept_is_told_by_its_id(path: Path) -> None:
    """An id of a time before all trees that are stored is told with both times, and others are not."""
    store(path, {"shop": [span(trace_id(1), 1)]}, at_ns=NOON)
    day = 24 * HOUR
    with open_file(path) as opened:
        for identifier in (trace_id(2, NOON - day).hex(), trace_id(2, NOON - HOUR).hex()[:16]):
            with pytest.raises(NotFoundError, match=r"it began at .*, before the oldest kept, 2026"):
                find_trace(opened, identifier)
        for identifier in (trace_id(2, NOON + HOUR).hex(), "ab" * 16, "00" * 15 + "01"):
            with pytest.raises(NotFoundError, match="see 'ztrace slow'"):
                find_trace(opened, identifier)
