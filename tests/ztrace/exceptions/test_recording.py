"""Recording of exceptions: once, at the origin, with causes, notes and group members."""

import asyncio
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import zerorpc

import ztrace
from tests.ztrace.recording import Recorder, codes, record_of, run
from ztrace.exceptions import frames, messages, origins, recording
from ztrace.exceptions.frames import INNERMOST, OUTERMOST
from ztrace.exceptions.messages import MAX_MESSAGE, MAX_NOTE, MAX_NOTES
from ztrace.exceptions.recording import MAX_CAUSES, MAX_DEPTH, MAX_MEMBERS, MAX_RECORDED_FRAMES
from ztrace.records import ERROR, GROUPED, OK, PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord, FrameRecord


class Slotted(Exception):
    """Exception class with slots."""

    __slots__ = ("code",)


class Speechless(Exception):
    """Exception whose text raises."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class NoDictionary(Exception):
    """Exception whose `__dict__` raises."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        raise AttributeError


def fail(error: BaseException) -> Callable[[], object]:
    """Return a function that raises the error."""

    def work() -> None:
        raise error

    return work


def test_an_exception_is_recorded_at_its_origin_and_passes_the_others(recorder: Recorder) -> None:
    """The innermost span has the exception's frames, and the outer ones its origin and their own lines."""
    run(fail(ValueError("no")), "outer", "middle", "inner")
    origin = recorder.named("inner")
    inner, middle, outer = (record_of(recorder, name) for name in ("inner", "middle", "outer"))
    assert [one.how for one in (inner, middle, outer)] == [RAISED, PASSED, PASSED]
    assert inner.frames
    assert [frame[4] for frame in middle.frames] == ["raise run(work, *names[1:])"]
    assert middle.frames == outer.frames
    for one in (inner, middle, outer):
        assert (one.type, one.message) == ("ValueError", "no")
        assert (one.origin_trace_id, one.origin_span_id) == (origin.trace_id, origin.span_id)
    assert {span.status for span in recorder.spans} == {ERROR}


def test_an_exception_raised_from_another_is_wrapped(recorder: Recorder) -> None:
    """``raise … from`` records the wrapper with its own frames and the origin of its cause."""

    def work() -> None:
        try:
            with ztrace.span("inner"):
                raise ValueError("first")
        except ValueError as error:
            raise RuntimeError("second") from error

    run(work, "outer")
    outer = record_of(recorder, "outer")
    assert (outer.type, outer.how, outer.origin_span_id) == (
        "RuntimeError",
        WRAPPED,
        recorder.named("inner").span_id,
    )
    assert outer.frames
    assert outer.causes == []  # They are recorded at the origin.


def test_an_exception_raised_while_handling_another_replaces_it(recorder: Recorder) -> None:
    """An exception raised in a handler is recorded as replacing the first, with the same origin."""

    def work() -> None:
        try:
            with ztrace.span("inner"):
                raise ValueError("first")
        except ValueError:
            raise RuntimeError("second")  # noqa: B904

    run(work, "outer")
    assert record_of(recorder, "outer").how == REPLACED
    assert record_of(recorder, "outer").origin_span_id == recorder.named("inner").span_id


def test_from_none_is_a_new_origin(recorder: Recorder) -> None:
    """``raise … from None`` has a new origin and no causes."""

    def work() -> None:
        try:
            with ztrace.span("inner"):
                raise ValueError("first")
        except ValueError:
            raise RuntimeError("second") from None

    run(work, "outer")
    outer = record_of(recorder, "outer")
    assert (outer.how, outer.origin_span_id, outer.causes) == (
        RAISED,
        recorder.named("outer").span_id,
        [],
    )


def test_causes_inside_one_span_are_recorded_with_it(recorder: Recorder) -> None:
    """Causes raised within the same span are recorded with link, message and frames."""

    def work() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            raise RuntimeError("third")  # noqa: B904

    run(work, "a")
    third = record_of(recorder, "a")
    (second_fields,) = third.causes
    second = ExceptionRecord(*second_fields)
    (first_fields,) = second.causes
    first = ExceptionRecord(*first_fields)
    assert (third.how, second.how, first.how) == (RAISED, REPLACED, WRAPPED)
    assert (second.type, second.message, first.type, first.message) == (
        "ValueError",
        "second",
        "KeyError",
        "'first'",
    )
    assert [frame[4] for frame in second.frames] == ['raise ValueError("second") from error']
    assert first.causes == []


def test_an_exception_kept_and_raised_in_another_trace_begins_there(recorder: Recorder) -> None:
    """One exception object raised in two traces has two origins."""
    kept = ValueError("kept")
    run(fail(kept), "first")
    run(fail(kept), "second")
    assert record_of(recorder, "second").how == RAISED
    assert record_of(recorder, "second").origin_span_id == recorder.named("second").span_id


def test_a_new_exception_is_not_marked_by_one_of_another_trace(recorder: Recorder) -> None:
    """An exception whose cause belongs to another trace has its origin here and keeps the cause."""
    kept = ValueError("kept")
    run(fail(kept), "first")
    error = RuntimeError("new")
    error.__cause__ = kept
    run(fail(error), "second")
    second = record_of(recorder, "second")
    assert second.how == RAISED
    assert second.causes[0][0] == "ValueError"


def test_an_origin_can_be_marked_from_outside(recorder: Recorder) -> None:
    """A middleware can set the origin and the message of a remote exception."""
    error = ValueError("raw")
    with ztrace.span("call") as call:
        origins.mark_origin(error, call.trace_id, b"remotely")
        messages.describe(error, "better")
        call.end(error)
    recorded = record_of(recorder, "call")
    assert (recorded.how, recorded.message, recorded.origin_span_id) == (PASSED, "better", b"remotely")
    assert str(error) == "raw"


def test_cycles_and_endless_chains_end(recorder: Recorder) -> None:
    """Cyclic and very long chains of causes are recorded up to a limit."""
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    run(fail(one), "cycle")
    chain: BaseException = ValueError("0")
    for number in range(1, 50):
        wrapper = ValueError(str(number))
        wrapper.__cause__ = chain
        chain = wrapper
    run(fail(chain), "chain")
    for name in ("cycle", "chain"):
        depth, causes = 0, record_of(recorder, name).causes
        while causes:
            depth, causes = depth + 1, ExceptionRecord(*causes[0]).causes
        assert 1 <= depth <= MAX_CAUSES
    assert record_of(recorder, "cycle").causes[0][1] == "two"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError(), ""),
        (ValueError("x" * 5000), "x" * MAX_MESSAGE + "…"),
        (Speechless("a"), "<no message: __str__ failed>"),
        (Slotted("a"), "a"),
        (NoDictionary("a"), "a"),
        (OSError(2, "No such file"), "[Errno 2] No such file"),
        (ExceptionGroup("both", [ValueError(), KeyError()]), "both (2 sub-exceptions)"),
    ],
)
def test_messages(recorder: Recorder, error: BaseException, message: str) -> None:
    """A message is the exception's text, truncated, or a placeholder if the text raises."""
    run(fail(error), "outer", "inner")
    assert record_of(recorder, "inner").message == message
    assert record_of(recorder, "outer").message == message


def test_an_exception_that_hides_its_dictionary_has_one(recorder: Recorder) -> None:
    """Exceptions with slots or a raising `__dict__` are marked, so their origin is found."""
    run(fail(NoDictionary()), "outer", "inner")
    run(fail(Slotted()), "slotted outer", "slotted inner")
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, PASSED]
    assert [record_of(recorder, name).how for name in ("slotted inner", "slotted outer")] == [RAISED, PASSED]


def test_type_names() -> None:
    """A type's name includes its module, except for builtins."""
    assert recording.type_name(KeyError()) == "KeyError"
    assert recording.type_name(json.JSONDecodeError("", "", 0)) == "json.decoder.JSONDecodeError"
    assert recording.type_name(Slotted()) == f"{__name__}.Slotted"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SystemExit(), OK),
        (SystemExit(0), OK),
        (SystemExit(None), OK),
        (GeneratorExit(), OK),
        (SystemExit(1), ERROR),
        (SystemExit("message"), ERROR),
        (KeyboardInterrupt(), ERROR),
        (ValueError(), ERROR),
    ],
)
def test_leaving_the_program_or_a_generator_is_no_error(
    recorder: Recorder, error: BaseException, status: int
) -> None:
    """A normal exit or a closed generator has no error status and no exception record."""
    run(fail(error), "a")
    assert recorder.span.status == status
    assert (recorder.span.exception is None) == (status == OK)


def test_members_of_a_group_are_recorded_with_it(recorder: Recorder) -> None:
    """Members of a group are recorded with it, with their frames, notes, causes and own members."""

    def caught(error: Exception, cause: Exception) -> Exception:
        try:
            raise error from cause
        except Exception as raised:
            return raised

    def work() -> None:
        first = caught(ValueError("first"), OSError("below"))
        first.add_note("a note")
        inner = ExceptionGroup("inner", [KeyError("second")])
        raise ExceptionGroup("outer", [first, inner])

    run(work, "a")
    group = record_of(recorder, "a")
    first, inner = (ExceptionRecord(*member) for member in group.members)
    assert (group.how, first.how, inner.how) == (RAISED, RAISED, RAISED)
    assert (first.type, first.message, first.notes) == ("ValueError", "first", ["a note"])
    assert codes(first) == ["raise error from cause"]
    assert first.origin_span_id == recorder.named("a").span_id
    assert ExceptionRecord(*first.causes[0]).type == "OSError"
    assert [ExceptionRecord(*member).message for member in inner.members] == ["'second'"]


def test_a_group_that_holds_one_from_another_span_is_grouped(recorder: Recorder) -> None:
    """A group with a member from another span takes that member's origin and refers to its record."""
    error = run(fail(ValueError("no")), "outside")
    with ztrace.span("root"):
        elsewhere = run(fail(KeyError("yes")), "inner")
        run(fail(BaseExceptionGroup("both", [error, elsewhere])), "group")
    origin = recorder.named("inner").span_id
    record = record_of(recorder, "group")
    assert (record.how, record.origin_span_id) == (GROUPED, origin)
    new, passed = (ExceptionRecord(*member) for member in record.members)
    assert (new.how, new.origin_span_id) == (RAISED, recorder.named("group").span_id)
    assert (passed.how, passed.origin_span_id, passed.frames) == (PASSED, origin, [])


def test_a_task_groups_tasks_have_spans_of_their_own(recorder: Recorder) -> None:
    """Tasks of a TaskGroup have separate origins, and the group refers to both."""

    async def fail_in(name: str, error: Exception) -> None:
        with ztrace.span(name):
            raise error

    async def main() -> None:
        with ztrace.span("main"):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail_in("a", ValueError("a")))
                group.create_task(fail_in("b", KeyError("b")))

    run(lambda: asyncio.run(main()))
    record = record_of(recorder, "main")
    assert (record.how, record.origin_span_id) == (GROUPED, recorder.named("a").span_id)
    members = [ExceptionRecord(*member) for member in record.members]
    assert [(one.how, one.origin_span_id) for one in members] == [
        (PASSED, recorder.named("a").span_id),
        (PASSED, recorder.named("b").span_id),
    ]
    assert codes(record)


def test_what_is_left_of_a_split_group_keeps_its_origin(recorder: Recorder) -> None:
    """The group that ``except*`` leaves over keeps the origins of its members."""

    def work() -> None:
        with ztrace.span("inner"):
            raise ExceptionGroup("both", [ValueError("v"), KeyError("k")])

    def middle() -> None:
        try:
            work()
        except* ValueError:
            pass

    run(middle, "outer")
    record = record_of(recorder, "outer")
    assert (record.how, record.origin_span_id) == (GROUPED, recorder.named("inner").span_id)
    assert [member[0] for member in record.members] == ["KeyError"]


def test_a_member_raised_by_itself_keeps_its_origin(recorder: Recorder) -> None:
    """A member raised on its own above the group's span keeps its origin."""

    def work() -> None:
        try:
            with ztrace.span("inner"):
                raise ExceptionGroup("one", [ValueError("v")])
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    run(work, "outer")
    record = record_of(recorder, "outer")
    assert (record.how, record.type) == (PASSED, "ValueError")
    assert record.origin_span_id == recorder.named("inner").span_id


def test_endless_groups_and_notes_are_cut(recorder: Recorder) -> None:
    """Members, depth and notes are limited, and the number of omitted ones is recorded."""

    def make_errors(number: int) -> list[Exception]:
        return [ValueError(str(each)) for each in range(number)]

    group = ExceptionGroup("0", make_errors(40))
    for number in range(1, 20):
        group = ExceptionGroup(str(number), [group])
    run(fail(group), "deep")
    wide = ExceptionGroup("wide", [ExceptionGroup("w", make_errors(16)) for _ in range(100)])
    for number in range(40):
        wide.add_note(f"{number}" * 2000)
    run(fail(wide), "wide")
    depth, record = 0, record_of(recorder, "deep")
    while record.members:
        depth, record = depth + 1, ExceptionRecord(*record.members[0])
    assert depth == MAX_DEPTH
    assert record.notes == ["… and 1 more exceptions"]
    record = record_of(recorder, "wide")
    assert len(record.members) < MAX_MEMBERS
    assert len(record.notes) == MAX_NOTES
    assert {len(note) for note in record.notes[:-1]} == {MAX_NOTE + 1}
    assert record.notes[-1] == f"… and {100 - len(record.members)} more exceptions"


class Hostile(Exception):
    """Exception whose methods and attributes all raise."""

    __slots__ = ("__weakref__",)

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise ValueError

    def __eq__(self, other: object) -> bool:
        raise TypeError

    def __hash__(self) -> int:
        raise TypeError


def test_a_hostile_exception_is_recorded(recorder: Recorder) -> None:
    """An exception whose attributes all raise propagates, and is recorded and marked."""
    error = Hostile()
    assert run(fail(error), "outer", "inner") is error
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, PASSED]
    assert record_of(recorder, "inner").message == "<no message: __str__ failed>"


@pytest.mark.parametrize(
    ("notes", "recorded"),
    [
        (["a", 7, None, Slotted("x")], ["a", "7", "None", f"<{__name__}.Slotted>"]),
        ("text", ["text"]),
        (12, ["12"]),
        ((), []),
    ],
)
def test_notes_that_are_no_texts(recorder: Recorder, notes: object, recorded: list[str]) -> None:
    """Notes of other types are described without running the program's code."""
    error = ValueError()
    error.__notes__ = notes  # type: ignore[assignment]
    run(fail(error), "a")
    assert record_of(recorder, "a").notes == recorded


def test_what_is_being_handled_outside_stays_another_failure(recorder: Recorder) -> None:
    """An error in a handler has the handled exception as cause, and a bare `raise` keeps the span's own."""

    def work() -> None:
        try:
            raise ValueError("first")
        except ValueError:
            run(fail(KeyError("cleaning up")), "cleanup")
            raise

    run(work, "outer")
    assert [record_of(recorder, name).how for name in ("cleanup", "outer")] == [RAISED, RAISED]
    assert record_of(recorder, "cleanup").causes[0][0] == "ValueError"


def test_intermediate_causes_are_recorded(recorder: Recorder) -> None:
    """Causes that no span has recorded are recorded with the wrapper, and those at the origin are not."""

    def work() -> None:
        try:
            with ztrace.span("inner"):
                raise ValueError("first")
        except ValueError as first:
            try:
                raise KeyError("second") from first
            except KeyError as second:
                raise RuntimeError("third") from second

    run(work, "outer")
    record = record_of(recorder, "outer")
    assert (record.how, record.origin_span_id) == (WRAPPED, recorder.named("inner").span_id)
    (second,) = record.causes
    assert (second[0], second[3]) == ("KeyError", [])


def test_an_exception_goes_with_its_last_reference(recorder: Recorder) -> None:
    """Marks and records keep no exception, frame or variable alive."""

    class Thing:
        pass

    def work() -> "weakref.ref[Thing]":
        thing = Thing()
        try:
            with ztrace.span("outer"), ztrace.span("inner"):
                error = ValueError(thing)
                error.thing = thing  # type: ignore[attr-defined]
                raise error
        except ValueError:
            del error
            return weakref.ref(thing)

    gc.collect()
    gc.disable()
    try:
        assert work()() is None
    finally:
        gc.enable()
    assert record_of(recorder, "outer").how == PASSED


def test_an_exception_in_the_recursion_limit_is_recorded_once(
    recorder: Recorder, counts: dict[str, int]
) -> None:
    """An exception at the recursion limit has one origin, even where its full record fails."""

    def deep() -> None:
        with ztrace.span("deep"):
            deep()

    run(deep, "outer")
    records = [ExceptionRecord(*span.exception) for span in recorder.spans if span.exception is not None]
    assert {record.type for record in records} == {"RecursionError"}
    assert [record.how for record in records].count(RAISED) == 1
    assert {span.status for span in recorder.spans} == {ERROR}
    assert counts.keys() == {"exception"}  # Some spans had no stack left for the full record; none was lost.
    counts.clear()


def test_frames_of_many_members_are_cut(recorder: Recorder) -> None:
    """The frames of all members share a limit, and the member that reaches it counts its omitted frames."""

    def deep(level: int) -> None:
        if level:
            exec(
                compile(f"{chr(10) * level}deep(level - 1)", "<step>", "exec"), {"deep": deep, "level": level}
            )
        else:
            raise ValueError

    def member() -> Exception:
        try:
            deep(30)
        except ValueError as error:
            return error
        raise AssertionError

    run(fail(ExceptionGroup("many", [member() for _ in range(10)])), "a")
    record = record_of(recorder, "a")
    members = [ExceptionRecord(*fields) for fields in record.members]
    assert len(record.frames) + sum(len(one.frames) for one in members) == MAX_RECORDED_FRAMES
    (cut,) = (one for one in members if 0 < len(one.frames) < OUTERMOST + INNERMOST)
    whole, first = members[0].frames, FrameRecord(*cut.frames[0])
    left_out = [FrameRecord(*frame) for frame in whole[: len(whole) - len(cut.frames)]]
    assert first.omitted >= sum(1 + frame.repeats + frame.omitted for frame in left_out)


@pytest.mark.parametrize("all_frames", [False, True])
def test_what_an_rpc_library_handled_within_itself_is_no_cause(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, all_frames: bool
) -> None:
    """Exceptions handled within an RPC library are omitted as causes, and those of user code are kept."""
    source = """
def wait(callback):
    try:
        try:
            return callback()
        except LookupError:
            raise OSError("empty")
    except OSError:
        raise TimeoutError("too late")
"""
    library: dict[str, Any] = {"__name__": "zerorpc.waiting"}
    exec(compile(source, str(zerorpc.__file__), "exec"), library)
    monkeypatch.setattr(frames, "show_all", all_frames)

    def of_user() -> None:
        raise LookupError("mine")

    run(lambda: library["wait"]([].pop), "library")
    run(lambda: library["wait"](of_user), "user")

    def chain(record: ExceptionRecord) -> list[str]:
        (*causes,) = record.causes
        return [record.type, *(name for cause in causes for name in chain(ExceptionRecord(*cause)))]

    between = ["OSError"] if all_frames else []
    inner = ["IndexError"] if all_frames else []
    assert chain(record_of(recorder, "library")) == ["TimeoutError", *between, *inner]
    assert chain(record_of(recorder, "user")) == ["TimeoutError", *between, "LookupError"]
    assert record_of(recorder, "user").causes[0][4] == REPLACED
