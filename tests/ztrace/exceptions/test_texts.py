"""Exceptions parsed from printed tracebacks, equal to the records of the exceptions themselves."""

import traceback

import pytest

import ztrace
from tests.ztrace.recording import Recorder, record_of
from ztrace.exceptions.frames import INNERMOST, OUTERMOST
from ztrace.exceptions.texts import read_stack_text
from ztrace.records import ExceptionRecord, FrameRecord


def fail(depth: int = 0) -> None:
    """Raise an error after `depth` recursive calls."""
    if depth:
        fail(depth - 1)
    raise KeyError("no: such\nkey")


def chain(*, explicit: bool) -> None:
    """Raise an error from another, or while handling it."""
    try:
        fail()
    except KeyError as error:
        if explicit:
            raise ValueError("outer") from error
        raise ValueError("outer")  # noqa: B904


def read(error: BaseException) -> ExceptionRecord:
    """Parse the traceback that Python prints for an exception."""
    return read_stack_text("".join(traceback.format_exception(error)), lambda file: file == __file__)


def shown(record: ExceptionRecord) -> list[object]:
    """Return the comparable fields of a record and its causes."""
    frames = [FrameRecord(*frame) for frame in record.frames]
    causes = [ExceptionRecord(*cause) for cause in record.causes]
    return [
        record.type,
        record.message,
        [(frame.file, frame.line, frame.code, frame.repeats) for frame in frames],
        [(cause.how, shown(cause)) for cause in causes],
    ]


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 30])
def test_a_text_tells_what_the_exception_did(recorder: Recorder, depth: int) -> None:
    """A parsed traceback has the type, message, files, lines, source lines and recursion of the exception."""
    with pytest.raises(KeyError) as caught, ztrace.span("fails"):
        fail(depth)
    error = caught.value
    assert error.__traceback__ is not None
    # Text and record start at the same function: the text where it was caught, the record at the span.
    record = read(error)
    assert record.how == "raised"
    assert shown(record) == shown(record_of(recorder, "fails"))


@pytest.mark.parametrize(("explicit", "how"), [(True, "wrapped"), (False, "replaced")])
def test_causes_are_told_with_how(recorder: Recorder, explicit: bool, how: str) -> None:
    """Both sentences that Python prints between chained exceptions are parsed."""
    with pytest.raises(ValueError, match="outer") as caught, ztrace.span("fails"):
        chain(explicit=explicit)
    record = read(caught.value)
    assert shown(record) == shown(record_of(recorder, "fails"))
    (cause,) = record.causes
    assert ExceptionRecord(*cause).how == how


def test_a_group_is_read_without_its_members() -> None:
    """A group is parsed with its own frames and message, and without its members."""
    with pytest.raises(ExceptionGroup) as caught:
        raise ExceptionGroup("many", [KeyError("a"), ValueError("b")])
    record = read(caught.value)
    assert (record.type, record.message) == ("ExceptionGroup", "many (2 sub-exceptions)")
    assert [FrameRecord(*frame).file for frame in record.frames] == [__file__]


def test_frames_in_the_middle_are_left_out_and_counted() -> None:
    """Frames in the middle beyond the limit are omitted and counted."""
    lines = [f'  File "/srv/{number}.py", line {number}, in f\n    call()\n' for number in range(1, 101)]
    text = f"Traceback (most recent call last):\n{''.join(lines)}RuntimeError: deep\n"
    frames = [FrameRecord(*frame) for frame in read_stack_text(text, lambda file: True).frames]
    assert len(frames) == OUTERMOST + INNERMOST
    assert frames[OUTERMOST].omitted == 100 - OUTERMOST - INNERMOST
    assert [frame.line for frame in frames] == [*range(1, OUTERMOST + 1), *range(101 - INNERMOST, 101)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "java.lang.IllegalStateException: no\n\tat shop.Cart.add(Cart.java:31)",
        "Traceback (most recent call last):",
        "Traceback (most recent call last):\n  [Previous line repeated 3 more times]\n    code",
        "\n" * 5,
    ],
)
def test_what_is_no_traceback_has_no_frames(text: str) -> None:
    """Text without a traceback keeps the known type and message and has no frames."""
    record = read_stack_text(text, lambda file: True, "Known", "said")
    assert (record.type, record.message, list(record.frames), record.causes) == ("Known", "said", [], [])
