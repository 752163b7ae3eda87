"""Stack traces formatted from stored exceptions, compared with Python's own."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from ztrace.context import SpanContext
from ztrace.exceptions.recording import record_exception
from ztrace.exceptions.texts import read_stack_text
from ztrace_collector.checking.failures import read_failure
from ztrace_collector.otlp.mapping.stacktraces import format_stacktrace
from ztrace_collector.refusals import Refusals
from ztrace_viewer.json_text import read_json

HERE = SpanContext(bytes(range(16)), bytes(range(1, 9)))


def _plain() -> None:
    raise ValueError("no\ncard")


def _caused() -> None:
    try:
        raise KeyError("card")
    except KeyError as error:
        raise ValueError from error


def _replaced() -> None:
    try:
        _caused()
    except ValueError:
        raise OSError(2, "gone")  # noqa: B904


def _noted() -> None:
    error = ValueError("no")
    error.add_note("while paying\nby card")
    raise error


def _grouped() -> None:
    members: list[Exception] = [TypeError("a")]
    for function in (_plain, _caused):
        try:
            function()
        except Exception as error:
            members.append(error)
    group = ExceptionGroup("many", members)
    group.add_note("noted")
    try:
        _plain()
    except ValueError:
        raise ExceptionGroup("outer", [OSError("first"), group]) from None


def _recursive(depth: int = 10) -> None:
    if depth:
        _recursive(depth - 1)
    raise ValueError("deep")


def stored(exception: Exception) -> dict[str, Any]:
    """Return an exception as recorded by a span and kept by the store."""
    record = record_exception(exception, HERE)
    assert record is not None
    failure = read_failure(_tuples(record), HERE.trace_id, HERE.span_id, Refusals())
    assert failure is not None
    fields = read_json(failure.text)
    assert isinstance(fields, dict)
    return fields


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def printed(exception: Exception) -> list[str]:
    """Return Python's own output, without the position markers of newer versions."""
    text = "".join(traceback.format_exception(exception)).rstrip("\n")
    return [line for line in text.split("\n") if line.strip(" |^~")]


@pytest.mark.parametrize("function", [_plain, _caused, _replaced, _noted, _grouped, _recursive])
def test_it_is_what_python_prints(function: Callable[[], None]) -> None:
    """The text equals Python's, with causes, notes, nested groups, long messages and folded frames."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    exception = caught.value.with_traceback(caught.value.__traceback__ and caught.value.__traceback__.tb_next)
    text = format_stacktrace(stored(exception))
    ours = [line for line in text.split("\n") if line.strip(" |")]
    theirs = printed(exception)
    if function is _recursive:  # Python prints the first three of the frames it folds.
        assert "  [Previous line repeated 9 more times]" in ours
        assert (ours[0], ours[-1]) == (theirs[0], theirs[-1])
    else:
        assert ours == theirs


@pytest.mark.parametrize("function", [_plain, _caused, _recursive])
def test_what_it_makes_can_be_read_again(function: Callable[[], None]) -> None:
    """The agent's parser of tracebacks reads the same frames and causes from the text."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        function()
    fields = stored(caught.value)
    record = read_stack_text(format_stacktrace(fields), lambda file: True)
    assert [(frame[0], frame[1], frame[2], frame[4]) for frame in record.frames] == [
        (frame["file"], frame["line"], frame["function"], frame["code"]) for frame in fields["frames"]
    ]
    assert [cause[0] for cause in record.causes] == [cause["type"] for cause in fields["causes"]]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": "KeyError", "frames": 7, "causes": {}, "notes": "no", "members": [1, None]},
        {"type": None, "frames": [{}], "members": [{"members": [{}]}]},
    ],
)
def test_what_another_program_wrote_is_no_matter(fields: dict[str, Any]) -> None:
    """Missing fields and fields of other types are omitted."""
    assert isinstance(format_stacktrace(fields), str)


def test_depth_is_bounded() -> None:
    """The depth of causes is limited."""
    fields: dict[str, Any] = {"type": "KeyError"}
    for _ in range(500):
        fields = {"type": "KeyError", "causes": [fields], "members": []}
    assert format_stacktrace(fields).count("KeyError") == 17
