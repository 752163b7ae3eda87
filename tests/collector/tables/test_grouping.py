"""Fingerprints of exception groups and templates of their messages."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ztrace.records import ExceptionRecord, FrameRecord
from ztrace_collector.checking.failures import Failure, read_failure
from ztrace_collector.refusals import Refusals
from ztrace_collector.tables.grouping import (
    HOLE,
    MAX_TEMPLATE,
    MAX_WORDS,
    covers,
    fingerprint,
    plain_code,
    template,
    widen,
)

APP = FrameRecord("/srv/shop/app.py", 10, "charge", "app", "gateway.pay(card)", True)
INNER = FrameRecord("/srv/shop/bank.py", 20, "Bank.debit", "bank", "raise Declined(card)", True)
LIBRARY = FrameRecord("/lib/http.py", 90, "send", "http", "raise Timeout", False)


def make_record(
    *frames: FrameRecord,
    kind: str = "bank.Declined",
    message: str = "no",
    how: str = "raised",
    causes: Sequence[Any] = (),
    members: Sequence[Any] = (),
    origin: tuple[bytes, bytes] | tuple[None, None] = (None, None),
) -> tuple[Any, ...]:
    """Return an exception as decoded from a message."""
    packed = tuple(tuple(frame) for frame in frames)
    trace_id, span_id = origin
    return tuple(
        ExceptionRecord(kind, message, packed, tuple(causes), how, trace_id, span_id, (), tuple(members))
    )


def read(record: tuple[Any, ...]) -> Failure:
    """Return the exception as the collector parses it, without refusals."""
    refusals = Refusals()
    failure = read_failure(record, b"t" * 16, b"s" * 8, refusals)
    assert failure is not None
    assert refusals.counts == {}
    return failure


def group_of(*frames: FrameRecord, service: str = "bank", **fields: Any) -> str:
    """Return the fingerprint of an exception."""
    return fingerprint(service, read(make_record(*frames, **fields)))


def test_a_fingerprint_is_16_hex_digits() -> None:
    """A fingerprint is 16 hex digits, the same for equal exceptions."""
    assert group_of(APP, INNER, LIBRARY) == group_of(APP, INNER, LIBRARY)
    assert len(bytes.fromhex(group_of(APP))) == 8


@pytest.mark.parametrize(
    "same",
    [
        [APP._replace(line=99), INNER, LIBRARY],
        [APP._replace(file="/opt/release-2/shop/app.py"), INNER],
        [APP, INNER._replace(code="  raise  Declined( card )  # never again")],
        [APP, INNER],
        [LIBRARY, APP, LIBRARY, INNER, LIBRARY._replace(function="receive")],
        [APP, APP, APP, INNER, INNER],
        [APP._replace(repeats=40), INNER._replace(omitted=7)],
        [APP, INNER._replace(locals={"card": "4111"})],
        [APP._replace(code="self.charge(next)"), APP, INNER],
        [APP, INNER._replace(code="for x in y"), INNER._replace(function="Bank.debit.<locals>.<listcomp>")],
    ],
)
def test_what_does_not_split_a_group(same: list[FrameRecord]) -> None:
    """Lines, paths, spaces, comments, libraries, recursion and variables do not change a fingerprint."""
    assert group_of(*same) == group_of(APP, INNER, LIBRARY)


@pytest.mark.parametrize(
    "other",
    [
        [APP],
        [APP, INNER._replace(function="Bank.credit")],
        [APP, INNER._replace(module="other")],
        [APP, INNER._replace(code="raise Declined(account)")],
        [INNER, APP],
        [APP, INNER._replace(function="Bank.debit.<locals>.<lambda>")],
    ],
)
def test_what_tells_groups_apart(other: list[FrameRecord]) -> None:
    """Functions, modules, code and the innermost frame change a fingerprint."""
    assert group_of(*other) != group_of(APP, INNER)


def test_service_and_type_tell_groups_apart() -> None:
    """Service and type change a fingerprint."""
    assert group_of(APP, service="shop") != group_of(APP)
    assert group_of(APP, kind="bank.Refused") != group_of(APP)


def test_messages_do_not_matter_where_there_are_frames() -> None:
    """Messages do not change a fingerprint with frames, even of libraries only."""
    assert group_of(APP, message="one") == group_of(APP, message="another")
    assert group_of(LIBRARY, message="one") == group_of(LIBRARY, message="another")
    assert group_of(LIBRARY) != group_of(LIBRARY._replace(function="receive"))


def test_without_frames_the_message_matters() -> None:
    """Without frames, words of a message change a fingerprint, and data in it does not."""
    assert group_of(message="no order 12 of 'ada'") == group_of(message="no order 7 of 'bob'")
    assert group_of(message="not found") != group_of(message="not allowed")


def test_two_raises_of_one_function_are_two_problems() -> None:
    """Two raise statements in one function have two fingerprints if their literals differ."""
    one = INNER._replace(code='raise ValueError("no card")')
    assert group_of(one) != group_of(INNER._replace(code='raise ValueError("no money")'))
    assert group_of(one) == group_of(INNER._replace(code="raise ValueError( 'no card' )"))
    assert group_of(INNER._replace(code="fail(1)")) != group_of(INNER._replace(code="fail(2)"))


def test_a_script_is_the_module_it_is_called_as() -> None:
    """A script run as ``__main__`` has the fingerprint of the module imported under its file name."""
    run = INNER._replace(file="/srv/bank.py", module="__main__")
    assert group_of(run, kind="__main__.Declined") == group_of(INNER, kind="bank.Declined")
    assert group_of(run._replace(file="/srv/other.py")) != group_of(run)


def test_wrapping_lines_are_as_many_problems_as_they_wrap() -> None:
    """Explicit causes with their frames change a fingerprint, and implicit ones do not."""
    key = make_record(INNER, kind="KeyError", how="wrapped")
    other = make_record(APP, kind="OSError", how="wrapped")
    assert group_of(APP, causes=[key]) != group_of(APP, causes=[other])
    assert group_of(APP, causes=[key]) != group_of(APP)
    moved = make_record(INNER._replace(line=1), kind="KeyError", message="'x'", how="wrapped")
    assert group_of(APP, causes=[key]) == group_of(APP, causes=[moved])
    assert group_of(APP, causes=[make_record(INNER, kind="KeyError", how="replaced")]) == group_of(APP)


def test_exception_groups_have_their_members_groups() -> None:
    """The set of members changes the fingerprint of an exception group, and order and repetition do not."""
    one, other = make_record(INNER, kind="KeyError"), make_record(LIBRARY, kind="OSError")
    origin = (b"t" * 16, b"o" * 8)
    remote = make_record(kind="Timeout", how="passed", origin=origin, message="after 3 s")
    group = group_of(APP, kind="ExceptionGroup", members=[one, other, remote])
    assert group_of(APP, kind="ExceptionGroup", members=[other, remote, one, one, other]) == group
    elsewhere = make_record(kind="Timeout", how="passed", origin=(b"t" * 16, b"p" * 8), message="after 4 s")
    assert group_of(APP, kind="ExceptionGroup", members=[one, other, elsewhere]) == group
    assert group_of(APP, kind="ExceptionGroup", members=[one]) != group
    inner = make_record(APP, kind="ExceptionGroup", members=[one])
    assert group_of(APP, kind="ExceptionGroup", members=[inner]) != group_of(APP, members=[one])


names = st.sampled_from(["load", "save", "Order.pay", "check", "main", "retry.<locals>.wrapper"])
frames = st.builds(
    FrameRecord,
    file=st.just("/srv/app.py"),
    line=st.integers(1, 500),
    function=names,
    module=st.sampled_from(["app", "shop.orders"]),
    code=st.sampled_from(["raise E(x)", "f(a, b)", 'self.go("there", 3)', ""]),
    in_app=st.just(True),
)


def edited(stack: list[FrameRecord], moved: int) -> list[FrameRecord]:
    """Return the frames after lines were inserted above them and the service was moved."""
    return [frame._replace(line=frame.line + moved, file="/other/place/x.py") for frame in stack]


@given(st.lists(frames, min_size=1, max_size=8), st.integers(0, 1000), st.integers(), st.integers())
def test_edits_and_ids_do_not_split(stack: list[FrameRecord], moved: int, one: int, other: int) -> None:
    """Inserted lines, another folder and other ids in the message do not change a fingerprint."""
    before = group_of(*stack, message=f"no order {one}")
    assert group_of(*edited(stack, moved), message=f"no order {other}") == before


@given(st.lists(frames, max_size=4), st.lists(frames, min_size=1, max_size=4), st.integers(1, 6), st.data())
def test_depth_does_not_split(
    outer: list[FrameRecord], cycle: list[FrameRecord], depth: int, data: st.DataObject
) -> None:
    """The depth of a recursion, its entry point and folding do not change a fingerprint."""
    last = INNER
    shallow = group_of(*outer, *cycle, last)
    assert group_of(*outer, *cycle * depth, last) == shallow
    folded = [*cycle[:-1], cycle[-1]._replace(repeats=depth)]
    assert group_of(*outer, *folded, last) == shallow
    assume(len({(frame.module, frame.function) for frame in cycle}) == len(cycle))
    entered = data.draw(st.integers(0, len(cycle) - 1))
    assert group_of(*cycle[entered:], *cycle, last) == group_of(*cycle, last)


@given(st.lists(frames, min_size=1, max_size=6), st.data())
def test_another_function_is_another_problem(stack: list[FrameRecord], data: st.DataObject) -> None:
    """Another function on the stack, another type or another service changes a fingerprint."""
    at = data.draw(st.integers(0, len(stack) - 1))
    other = [*stack[:at], stack[at]._replace(function="quite_another"), *stack[at + 1 :]]
    # A repeated function counts by its innermost line, which another frame has.
    assume((stack[at].module, stack[at].function) not in {frame[3:1:-1] for frame in stack[at + 1 :]})
    assert group_of(*other) != group_of(*stack)
    assert group_of(*stack, kind="quite.Another") != group_of(*stack)
    assert group_of(*stack, service="another") != group_of(*stack)


@pytest.mark.parametrize(
    ("code", "plain"),
    [
        ("raise  E( 'x' )", 'raise E("x")'),
        ("x = {'a': \"it's\"}  # 'why'", 'x={"a":"it\'s"}'),
        (r"f('\'#', b)", r"f('\'#',b)"),
        ("open('unfinished", "open('unfinished"),
        ('f"{a!r} # no"', 'f"{a!r} # no"'),
        ("await  self . go ()", "await self.go()"),
        ("x = 'back\\", "x='back\\"),
        ("", ""),
    ],
)
def test_what_formatters_change_is_left_out(code: str, plain: str) -> None:
    """Spaces outside of strings, comments and the kind of quotes are normalized, in truncated lines too."""
    assert plain_code(code) == plain


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no order 12", "no order ‹…›"),
        ("no  order\n 12.5 of -3", "no order ‹…› of ‹…›"),
        ("no 'apple pie' here", "no '‹…›' here"),
        ('"a" is not "b"', '"‹…›" is not "‹…›"'),
        ("can't open the user's file", "can't open the user's file"),
        ("at 0x7f00aa", "at ‹…›"),
        ("trace deadbeef01 of id_cafebabe9922", "trace ‹…› of id_‹…›"),
        ("id 123e4567-e89b-12d3-a456-426614174000!", "id ‹…›!"),
        ("since 2024-01-02T03:04:05.678Z", "since ‹…›"),
        ("since 2024-01-02 03:04:05 +0100", "since ‹…›"),
        ("mail to ada.l@example.co.uk bounced", "mail to ‹…› bounced"),
        ("refused: 10.0.0.7:4710", "refused: ‹…›"),
        ("refused: tcp://10.0.0.7:4710", "refused: tcp://‹…›"),
        ("no route to fe80::1ff:fe23:4567:890a", "no route to ‹…›"),
        ("no file /srv/data/2024/07/x.csv", "no file /srv/data/‹…›/x.csv"),
        ("token aZ3kfj39dkQ8z7Yx expired", "token ‹…› expired"),
        ("not in [1, 2, 3]", "not in [‹…›]"),
        ("not in ['a', 'b']", "not in ['‹…›']"),
        ("12 34", "‹…›"),
        ("feedback on facade", "feedback on facade"),
        ("std::vector", "std::vector"),
        ("", ""),
    ],
)
def test_templates_mark_what_varies(message: str, expected: str) -> None:
    """Numbers, ids, times, addresses and quoted text become holes of a template, and words stay."""
    assert template(message) == expected
    assert covers(expected, message)


@pytest.mark.parametrize(
    "unit",
    [
        "'",
        '"',
        "1:",
        "a@",
        "0x",
        "a-",
        "a.",
        "deadbeef-",
        "1234-",
        "12,",
        "a1",
        "'a' ",
        "x ",
        "f:",
        " ' ",
        "\\'",
    ],
)
def test_templates_take_no_time(unit: str) -> None:
    """Templates are computed in linear time and have a limited length."""
    began = time.thread_time()
    for message in (unit * (16_384 // len(unit)), "a" + unit * 8_000 + "!"):
        found = template(message)
        assert len(found) <= MAX_TEMPLATE + len(HOLE) + 1
        assert widen("something else", message)
        assert plain_code(unit * 256) is not None
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (["user ada not found", "user bob not found"], "user ‹…› not found"),
        (["user ada not found", "user bob lee not found", "user eve not found"], "user ‹…› not found"),
        (["user ada not found in db1", "user bob lee not found in db2"], "user ‹…› not found in db‹…›"),
        (["a b", "c d"], "‹…›"),
        (["user ada", "user"], "user ‹…›"),
        (["found", "not found"], "‹…› found"),
        (["no order 1", "no order 2"], "no order ‹…›"),
        (["", "x"], "‹…›"),
        (["same", "same"], "same"),
    ],
)
def test_templates_widen_where_messages_differ(messages: list[str], expected: str) -> None:
    """Differing words become holes in any order of messages, and common words stay."""
    for order in (messages, messages[::-1]):
        known = template(order[0])
        for message in order[1:]:
            known = widen(known, message)
        assert known == expected
        assert [widen(known, message) for message in messages] == [expected] * len(messages)


def test_long_messages_have_templates_of_a_line() -> None:
    """A long message has a template of limited length, with a hole for the rest."""
    found = template(" ".join(f"word{chr(97 + number % 26)}" for number in range(500)))
    assert len(found.split()) == MAX_WORDS + 1
    assert found.endswith(HOLE)
    assert template("x" * 5000) == HOLE


words = st.lists(
    st.sampled_from(["user", "ada", "not", "found", "12", "'x'", HOLE, "a‹", "id-7"]), max_size=9
)


@given(st.lists(words.map(" ".join), min_size=1, max_size=6))
def test_a_template_covers_every_message(messages: list[str]) -> None:
    """A template covers every message it was made from, and these leave it unchanged."""
    known = template(messages[0])
    for message in messages[1:]:
        known = widen(known, message)
    for message in messages:
        assert covers(known, message)
        assert widen(known, message) == known


@given(st.text(), st.text())
def test_any_text_has_a_template(one: str, other: str) -> None:
    """Any text is covered by its own template and by a template common with another text."""
    assert covers(template(one), one)
    both = widen(template(one), other)
    assert covers(both, one)
    assert covers(both, other)
