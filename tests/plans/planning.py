"""Random plans of nested calls over mixed libraries.

A plan is a list of steps, each a JSON object: a call, or calls at the same time. A call says which service it
goes to, which steps the service runs, how it ends there, and what the caller does with an error.
"""

from random import Random
from typing import Any

#: Services, named after their libraries.
SERVICES = ("zerorpc", "zmq", "rpyc", "xmlrpc", "pyro5", "managers")
#: Services that a chain of calls passes once. zerorpc and raw ZeroMQ would wait for themselves, and so would
#: a manager's server, if its thread that accepts connections released a proxy of its own object.
ONCE = frozenset(("zerorpc", "zmq", "managers"))
#: Process pool of the driver, which only the driver can call.
POOL = "pool"
#: Services that pickle exceptions: other libraries' cannot all be pickled, so these raise their own.
PICKLING = frozenset(("managers", POOL))
#: Methods of every service, and functions of the pool.
NAMES = ("ask", "fetch", "place")
#: Exceptions that every library can send.
ERRORS = ("KeyError", "LookupError", "RuntimeError", "ValueError")
#: Longest chain of calls.
MAX_DEPTH = 4

Step = dict[str, Any]


def make_plan(chance: Random) -> list[Step]:
    """Return the steps of a plan, with at least one call."""
    return [_make_step(chance, ()) for _ in range(chance.randint(1, 3))]


def _make_step(chance: Random, path: tuple[str, ...]) -> Step:
    if chance.random() < 0.15:
        calls = [_make_call(chance, path) for _ in range(2)]
        return {"together": calls, "by": chance.choice(("thread", "executor"))}
    return _make_call(chance, path)


def _make_call(chance: Random, path: tuple[str, ...]) -> Step:
    choices = [name for name in SERVICES if name not in ONCE or name not in path]
    service = chance.choice([*choices, POOL] if not path else choices)
    below = (*path, service)
    wanted = chance.choice((0, 0, 1, 1, 2)) if len(below) < MAX_DEPTH else 0
    handle = chance.choice(("pass", "pass", "catch", "wrap", "fall back"))
    if handle == "pass" and path and path[-1] in PICKLING:
        handle = "wrap"
    call: Step = {
        "to": service,
        "name": chance.choice(NAMES),
        "steps": [_make_step(chance, below) for _ in range(wanted)],
        "error": chance.choice(ERRORS) if chance.random() < 0.3 else None,
        "handle": handle,
        "retries": chance.choice((0, 0, 0, 1, 2)),
        "until": chance.choice((1, 9)),  # Attempt from which on there is no error.
    }
    if handle == "fall back":
        call["instead"] = _make_call(chance, path) if len(below) < MAX_DEPTH else None
    return call
