"""Exceptions that arrive in the middlewares' own code: each span ends, and the program gets the exception."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_an_exception_at_any_place_leaves_calls_sound(step: int) -> None:
    """Wherever an exception arrives, at a client or a server, no span stays open or current."""
    program = [sys.executable, "-m", "tests.ztrace.middleware.interrupted", str(step)]
    done = subprocess.run(program, check=True, capture_output=True, timeout=300)
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert {name: each["wrong"] for name, each in found.items() if each["wrong"]} == {}
    assert len(found) == 15
    assert all(each["places"] > 100 // step for each in found.values())
