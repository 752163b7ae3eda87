"""Look into a queue from outside: requests as of any server, answered at once."""

import traceback
from collections.abc import Callable
from typing import Any, Final

from ztrace.errors import quote
from ztrace.rpc import introspection, wire
from ztrace.rpc.exposing import expose
from ztrace.rpc.queueing import events
from ztrace.rpc.queueing.core import QueueCore
from ztrace.rpc.queueing.tasks import DEAD, DONE, RUNNING, WAITING, Task

#: Name of every queue, as of a service.
NAME: Final = "queue"
#: State that is shown of waiting jobs whose time has not come.
DELAYED: Final = "delayed"

Reply = tuple[dict[str, Any], str, Any]
_List = list


class Inspector:
    """Methods of a queue that its peers can call; the caller holds the queue's lock.

    Args:
        core: of the queue.
        spool: path of its spool, None without.
        now: returns the time that the core knows.
    """

    def __init__(self, core: QueueCore, spool: str | None, now: Callable[[], float]) -> None:
        self._core, self._spool, self._now = core, spool, now
        self._methods = expose(
            {"status": self.status, "list": self.list, "retry": self.retry, "drop": self.drop}
        )
        self._builtins = introspection.make_builtins(NAME, self._methods)

    def answer(self, header: dict[str, Any], name: str, args: list[Any]) -> Reply | None:
        """Return the reply to a request; None if the request has no id to reply to."""
        message_id = wire.take_id(header)
        if message_id is None:
            return None
        reply = {"message_id": message_id, **events.make_header(), "response_to": message_id}
        try:
            kwargs: dict[str, Any] = {}
            if name == wire.CALL:
                name, args, kwargs = args
            method = self._methods.get(name) or self._builtins.get(name)
            if method is None:
                raise NameError(introspection.explain_unknown(name, self._methods))
            return reply, wire.OK, [method.function(*args, **kwargs)]
        except Exception as error:
            return reply, wire.ERR, [type(error).__name__, str(error), traceback.format_exc()]

    def status(self) -> dict[str, Any]:
        """Return how many jobs are in each state, and the workers."""
        now_s = self._now()
        states: dict[str, int] = dict.fromkeys((WAITING, DELAYED, RUNNING, DEAD), 0)
        for task in self._core.tasks.values():
            if task.state != DONE:
                states[_shown_state(task, now_s)] += 1
        return {
            "name": NAME,
            **states,
            **self._core.totals,
            "spool": self._spool,
            "workers": [
                {
                    "worker": worker.peer.decode(),
                    "host": worker.about.get("host"),
                    "pid": worker.about.get("pid"),
                    "credits": worker.credits,
                    "running": len(worker.attempts),
                    "heard_s": round(now_s - worker.heard_s, 3),
                }
                for worker in self._core.workers.values()
            ],
        }

    def list(self, state: str | None = None, limit: int = 100) -> _List[dict[str, Any]]:
        """Return jobs that are not done, in the order in which they were put."""
        now_s = self._now()
        found: _List[dict[str, Any]] = []
        for task in self._core.tasks.values():
            if len(found) >= limit:
                break
            shown = _shown_state(task, now_s)
            if task.state != DONE and state in (None, shown):
                found.append(self._describe(task, shown, now_s))
        return found

    def retry(self, *job_ids: str) -> int:
        """Put dead jobs back, by default all; return their number."""
        return sum(
            self._core.retry(task, self._now()) for task in self._choose(job_ids or list(self._core.tasks))
        )

    def drop(self, *job_ids: str) -> int:
        """Remove jobs, and cancel those that run; return their number."""
        return sum(self._core.cancel(task, self._now()) for task in self._choose(job_ids))

    def _choose(self, job_ids: Any) -> Any:
        tasks = [self._core.tasks.get(job_id) for job_id in job_ids]
        return [task for task in tasks if task is not None]

    def _describe(self, task: Task, shown: str, now_s: float) -> dict[str, Any]:
        worker = self._core.worker_of(task)
        return {
            "id": task.id,
            "name": task.name,
            "args": _show_arguments(task.body),
            "state": shown,
            "attempts": task.attempts,
            "max_attempts": task.max_attempts,
            "age_s": round(now_s - task.created_s, 3),
            "due_s": round(task.due_s - now_s, 3) if shown == DELAYED else None,
            "worker": None if worker is None else worker.peer.decode(),
            "key": task.key,
            "error": None if task.failure is None else _show_failure(task.failure[0]),
            "trace_id": task.context.get("traceparent", "")[3:35] or None,
        }


def _shown_state(task: Task, now_s: float) -> str:
    return DELAYED if task.state == WAITING and task.due_s > now_s else task.state


def _show_arguments(body: bytes) -> str:
    _, args, kwargs = wire.unpack(body)
    shown = [quote(each) for each in args] + [f"{key}={quote(value)}" for key, value in kwargs.items()]
    text = ", ".join(shown)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _show_failure(args: Any) -> str:
    return ": ".join(str(each) for each in args[:2])[:500]
