"""Conversion of exceptions from the wire to stored rows."""

import json
from typing import Any

import pytest

from ztrace.records import ExceptionRecord, FrameRecord
from ztrace_collector.checking.failures import (
    MAX_CODE,
    MAX_LOCAL,
    MAX_LOCALS,
    MAX_MEMBERS,
    MAX_NOTES,
    Failure,
    read_failure,
)
from ztrace_collector.refusals import Refusals

TRACE, SPAN = b"t" * 16, b"s" * 8
FRAME = FrameRecord("/srv/app.py", 10, "charge", "app", "pay(card)", True)


def make_record(**changes: Any) -> ExceptionRecord:
    """Return an exception raised in the span that records it."""
    return ExceptionRecord("Declined", "no", (tuple(FRAME),), (), "raised", None, None)._replace(**changes)


def read(record: Any) -> tuple[Failure, dict[str, int]]:
    """Return the parsed exception of a span, and the counts of refusals."""
    refusals = Refusals()
    failure = read_failure(tuple(record), TRACE, SPAN, refusals)
    assert failure is not None
    return failure, refusals.counts


def test_what_a_frame_has_is_stored_if_it_says_something() -> None:
    """Optional fields are stored in a frame's JSON only where they have a value."""
    bare = FRAME._replace(module="")
    full = FRAME._replace(repeats=3, omitted=7, locals={"card": "‹›"})
    failure, refused = read(make_record(frames=(tuple(bare), tuple(full), tuple(bare))))
    plain = {"file": "/srv/app.py", "line": 10, "function": "charge", "code": "pay(card)", "in_app": True}
    extras = {"module": "app", "repeats": 3, "omitted": 7, "locals": {"card": "‹›"}}
    assert json.loads(failure.frames_text) == [plain, plain | extras, plain]
    assert refused == {}


def test_an_empty_exception_is_stored_as_such() -> None:
    """An exception without frames, causes, notes and members is stored with four empty lists."""
    failure, _ = read(make_record(frames=()))
    texts = (failure.frames_text, failure.causes_text, failure.notes_text, failure.members_text)
    assert texts == ("[]",) * 4


def test_members_and_causes_are_stored_with_all_they_have() -> None:
    """Members and causes are stored with notes, nested members and remote origins."""
    remote = make_record(how="passed", frames=(), origin_trace_id=TRACE, origin_span_id=b"o" * 8)
    inner = make_record(type="ExceptionGroup", members=(tuple(remote),), notes=("while paying",))
    cause = make_record(type="KeyError", how="wrapped", notes=("one", "two"))
    failure, refused = read(make_record(members=(tuple(inner),), causes=(tuple(cause),), notes=("said",)))
    (member,) = json.loads(failure.members_text)
    assert (member["type"], member["how"], member["notes"]) == ("ExceptionGroup", "raised", ["while paying"])
    assert member["members"] == [
        {
            "type": "Declined",
            "message": "no",
            "how": "passed",
            "frames": [],
            "causes": [],
            "origin_trace_id": TRACE.hex(),
            "origin_span_id": b"oooooooo".hex(),
        }
    ]
    (stored,) = json.loads(failure.causes_text)
    assert (stored["type"], stored["notes"], "members" in stored) == ("KeyError", ["one", "two"], False)
    assert json.loads(failure.notes_text) == ["said"]
    assert list(failure.origins()) == [(TRACE, SPAN), (TRACE, b"o" * 8)]
    assert refused == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"notes": ("whole", 7)},
        {"notes": ["whole"]},
        {"notes": ("whole",) * (MAX_NOTES + 1)},
        {"members": (tuple(make_record()), ("broken",))},
        {"members": (tuple(make_record()),) * (MAX_MEMBERS + 1)},
        {"members": None},
        {"causes": "none"},
        {"frames": (tuple(FRAME), tuple(FRAME)[:-1])},
        {"frames": (tuple(FRAME), tuple(FRAME._replace(in_app=1)))},  # type: ignore[arg-type]
        {"frames": (tuple(FRAME), tuple(FRAME._replace(locals={"a": 1})))},  # type: ignore[dict-item]
        {"frames": (tuple(FRAME), tuple(FRAME._replace(locals=["a"])))},  # type: ignore[arg-type]
        {"frames": (tuple(FRAME), tuple(FRAME._replace(locals={str(n): "" for n in range(MAX_LOCALS + 1)})))},
        {"how": "passed"},
        {"how": "wrapped", "origin_trace_id": TRACE, "origin_span_id": bytes(8)},
    ],
)
def test_what_is_broken_is_left_out_and_the_rest_kept(changes: dict[str, Any]) -> None:
    """An unreadable part is dropped, and the exception is kept and counted once."""
    failure, refused = read(make_record(**changes))
    assert refused == {"exception": 1}
    assert failure.type == "Declined"
    assert len(failure.notes) <= MAX_NOTES
    assert len(failure.members) <= MAX_MEMBERS
    assert (failure.origin_trace_id, failure.origin_span_id) == (TRACE, SPAN)
    if "frames" in changes:
        assert json.loads(failure.frames_text)[0]["line"] == 10


def test_a_frame_that_is_known_is_not_mistaken_for_another() -> None:
    """An invalid frame equal in Python to a cached valid one is still dropped, in any order."""
    whole, broken = tuple(FRAME._replace(line=1)), tuple(FRAME._replace(line=True))
    for record in (whole, broken, whole):
        failure, refused = read(make_record(frames=(record,)))
        assert (len(failure.frames), bool(refused)) == ((0, True) if record is broken else (1, False))


def test_text_that_is_none_is_replaced_each_time() -> None:
    """Lone surrogates are replaced in every text, and each exception that has any is counted."""
    bad = "bad \udcff"
    frame = FRAME._replace(code=bad, locals={bad: bad})
    for changes in ({"frames": (tuple(FRAME._replace(code=bad)),)}, {"frames": (tuple(frame),)}) * 2:
        failure, refused = read(make_record(**changes))
        assert refused == {"utf8": 1}
        assert json.loads(failure.frames_text)[0]["code"] == "bad �"
    failure, refused = read(make_record(notes=(bad,), message=bad))
    assert (failure.notes, failure.message, refused) == (("bad �",), "bad �", {"utf8": 1})


def test_long_texts_are_cut() -> None:
    """Oversized code, variables and numbers of a frame are truncated or clamped."""
    frame = FRAME._replace(code="x" * 1_000_000, line=1 << 63, repeats=-1, locals={"a": "y" * 5000})
    failure, refused = read(make_record(frames=(tuple(frame),)))
    (stored,) = json.loads(failure.frames_text)
    assert (len(stored["code"]), len(stored["locals"]["a"])) == (MAX_CODE, MAX_LOCAL)
    assert stored["line"] == (1 << 63) - 1
    assert "repeats" not in stored
    assert refused == {}
