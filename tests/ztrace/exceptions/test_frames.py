"""Frames recorded from tracebacks: selection, contents, folding and limits."""

import json
import linecache
import os
from pathlib import Path
from typing import Any

import pytest

import ztrace
from tests.ztrace.programs import run_script
from tests.ztrace.recording import Recorder, codes, record_of, run
from ztrace.exceptions import frames, origins
from ztrace.exceptions.frames import INNERMOST, OUTERMOST, read_steps, record_frames
from ztrace.records import MAX_CODE, PASSED, ExceptionRecord, FrameRecord


def test_frames_lead_to_where_it_happened(recorder: Recorder) -> None:
    """Frames are recorded outermost first, with file, line, function, module, code and the in-app flag."""

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        else:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"), ztrace.span("a"):
        deep(1)
    recorded = record_of(recorder, "a").frames
    name = "test_frames_lead_to_where_it_happened"
    assert [frame[2] for frame in recorded] == [name, f"{name}.<locals>.deep", f"{name}.<locals>.deep"]
    assert [frame[4] for frame in recorded] == ["deep(1)", "deep(level - 1)", 'raise ValueError("no")']
    for file, line, _, module, code, in_app, *_ in recorded:
        assert (file, module, in_app) == (__file__, __name__, True)
        assert linecache.getline(file, line).strip() == code


def test_long_lines_are_cut(recorder: Recorder, tmp_path: Path) -> None:
    """A long source line is truncated."""
    path = tmp_path / "long.py"
    source = f"raise ValueError({'x' * 5000!r})"
    path.write_text(source)
    run(lambda: exec(compile(source, str(path), "exec"), {}), "a")
    assert record_of(recorder, "a").frames[-1][4] == source[:MAX_CODE]


def test_code_without_a_file_has_frames(recorder: Recorder) -> None:
    """Code compiled from a string is in-app, even in a module without a name."""
    run(lambda: exec(compile("raise ValueError", "<typed>", "exec"), {"__name__": None}), "a")
    assert list(record_of(recorder, "a").frames[-1]) == ["<typed>", 1, "<module>", "", "", True, 0, 0, None]


def test_the_standard_library_and_installed_packages_are_not_the_users_own(recorder: Recorder) -> None:
    """Frames of the standard library and of installed packages are not in-app, and the caller's are."""
    run(lambda: json.loads("{"), "stdlib")
    run(lambda: pytest.fail("no"), "package")
    for name, file in (("stdlib", json.__file__), ("package", pytest.__file__)):
        recorded = record_of(recorder, name).frames
        library = os.path.dirname(os.path.dirname(file))
        assert {frame[5] for frame in recorded if frame[0] == __file__} == {True}
        assert recorded[-1][0].startswith(library)
        assert not recorded[-1][5]


def test_ztraces_own_frames_are_left_out(recorder: Recorder) -> None:
    """Frames of the wrapper around a traced function are omitted."""

    @ztrace.trace("a")
    def work() -> None:
        raise ValueError

    run(work)
    assert [frame[4] for frame in record_of(recorder, "a").frames] == ["raise ValueError"]


def test_an_exception_that_passed_only_libraries_shows_who_called_them(recorder: Recorder) -> None:
    """An exception caught within a library's span has the caller's in-app frames before the library's."""

    class Decoder(json.JSONDecoder):
        pass

    namespace: dict[str, Any] = {"ztrace": ztrace, "decode": Decoder().decode, "__name__": "library"}
    source = "def call():\n    with ztrace.span('a'):\n        decode('{')\n"
    library = os.path.join(os.path.dirname(os.path.dirname(pytest.__file__)), "library.py")
    exec(compile(source, library, "exec"), namespace)
    with pytest.raises(json.JSONDecodeError):
        namespace["call"]()
    recorded = record_of(recorder, "a").frames
    own = [frame[4] for frame in recorded if frame[0] == __file__]
    assert own[-1] == 'namespace["call"]()'
    assert [frame[2] for frame in recorded if not frame[5]][-1] == "JSONDecoder.raw_decode"
    assert len(recorded) <= OUTERMOST + INNERMOST


def test_a_source_that_is_gone_leaves_a_frame_without_code(recorder: Recorder, tmp_path: Path) -> None:
    """A deleted source file leaves frames without code."""
    path = tmp_path / "gone.py"
    code = compile("def work():\n    raise ValueError\n", str(path), "exec")
    namespace: dict[str, Any] = {"__name__": "gone"}
    exec(code, namespace)
    run(namespace["work"], "a")
    assert list(record_of(recorder, "a").frames[-1]) == [str(path), 2, "work", "gone", "", True, 0, 0, None]


_IN_A_PACKAGE = """
import json, sys
from collections import deque
import ztrace
from ztrace import spans
class Recorder:
    queue, room, offset_ns, register, watched, born_here = deque(), 9, 0, {}, {}, True
spans.publisher = Recorder
def work():
    with ztrace.span("a"):
        json.loads("{")
try:
    work()
except ValueError:
    print(json.dumps([frame[5] for frame in Recorder.queue[0][12].frames]))
"""


@pytest.mark.process
def test_a_programs_own_script_is_the_users_own(tmp_path: Path) -> None:
    """A script run by path is in-app, and the library frames it calls are not."""
    done = run_script(tmp_path / "server.py", _IN_A_PACKAGE)
    assert json.loads(done.stdout) == [True, False, False, False]


def lines_of(record: ExceptionRecord) -> list[tuple[str, int, int]]:
    """Return each frame's source line, and its numbers of repeats and omitted frames."""
    return [(frame.code, frame.repeats, frame.omitted) for frame in map(FrameRecord._make, record.frames)]


def test_recursion_is_folded(recorder: Recorder) -> None:
    """A recursive function is recorded as one frame with its number of repeats."""

    def deep(level: int) -> None:
        if not level:
            raise ValueError("no")
        deep(level - 1)

    run(lambda: deep(200), "a")
    assert lines_of(record_of(recorder, "a"))[-3:] == [
        ('run(lambda: deep(200), "a")', 0, 0),
        ("deep(level - 1)", 199, 0),
        ('raise ValueError("no")', 0, 0),
    ]


@pytest.mark.parametrize("cycle", [1, 2, 3, 4])
@pytest.mark.parametrize("times", [1, 2, 3, 50])
@pytest.mark.parametrize("rest", [0, 1])
def test_cycles_are_folded(cycle: int, times: int, rest: int) -> None:
    """Mutually recursive functions are recorded once, and the last frame of the cycle counts the repeats."""
    source = "".join(
        f"def f{number}(left):\n    if not left: 1 / 0\n    f{(number + 1) % cycle}(left - 1)\n"
        for number in range(cycle)
    )
    namespace: dict[str, Any] = {"__name__": "app"}
    exec(compile(source, "<cycle>", "exec"), namespace)
    calls = cycle * times + min(rest, cycle - 1)
    with pytest.raises(ZeroDivisionError) as caught:
        namespace["f0"](calls)
    folded = record_frames(read_steps(caught.tb)[1:])
    assert sum(frame.repeats for frame in folded) == times - 1
    assert [frame.repeats for frame in folded].index(times - 1) <= cycle - 1
    unfolded: list[str] = []
    for frame in folded:
        unfolded.append(frame.function)
        unfolded += unfolded[-cycle:] * frame.repeats
    assert unfolded == [f"f{number % cycle}" for number in range(calls + 1)]


def test_a_deep_stack_keeps_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle of a deep stack is omitted and counted, without a source lookup of its frames."""
    depth = 300
    path = tmp_path / "deep.py"
    path.write_text("\n".join(f"def f{n}(): f{n + 1}()" for n in range(depth)) + f"\ndef f{depth}(): 1 / 0\n")
    namespace: dict[str, Any] = {"__name__": "app"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    with pytest.raises(ZeroDivisionError) as caught:
        namespace["f0"]()
    looked_up: list[int] = []
    original = linecache.getline

    def getline(file: str, line: int, module_globals: dict[str, Any] | None = None) -> str:
        looked_up.append(line)
        return original(file, line, module_globals)

    monkeypatch.setattr(linecache, "getline", getline)
    kept = record_frames(read_steps(caught.tb)[1:])
    left_out = depth + 1 - OUTERMOST - INNERMOST
    expected = [*range(OUTERMOST), *range(OUTERMOST + left_out, depth + 1)]
    assert [frame.function for frame in kept] == [f"f{number}" for number in expected]
    assert [frame.omitted for frame in kept if frame.omitted] == [left_out]
    assert kept[OUTERMOST].omitted == left_out
    assert looked_up == [number + 1 for number in expected]


def test_omitted_counts_what_was_folded() -> None:
    """The number of omitted frames includes folded repeats, so every frame of the traceback is counted."""

    def left(level: int) -> None:
        if not level:
            raise ValueError
        if level % 3:
            left(level - 1)
        elif level % 5:
            right(level - 1)
        else:
            left(level - 1)

    def right(level: int) -> None:
        if level % 7 == 0:
            left(level - 1)
        else:
            right(level - 2 if level > 1 else 0)

    with pytest.raises((ValueError, RecursionError)) as caught:
        left(900)
    steps = read_steps(caught.tb)
    folded = frames._fold(steps)
    assert sum(weight for *_, weight in folded) == len(steps)
    assert sum(frame.omitted for frame in record_frames(steps)) == sum(
        weight for *_, weight in folded[OUTERMOST : len(folded) - INNERMOST]
    )


def test_all_frames_if_asked_for(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZTRACE_FRAMES=all keeps frames of RPC libraries."""

    def work() -> None:
        raise ValueError

    library: dict[str, Any] = {"work": work, "__name__": "zerorpc.core"}
    exec("def call():\n    work()\n", library)
    run(library["call"], "hidden")
    monkeypatch.setattr(frames, "show_all", True)
    run(library["call"], "shown")
    hidden, shown = ([frame[3] for frame in record_of(recorder, name).frames] for name in ("hidden", "shown"))
    assert shown == [*hidden[:-1], "zerorpc.core", hidden[-1]]


def test_locals_are_those_of_the_users_own_frames(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Local variables are recorded only when enabled, and only in in-app frames."""

    def work(card: str, amount: int) -> None:
        json.loads("{")

    run(lambda: work("visa", 12), "without")
    monkeypatch.setattr(frames, "show_locals", True)
    run(lambda: work("visa", 12), "with")
    assert {frame[8] for frame in record_of(recorder, "without").frames} == {None}
    recorded = [FrameRecord(*frame) for frame in record_of(recorder, "with").frames]
    (own,) = (frame for frame in recorded if frame.function.endswith(".work"))
    assert own.locals == {"card": "'visa'", "amount": "12"}
    assert {frame.locals is None for frame in recorded if not frame.in_app} == {True}


def test_a_call_that_only_passed_libraries_has_the_line_that_made_it(recorder: Recorder) -> None:
    """A client span that an exception only passes has the in-app line that made the call."""

    library = os.path.join(os.path.dirname(os.path.dirname(pytest.__file__)), "library.py")
    source = "def call(kind, work):\n    with ztrace.span('a', kind=kind):\n        work()\n"
    namespace: dict[str, Any] = {"ztrace": ztrace, "__name__": "library"}
    exec(compile(source, library, "exec"), namespace)
    error = ValueError()

    def raise_inner() -> None:
        with ztrace.span("inner"):
            raise error

    inner = run(raise_inner)
    with ztrace.span("outer") as outer:
        origins.mark_origin(inner, outer.trace_id, b"remotely", outer)
        source_of_call = 'run(lambda: namespace["call"]("client", library_raise(inner)))'
        run(lambda: namespace["call"]("client", library_raise(inner)))
    record = record_of(recorder, "a")
    assert (record.how, record.origin_span_id) == (PASSED, b"remotely")
    assert codes(record) == [source_of_call]


def library_raise(error: BaseException) -> Any:
    """Return a function of an installed library that raises the error."""
    library = os.path.join(os.path.dirname(os.path.dirname(pytest.__file__)), "library.py")
    namespace: dict[str, Any] = {"error": error.with_traceback(None), "__name__": "library"}
    exec(compile("def work():\n    raise error\n", library, "exec"), namespace)
    return namespace["work"]
