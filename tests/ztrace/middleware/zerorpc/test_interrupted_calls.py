"""Exceptions that arrive in the middleware's own code: each call's span ends, and the next call is sound."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

EVENTS = ("line", "boundary")


@pytest.mark.parametrize(
    ("step", "event"), [(29, "line"), *(pytest.param(1, event, marks=pytest.mark.slow) for event in EVENTS)]
)
def test_an_exception_at_any_place_leaves_calls_sound(step: int, event: str) -> None:
    """Wherever an exception arrives, in the caller, the server or the puller, an interrupted caller gets it,
    no span stays open or current, and none is recorded twice.
    """
    program = [sys.executable, "-m", "tests.ztrace.middleware.zerorpc.interrupted", str(step), event]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, timeout=300)
    found = json.loads(done.stdout)
    assert {name: each["wrong"] for name, each in found.items() if each["wrong"]} == {}
    assert all(each["places"] > 30 // step for each in found.values())
