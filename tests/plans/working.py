"""Work of a process: the steps of one call that it serves, or of a plan.

One idea: a call carries a token, ``7.0~1.2~0`` for the first attempt of the third step within the second
attempt of the first step of plan 7. So the tree follows from the logs alone.
"""

import builtins
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import ztrace
from tests.plans.logs import Log
from tests.plans.planning import Step

#: Calls a method of a service with an argument; by the name of the service.
Clients = dict[str, Callable[[str, str], None]]


class Worker:
    """Process that serves calls and makes others.

    Args:
        log: of the process.
        clients: how the process calls each service.
    """

    def __init__(self, log: Log, clients: Clients) -> None:
        self._log = log
        self.clients = clients

    def serve(self, name: str, argument: str) -> None:
        """Run the steps of a call within the span that serves it."""
        asked = json.loads(argument)
        ztrace.current_span().set(work=asked["token"])
        self.run(asked["token"], name, asked["steps"], asked["error"])

    def run(self, token: str, name: str, steps: list[Step], error: str | None = None) -> None:
        """Run steps, and raise an error at the end if there is to be one."""
        self._log.write("begin", token, name=name)
        work = _Work(token, self._log, self.clients)
        try:
            for number, step in enumerate(steps):
                work.run(step, f"{token}.{number}")
            if error is not None:
                raise work.know(getattr(builtins, error)(f"{token} has failed"), "raised", None)
        except Exception as raised:
            how, source = work.find(raised)
            self._log.write(
                "end", token, how=how, source=source, type=type(raised).__name__, message=str(raised)
            )
            raise
        self._log.write("end", token, how=None)


class _Work:
    def __init__(self, token: str, log: Log, clients: Clients) -> None:
        self._token = token
        self._log = log
        self._clients = clients
        #: Exceptions with how they came about, and the call that they come from, None for this work.
        self._known: list[tuple[BaseException, str, str | None]] = []

    def know(self, error: Exception, how: str, source: str | None) -> Exception:
        """Note where an exception comes from, and return it."""
        self._known.append((error, how, source))
        return error

    def find(self, error: BaseException) -> tuple[str, str | None]:
        """Return how an exception came about, and the call that it comes from."""
        return next((how, source) for known, how, source in reversed(self._known) if known is error)

    def run(self, step: Step, token: str) -> None:
        """Run a step."""
        if "together" in step:
            self._run_together(step, token)
        else:
            self._run_call(step, token)

    def _run_together(self, step: Step, token: str) -> None:
        """Make calls in threads, and raise the error of the first that has failed."""
        tokens = [(call, f"{token}.{number}") for number, call in enumerate(step["together"])]
        if step["by"] == "executor":
            with ThreadPoolExecutor(len(tokens)) as pool:
                futures = [pool.submit(self._run_call, *each) for each in tokens]
            for future in futures:
                future.result()
            return
        errors: list[Exception | None] = [None] * len(tokens)

        def run(number: int) -> None:
            try:
                self._run_call(*tokens[number])
            except Exception as error:
                errors[number] = error

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tokens))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            if error is not None:
                raise error

    def _run_call(self, call: Step, token: str) -> None:
        for attempt in range(call["retries"] + 1):
            try:
                self._attempt(call, f"{token}~{attempt}", attempt)
                return
            except Exception as error:
                if attempt < call["retries"] or call["handle"] == "catch":
                    continue
                if call["handle"] == "wrap":
                    _, source = self.find(error)
                    how = "raised" if source is None else "wrapped"
                    raise self.know(OSError(f"{token} is wrapped"), how, source) from error
                if call["handle"] == "fall back":
                    if call["instead"] is not None:
                        self._run_call(call["instead"], f"{token}-")
                    return
                raise

    def _attempt(self, call: Step, token: str, attempt: int) -> None:
        service, name = call["to"], call["name"]
        error = call["error"] if attempt < call["until"] else None
        handled = sys.exception()
        self._log.write("call", token, by=self._token, name=name)
        try:
            argument = json.dumps({"token": token, "steps": call["steps"], "error": error})
            self._clients[service](name, argument)
        except Exception as raised:
            if service != "zmq":
                self.know(raised, "passed", token)
            else:  # Raised by the client, maybe while another one is handled.
                source = None if handled is None else self.find(handled)[1]
                self.know(raised, "raised" if source is None else "replaced", source)
            self._log.write("return", token, failed=service != "zmq")
            raise
        self._log.write("return", token, failed=False)
