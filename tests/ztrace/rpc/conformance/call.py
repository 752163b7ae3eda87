"""Program that makes a call for each line of its input, and prints the outcome.

Argument: the library, zerorpc or one of ztrace.rpc's clients. A line is a JSON list of an endpoint, a timeout
and a heartbeat period in seconds, the method, and its arguments; the answer a JSON list of what happened:
"returned" with the value, "streamed" with the items and, if it failed, the error, or "raised" with the error.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


def describe(error: Exception) -> list[Any]:
    """Return the class of an error, and the type and message of a remote one."""
    kind = type(error).__name__
    for names in (("name", "msg"), ("type", "text")):
        if kind == "RemoteError" and hasattr(error, names[0]):
            return [kind, getattr(error, names[0]), getattr(error, names[1])]
    return [kind]


def _call_zerorpc(endpoint: str, timeout_s: float, heartbeat_s: float, name: str, *args: Any) -> Any:
    import zerorpc

    client = zerorpc.Client(endpoint, timeout=timeout_s, heartbeat=heartbeat_s)
    try:
        answer = client(name, *args)
        return _read(answer) if hasattr(answer, "__next__") else ["returned", answer]
    finally:
        client.close()


def _call_ztrace(endpoint: str, timeout_s: float, heartbeat_s: float, name: str, *args: Any) -> Any:
    from ztrace import rpc

    with rpc.Client(endpoint, timeout_s=timeout_s, heartbeat_s=heartbeat_s) as client:
        answer = client.call(name, *args)
        return _read(answer) if hasattr(answer, "__next__") else ["returned", answer]


def _call_asyncio(endpoint: str, timeout_s: float, heartbeat_s: float, name: str, *args: Any) -> Any:
    from ztrace import rpc

    async def call() -> Any:
        async with rpc.AsyncClient(endpoint, timeout_s=timeout_s, heartbeat_s=heartbeat_s) as client:
            answer = await client.call(name, *args)
            if not hasattr(answer, "__anext__"):
                return ["returned", answer]
            items: list[Any] = []
            try:
                async for item in answer:
                    items.append(item)
            except Exception as error:
                return ["streamed", items, describe(error)]
            return ["streamed", items, None]

    return asyncio.run(call())


def _read(answer: Iterator[Any]) -> list[Any]:
    items: list[Any] = []
    try:
        for item in answer:
            items.append(item)
    except Exception as error:
        return ["streamed", items, describe(error)]
    return ["streamed", items, None]


#: Ways to make a call, by the argument of the program
_CALLS = {"zerorpc": _call_zerorpc, "threads": _call_ztrace, "asyncio": _call_asyncio}


def _make_calls(call: Callable[..., Any]) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            outcome = call(*json.loads(line))
        except Exception as error:
            outcome = ["raised", describe(error)]
        print(json.dumps(outcome, default=repr), flush=True)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()
    _make_calls(_CALLS[sys.argv[1]])
