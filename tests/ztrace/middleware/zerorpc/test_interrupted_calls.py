"""Exceptions that arrive in the middleware's own code: each call's span ends, and the next call is sound."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_an_exception_at_any_place_leaves_calls_sound(step: int) -> None:
    """Wherever an exception arrives, in the caller, the server or the puller, an interrupted caller gets it,
    no span stays open or current, and none is recorded twice.
    """
    program = [sys.executable, "-m", "tests.ztrace.middleware.zerorpc.interrupted", str(step), "line"]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, timeout=300)
    found = json.loads(done.stdout)
    assert {name: each["wrong"] for name, each in found.items() if each["wrong"]} == {}
    assert all(each["places"] > 200 // step for each in found.values())
