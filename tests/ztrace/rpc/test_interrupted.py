"""Exceptions of signals and timeouts that arrive while spans of calls start and end."""

import gc
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

import ztrace
from tests.ztrace.interrupting import EVENTS, BoundaryInterrupter, Interrupter, Limit, interrupt
from tests.ztrace.recording import Recorder
from ztrace import diagnostics
from ztrace.context import get_current
from ztrace.rpc import tracing
from ztrace.rpc.core.calling import Call
from ztrace.rpc.core.serving import Served


def make_call() -> Call:
    """Return a call that is answered."""
    call = Call("charge")
    call.own = {"v": 1, "ns": 10}
    call.route = SimpleNamespace(attributes={"rpc.system.name": "ztrace"})
    return call


def make_served() -> Served:
    """Return a served call of a traced client."""
    call = Served()
    call.name, call.reason, call.span, call.header = "charge", "", None, {}
    call.own = {"v": 1, "tc": bytes(range(1, 26))}
    return call


def call_once(call: Call) -> None:
    """Make a call, as the clients do."""
    try:
        tracing.start_call(call)
        if call.span is not None:
            tracing.end_call(call)
    except BaseException as error:
        if call.span is not None:
            tracing.fail_call(call, error)
        raise


def serve_once(call: Served) -> None:
    """Serve a call, as the server does, but for an end that is made up for."""
    try:
        tracing.serve(call, True)
        if call.span is not None:
            tracing.replied(call)
            span = call.span
            try:
                tracing.end_served(call, None)
            except BaseException:
                call.span = span  # An end that was interrupted before it began.
                raise
    except BaseException as error:
        if call.span is not None:
            tracing.end_served(call, error)
        raise


def look(recorder: Recorder, outer: Any, caught: object, call: Any, interrupter: Interrupter) -> list[str]:
    """Return what is wrong after a call within a span."""
    found = []
    if (type(caught) is Limit) != interrupter.raised:
        found.append(f"raised {caught!r}")
    if set(recorder.register) != {outer}:
        found.append(f"open {list(recorder.register)}")
    if outer.open_children:
        found.append(f"{outer.open_children} children counted")
    if get_current() is not outer:
        found.append(f"current {get_current()!r}")
    has_run = not interrupter.raised or (type(call) is Call and call.span is not None)
    if len(recorder.queue) != 1 and (has_run or recorder.queue):
        found.append(f"recorded {recorder.spans}")
    if diagnostics.counts:
        found.append(f"failed {diagnostics.counts}")
    return found


@pytest.mark.parametrize("kind", [*EVENTS, "boundary"])
@pytest.mark.parametrize(("make", "run"), [(make_call, call_once), (make_served, serve_once)])
def test_spans_of_interrupted_calls_end_once(
    recorder: Recorder, kind: str, make: Callable[[], Any], run: Callable[[Any], None]
) -> None:
    """Wherever an exception arrives, a span that has started ends and is recorded once."""
    wrong: dict[str, list[str]] = {}
    number = 0
    interrupter: Interrupter | None = None
    gc.collect()
    gc.freeze()
    while interrupter is None or interrupter.raised:
        if kind == "boundary":
            interrupter = BoundaryInterrupter(number, Limit)
        else:
            interrupter = Interrupter(kind, number, Limit)
        call = make()
        with ztrace.span("outer") as outer:
            here = Context() if type(call) is Served else copy_context()
            scenario: Callable[[], object] = partial(here.run, run, call)  # pyright: ignore[reportAssignmentType]
            caught = interrupt(scenario, interrupter)
            if found := look(recorder, outer, caught, call, interrupter):
                wrong[f"{number} {interrupter.place}"] = found
        recorder.queue.clear()
        recorder.register.clear()
        diagnostics.counts.clear()
        number += 1
    assert wrong == {}
    assert number > (5 if kind == "boundary" else 30)
