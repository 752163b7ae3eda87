"""Counting and logging of the agent's own failures."""

import logging

import pytest

import ztrace
from ztrace import diagnostics


def fail(reason: str, message: str) -> None:
    """Fail as a guarded entry into ztrace would."""
    try:
        raise ValueError(message)
    except ValueError:
        diagnostics.count_failure(reason)


@pytest.mark.parametrize(("debug", "logged"), [(False, ["a1", "b1"]), (True, ["a1", "a2", "b1"])])
def test_failures_are_logged_with_their_traceback(
    debug: bool, logged: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first failure of each reason is logged, and with debug every one; all are counted."""
    monkeypatch.setattr(diagnostics, "debug", debug)
    monkeypatch.setattr(diagnostics, "counts", {})
    for reason, message in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        fail(reason, message)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == logged
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert diagnostics.counts == {"a": 2, "b": 1}


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("0", False), ("", False)])
def test_the_variable_switches_debugging_on(value: str, debug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZTRACE_DEBUG is read by `configure`, also when ztrace is disabled."""
    monkeypatch.setattr(diagnostics, "debug", not debug)
    monkeypatch.setenv("ZTRACE_DEBUG", value)
    monkeypatch.setenv("ZTRACE_DISABLED", "1")
    ztrace.configure("billing")
    assert diagnostics.debug is debug
