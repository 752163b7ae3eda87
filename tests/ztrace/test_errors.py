"""Messages of errors, whatever values they repeat."""

import ast
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztrace
from ztrace import diagnostics, settings
from ztrace.errors import MAX_MESSAGE, MAX_QUOTED, SettingsError, ZtraceError, quote

ROOT = Path(__file__).parents[2]
FILES = [
    file
    for folder in ("ztrace", "collector/ztrace_collector", "viewer/ztrace_viewer")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
#: Variables that have values of a certain form.
VARIABLES = ("ZTRACE_ENDPOINT", "ZTRACE_KEY", "ZTRACE_FRAMES", "ZTRACE_SCRUB_VALUES", *settings.LIMITS)


@given(value=st.one_of(st.text(), st.binary(), st.integers(), st.lists(st.text()), st.none()))
def test_a_quoted_value_is_short_and_escaped(value: object) -> None:
    """A value of any type is one line of printable characters; a short text is its literal."""
    text = quote(value)
    assert text.isprintable()
    if isinstance(value, str) and len(value) <= MAX_QUOTED:
        assert text == repr(value)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"x" * 10**6, "\x9b" * 10**6, 10**5000, ["x"] * 10**5],
    ids=["text", "bytes", "controls", "number", "list"],
)
def test_a_large_value_is_not_repeated_whole(value: object) -> None:
    """A value of any size is quoted by its beginning."""
    assert len(quote(value)) < 400
    assert quote("x" * 100) == f"{'x' * 80!r} and 20 more"


def test_a_message_is_bounded() -> None:
    """An error's message is cut, and its hint is not."""
    error = ZtraceError("x" * 5000, hint="do that")
    assert str(error).endswith("x…; do that")
    assert len(error.message) == MAX_MESSAGE


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "value", ["(" * 10**5, "9" * 10**5, "\x1b[2J\u202e\x9b("], ids=["long", "number", "controls"]
)
def test_a_wrong_setting_is_told_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A variable with a wrong value is told in one short line without what a terminal interprets."""
    for name in [name for name in os.environ if name.startswith("ZTRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, value)
    told = ""
    try:
        settings.read_settings(service="shop")
    except SettingsError as error:
        told = str(error)
    assert len(told) < 500
    assert told.isprintable()


@pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-3:]))
def test_no_message_repeats_a_value_whole(file: Path) -> None:
    """A value in a message goes through `quote`, or is a slice of bounded length."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r"):
            bounded = isinstance(node.value, ast.Subscript) and isinstance(node.value.slice, ast.Slice)
            assert bounded, f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "name",
    ["pyro", "x" * 5000, 5, None, b"zmq", [], {}],
    ids=["near", "long", "int", "none", "bytes", "list", "dict"],
)
def test_a_library_of_no_name_is_no_failure_of_ztrace(name: Any, caplog: pytest.LogCaptureFixture) -> None:
    """`instrument` tells what it supports in one line, without the whole of what it was given."""
    before = dict(diagnostics.counts)
    ztrace.instrument(name)
    assert diagnostics.counts == before
    (record,) = caplog.records
    assert "cannot trace" in record.getMessage()
    assert "pyro5" in record.getMessage()
    assert len(record.getMessage()) < 300
    assert not record.exc_info
