"""Process whose calls are interrupted in ztrace's code: ``python -m …zerorpc.interrupted STEP EVENT``.

Each scenario is interrupted at every STEPth line, or boundary between functions, that it passes. Prints one
JSON object: by scenario, how many places were tried, and what was found wrong, by place.
"""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import gevent
import zerorpc

import ztrace
from tests.ztrace.interrupting import BoundaryInterrupter, Interrupter, Limit, interrupt
from tests.ztrace.middleware.zerorpc.alone import Desk, memory
from ztrace import diagnostics, spans
from ztrace.context import get_current, make_current
from ztrace.middleware.zerorpc import ZerorpcMiddleware
from ztrace.middleware.zerorpc.calls import calling, open_calls, unread_streams

#: What each scenario calls, within a span.
SCENARIOS: dict[str, Callable[[Desk], object]] = {
    "call": lambda desk: desk.client.work(1),
    "error": lambda desk: desk.client.fail(),
    "unknown": lambda desk: desk.client.nothing(),
    "stream": lambda desk: list(desk.client.count()),
    "abandoned stream": lambda desk: next(desk.client.count()),
    "async": lambda desk: desk.client.work(1, **{"async": True}).get(),
    "message": lambda desk: push(desk),
}


#: What a caller may get where another greenlet was interrupted: the reply, or none.
EXPECTED = (Limit, zerorpc.RemoteError, zerorpc.TimeoutExpired, type(None))

#: What Python has discarded, since it was raised in a finalizer.
discarded: list[type[BaseException]] = []


def push(desk: Desk) -> None:
    """Push a message, and let the puller's greenlet serve it."""
    desk.pusher.work(1)
    gevent.sleep(0.001)


def check(desk: Desk, work: Callable[[Desk], object], interrupter: Interrupter) -> list[str]:
    """Interrupt a scenario at one place, and return what is wrong afterwards."""
    with ztrace.span("outer") as outer:
        caught = interrupt(lambda: work(desk), interrupter)
        wrong = []
        is_callers = interrupter.greenlet is gevent.getcurrent() and Limit not in discarded
        if type(caught) not in ((Limit,) if is_callers else EXPECTED):
            wrong.append(f"raised {caught!r}")
        discarded.clear()
        if get_current() is not outer:
            wrong.append(f"current {get_current()!r}")
            make_current(outer)
    served = desk.server._task_pool
    try:
        with gevent.Timeout(10):
            while len(served) or memory.register or open_calls or outer.open_children:
                # A stream's server waits for a client that is gone, as it would without ztrace; on a busy
                # machine it may be that of a call before.
                if not served.join(0.02):
                    served.kill()
                gevent.sleep(0.001)
    except gevent.Timeout:
        wrong.append(f"open {list(memory.register)} {list(open_calls)} {outer.open_children}")
        memory.register.clear()
        open_calls.clear()
    call = calling.get()
    if (call is not None and call.is_unsent) or unread_streams:
        wrong.append(f"calling {call} {len(unread_streams)}")
    if diagnostics.counts:
        wrong.append(f"failed {diagnostics.counts}")
        diagnostics.counts.clear()
    if not desk.tasks[1].ready() and len(memory.queue) != len({record[1] for record in memory.queue}):
        wrong.append("recorded twice")
    memory.queue.clear()
    return wrong


def open_desk(context: Any) -> Desk:
    """Open a server and its client, which does not wait long for replies that will not come."""
    desk = Desk(context)
    desk.client._timeout = 0.02
    return desk


def run(context: Any, work: Callable[[Desk], object], step: int, event: str) -> dict[str, Any]:
    """Interrupt a scenario at every stepth place."""
    desk = open_desk(context)
    wrong: dict[str, list[str]] = {}
    number, interrupter = -step, None
    while interrupter is None or interrupter.raised:
        number += step
        if desk.tasks[
            1
        ].ready():  # The puller of before has died of an exception, as it would without ztrace.
            desk.close()
            desk = open_desk(context)
        interrupter = (
            BoundaryInterrupter(number, Limit) if event == "boundary" else Interrupter(event, number, Limit)
        )
        found = check(desk, work, interrupter)
        if found:
            wrong[f"{number} {interrupter.place}"] = found
    desk.close()
    return {"places": number // step, "wrong": wrong}


def main(step: int, event: str) -> None:
    """Interrupt each scenario."""
    logging.getLogger("zerorpc").setLevel(logging.CRITICAL)
    logging.getLogger("ztrace").setLevel(logging.CRITICAL)
    hub: Any = gevent.get_hub()
    hub.handle_error = lambda *_: None  # Greenlets that end with what was raised in them.
    sys.unraisablehook = lambda unraisable: discarded.append(unraisable.exc_type)
    spans.publisher = memory  # type: ignore[assignment]
    context = zerorpc.Context()
    context.register_middleware(ZerorpcMiddleware())
    print(json.dumps({name: run(context, work, step, event) for name, work in SCENARIOS.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
