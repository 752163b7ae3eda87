"""Exceptions: recorded once, where they began, with the frames that lead there."""

import json
import linecache
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ztrace
from tests.ztrace.programs import run_script
from tests.ztrace.recording import Recorder
from ztrace import failure
from ztrace.failure import MAX_CAUSES, MAX_CODE, MAX_FRAMES, MAX_MESSAGE
from ztrace.wire import ERROR, OK, PASSED, RAISED, REPLACED, WRAPPED, ExceptionRecord


class Slotted(Exception):
    """An exception with slots."""

    __slots__ = ("code",)


class Speechless(Exception):
    """An exception that cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class NoDictionary(Exception):
    """An exception that shows no dictionary."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        raise AttributeError


def record_of(recorder: Recorder, name: str) -> ExceptionRecord:
    """Return the exception of the span of that name."""
    exception = recorder.named(name).exception
    assert exception is not None
    return ExceptionRecord(*exception)


def run(work: Callable[[], object], *names: str) -> BaseException:
    """Run something within nested spans and return the exception that leaves them."""
    try:
        if names:
            with ztrace.span(names[0]):
                raise run(work, *names[1:])
        else:
            work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def fail(error: BaseException) -> Callable[[], object]:
    """Return a function that raises."""

    def work() -> None:
        raise error

    return work


def test_an_exception_is_recorded_at_its_origin_and_passes_the_others(recorder: Recorder) -> None:
    """The innermost span has the frames; those around it only say where the origin is."""
    run(fail(ValueError("no")), "outer", "middle", "inner")
    origin = recorder.named("inner")
    inner, middle, outer = (record_of(recorder, name) for name in ("inner", "middle", "outer"))
    assert [one.how for one in (inner, middle, outer)] == [RAISED, PASSED, PASSED]
    assert inner.frames
    assert middle.frames == outer.frames == []
    for one in (inner, middle, outer):
        assert (one.type, one.message) == ("ValueError", "no")
        assert (one.origin_trace_id, one.origin_span_id) == (origin.trace_id, origin.span_id)
    assert {span.status for span in recorder.spans} == {ERROR}


def test_an_exception_raised_from_another_is_wrapped(recorder: Recorder) -> None:
    """``raise … from``: the wrapper has frames of its own and the first one's origin."""

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
    """Without ``from`` the origin is the same, and how it travelled is said."""

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
    """``raise … from None`` says that the first exception has nothing to do with it."""

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
    """What an exception wraps is recorded below it: how it is linked, its message, its frames."""

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
    """One object raised in two traces has two origins."""
    kept = ValueError("kept")
    run(fail(kept), "first")
    run(fail(kept), "second")
    assert record_of(recorder, "second").how == RAISED
    assert record_of(recorder, "second").origin_span_id == recorder.named("second").span_id


def test_a_new_exception_is_not_marked_by_one_of_another_trace(recorder: Recorder) -> None:
    """What is raised from an exception of another trace begins here and has that one as its cause."""
    kept = ValueError("kept")
    run(fail(kept), "first")
    error = RuntimeError("new")
    error.__cause__ = kept
    run(fail(error), "second")
    second = record_of(recorder, "second")
    assert second.how == RAISED
    assert second.causes[0][0] == "ValueError"


def test_an_origin_can_be_marked_from_outside(recorder: Recorder) -> None:
    """A middleware says where a remote exception began, and what it says."""
    error = ValueError("raw")
    with ztrace.span("call") as call:
        failure.mark_origin(error, call.trace_id, b"remotely")
        failure.describe(error, "better")
        call.end(error)
    recorded = record_of(recorder, "call")
    assert (recorded.how, recorded.message, recorded.origin_span_id) == (PASSED, "better", b"remotely")
    assert str(error) == "raw"


def test_cycles_and_endless_chains_end(recorder: Recorder) -> None:
    """Exceptions that are each other's context, or wrap without end, are recorded up to a bound."""
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
    """A message is the exception's text, cut; one that fails leaves a word in its place."""
    run(fail(error), "outer", "inner")
    assert record_of(recorder, "inner").message == message
    assert record_of(recorder, "outer").message == message


def test_an_exception_without_a_dictionary_is_an_origin_each_time(recorder: Recorder) -> None:
    """Where no mark can be kept, each span records it; one with slots has a dictionary all the same."""
    run(fail(NoDictionary()), "outer", "inner")
    run(fail(Slotted()), "slotted outer", "slotted inner")
    assert [record_of(recorder, name).how for name in ("inner", "outer")] == [RAISED, RAISED]
    assert [record_of(recorder, name).how for name in ("slotted inner", "slotted outer")] == [RAISED, PASSED]


def test_type_names() -> None:
    """A class has its module before it, a builtin has not."""
    assert failure.type_name(KeyError()) == "KeyError"
    assert failure.type_name(json.JSONDecodeError("", "", 0)) == "json.decoder.JSONDecodeError"
    assert failure.type_name(Slotted()) == f"{__name__}.Slotted"


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
    """Status and record agree on what has failed."""
    run(fail(error), "a")
    assert recorder.span.status == status
    assert (recorder.span.exception is None) == (status == OK)


# Frames.


def test_frames_lead_to_where_it_happened(recorder: Recorder) -> None:
    """Outermost first: file, line, function, module, code, and whether it is the user's own."""

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        else:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"), ztrace.span("a"):
        deep(1)
    frames = record_of(recorder, "a").frames
    name = "test_frames_lead_to_where_it_happened"
    assert [frame[2] for frame in frames] == [name, f"{name}.<locals>.deep", f"{name}.<locals>.deep"]
    assert [frame[4] for frame in frames] == ["deep(1)", "deep(level - 1)", 'raise ValueError("no")']
    for file, line, _, module, code, in_app, *_ in frames:
        assert (file, module, in_app) == (__file__, __name__, True)
        assert linecache.getline(file, line).strip() == code


def test_frames_are_cut_from_the_outside(recorder: Recorder) -> None:
    """Of a deep recursion the innermost frames stay."""

    def deep(level: int) -> None:
        if not level:
            raise ValueError("no")
        deep(level - 1)

    run(lambda: deep(200), "a")
    frames = record_of(recorder, "a").frames
    assert len(frames) == MAX_FRAMES
    assert frames[-1][4].startswith("raise ValueError")
    assert frames[0][4] == "deep(level - 1)"


def test_long_lines_are_cut(recorder: Recorder, tmp_path: Path) -> None:
    """A line of code is kept up to a bound."""
    path = tmp_path / "long.py"
    source = f"raise ValueError({'x' * 5000!r})"
    path.write_text(source)
    run(lambda: exec(compile(source, str(path), "exec"), {}), "a")
    assert record_of(recorder, "a").frames[-1][4] == source[:MAX_CODE]


def test_code_without_a_file_has_frames(recorder: Recorder) -> None:
    """Code that was compiled from a text is the user's own; modules need not have a name."""
    run(lambda: exec(compile("raise ValueError", "<typed>", "exec"), {"__name__": None}), "a")
    assert record_of(recorder, "a").frames[-1] == ["<typed>", 1, "<module>", "", "", True, 0, 0, None]


def test_the_standard_library_and_installed_packages_are_not_the_users_own(recorder: Recorder) -> None:
    """Frames of json and of an installed package are there and are not in_app; the caller's line is."""
    run(lambda: json.loads("{"), "stdlib")
    run(lambda: pytest.fail("no"), "package")
    for name, file in (("stdlib", json.__file__), ("package", pytest.__file__)):
        frames = record_of(recorder, name).frames
        library = os.path.dirname(os.path.dirname(file))
        assert {frame[5] for frame in frames if frame[0] == __file__} == {True}
        assert frames[-1][0].startswith(library)
        assert not frames[-1][5]


def test_compiled_extensions_are_not_the_users_own() -> None:
    """They name their sources by a relative path, which Python's own modules never have."""
    assert not failure._in_app("src/gevent/greenlet.py", "gevent._gevent_cgreenlet")
    assert not failure._in_app("<frozen importlib._bootstrap>", "importlib._bootstrap")
    assert not failure._in_app(ztrace.__file__, "ztrace")


def test_ztraces_own_frames_are_left_out(recorder: Recorder) -> None:
    """The wrapper around a traced function is no part of the story."""

    @ztrace.trace("a")
    def work() -> None:
        raise ValueError

    run(work)
    assert [frame[4] for frame in record_of(recorder, "a").frames] == ["raise ValueError"]


def test_an_exception_that_passed_only_libraries_shows_who_called_them(recorder: Recorder) -> None:
    """A span inside a library, as middleware makes them, is caught there: the callers' lines come before."""

    class Decoder(json.JSONDecoder):
        pass

    namespace: dict[str, Any] = {"ztrace": ztrace, "decode": Decoder().decode, "__name__": "library"}
    source = "def call():\n    with ztrace.span('a'):\n        decode('{')\n"
    library = os.path.join(os.path.dirname(os.path.dirname(pytest.__file__)), "library.py")
    exec(compile(source, library, "exec"), namespace)
    with pytest.raises(json.JSONDecodeError):
        namespace["call"]()
    frames = record_of(recorder, "a").frames
    own = [frame[4] for frame in frames if frame[0] == __file__]
    assert own[-1] == 'namespace["call"]()'
    assert [frame[2] for frame in frames if not frame[5]][-1] == "JSONDecoder.raw_decode"
    assert len(frames) <= MAX_FRAMES


def test_a_source_that_is_gone_leaves_a_frame_without_code(recorder: Recorder, tmp_path: Path) -> None:
    """A file that has been deleted, as in an upgrade, costs its lines only."""
    path = tmp_path / "gone.py"
    code = compile("def work():\n    raise ValueError\n", str(path), "exec")
    namespace: dict[str, Any] = {"__name__": "gone"}
    exec(code, namespace)
    run(namespace["work"], "a")
    assert record_of(recorder, "a").frames[-1] == [str(path), 2, "work", "gone", "", True, 0, 0, None]


_IN_A_PACKAGE = """
import json, sys
from collections import deque
import ztrace
from ztrace import spans
class Recorder:
    queue, room, offset_ns, register = deque(), 9, 0, {}
spans.publisher = Recorder
def work():
    with ztrace.span("a"):
        json.loads("{")
try:
    work()
except ValueError:
    print(json.dumps([frame[5] for frame in Recorder.queue[0][12].frames]))
"""


def test_a_programs_own_script_is_the_users_own(tmp_path: Path) -> None:
    """Of a script that is run by name the frames are in_app, and those it calls in the library are not."""
    done = run_script(tmp_path / "server.py", _IN_A_PACKAGE)
    assert json.loads(done.stdout) == [True, False, False, False]
