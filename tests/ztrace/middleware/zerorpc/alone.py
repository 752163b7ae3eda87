"""Process with a client, a server, a puller and a pusher of its own: ``python -m …zerorpc.alone``.

Standard input takes one command per line, ``[FUNCTION, ARGUMENT, …]`` as JSON. The function is one of
`COMMANDS`; its answer is printed as one line of JSON. Trees are told in short: ``client work(server work)``,
with ``raised`` or ``passed ORIGIN`` for an exception, and ``orphan`` for a parent that is not there.
"""

import json
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
import zerorpc
from zerorpc import patterns
from zerorpc.decorators import DecoratorBase

import ztrace
from ztrace import diagnostics, spans
from ztrace.middleware.zerorpc import ZerorpcMiddleware
from ztrace.records import KIND_NAMES, ExceptionRecord, Span

#: Another tracer's header.
FOREIGN = f"00-{'ab' * 16}-{'cd' * 8}-01"


class Memory:
    """Publisher that keeps the records of ended spans."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.room = 1_000_000
        self.offset_ns = 0
        self.register: dict[Any, None] = {}
        self.watched: dict[int, Any] = {}
        self.born_here = True

    def succeed(self) -> None:
        """Stand in for the replacement in a forked child."""

    def take(self) -> list[str]:
        """Wait until each span has ended, and return the trees in short, and forget them."""
        with gevent.Timeout(10):
            while self.register:
                gevent.sleep(0.001)
        ended = [Span(*record) for record in self.queue]
        self.queue.clear()
        return _draw(ended)


memory = Memory()


def _draw(ended: list[Span]) -> list[str]:
    by_id = {span.span_id: span for span in ended}

    def name(span: Span) -> str:
        return f"{KIND_NAMES[span.kind]} {span.name}"

    def draw(span: Span) -> str:
        text = name(span)
        if span.parent_id is not None and span.parent_id not in by_id:
            text = f"orphan {text}"
        if isinstance(span.exception, ExceptionRecord):
            origin, how = by_id.get(span.exception.origin_span_id or b""), span.exception.how
            source = "elsewhere" if origin is None else name(origin)
            text += f" {how}" if origin is span else f" {how} {source}"
        below = [draw(each) for each in ended if each.parent_id == span.span_id]
        return f"{text}({', '.join(below)})" if below else text

    return [draw(span) for span in ended if span.parent_id not in by_id]


class Plain(patterns.ReqRep):  # type: ignore[misc]
    """Pattern that serves a call by itself, with every hook."""

    def process_call(self, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Call the method and emit the reply."""
        context.hook_server_before_exec(req_event)
        reply = channel.new_event("OK", (functor(*req_event.args),), context.hook_get_task_context())
        context.hook_server_after_exec(req_event, reply)
        channel.emit_event(reply)


class Silent:
    """Pattern of no base class, which calls no hook."""

    def process_call(self, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Call the method and emit the reply."""
        channel.emit_event(channel.new_event("OK", (functor(*req_event.args),)))


class Around(Plain):
    """Pattern that calls the one that it overrides, with names of arguments."""

    def process_call(self, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Call the method within a span."""
        with ztrace.span("around"):
            super().process_call(context, channel, req_event=req_event, functor=functor)


class Stream(patterns.ReqStream):  # type: ignore[misc]
    """Pattern of a stream that calls zerorpc's."""

    def process_call(self, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Stream the method's items."""
        super().process_call(context, channel, req_event, functor)


class Static:
    """Pattern of a static method."""

    @staticmethod
    def process_call(context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Call the method and emit the reply."""
        Plain.process_call(PLAIN, context, channel, req_event, functor)


class ByClass:
    """Pattern of a class method, which is used without an instance."""

    @classmethod
    def process_call(cls, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
        """Call the method and emit the reply."""
        Plain.process_call(PLAIN, context, channel, req_event, functor)


class Odd:
    """Pattern whose ``process_call`` is an object, which cannot be traced."""

    class Call:
        """Object that is called."""

        def __call__(self, context: Any, channel: Any, req_event: Any, functor: Any) -> None:
            """Call the method and emit the reply."""
            channel.emit_event(channel.new_event("OK", (functor(*req_event.args),)))

    process_call = Call()


PLAIN = Plain()


def decorator(pattern: Any) -> Any:
    """Return a zerorpc decorator of a pattern."""
    return type("decorated", (DecoratorBase,), {"pattern": pattern})


class Methods:
    """Methods of the server and the puller."""

    def work(self, number: int) -> int:
        """Return the number, within a span of its own."""
        with ztrace.span("within"):
            return number

    def token(self) -> int:
        """Return a number."""
        return 1

    def fail(self) -> None:
        """Raise."""
        raise KeyError("fail")

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def count(self) -> Iterator[int]:
        """Yield two numbers."""
        yield 1
        yield 2


class Patterned(Methods):
    """Methods with patterns of the program's own."""

    plain, silent = decorator(PLAIN)(Methods.work), decorator(Silent())(Methods.work)
    around, static = decorator(Around())(Methods.work), decorator(Static())(Methods.work)
    by_class, odd = decorator(ByClass)(Methods.work), decorator(Odd())(Methods.work)
    plain_fails, around_fails = decorator(PLAIN)(Methods.fail), decorator(Around())(Methods.fail)
    streamed = decorator(Stream())(vars(Methods)["count"]._functor)


class Mapped(Exception):
    """Exception of the program's own."""


class Desk:
    """Server, client, puller and pusher of one context."""

    number: ClassVar[int] = 0

    def __init__(self, context: Any, methods: type[Methods] = Methods) -> None:
        Desk.number += 1
        self.server = zerorpc.Server(methods(), context=context)
        self.puller = zerorpc.Puller(methods(), context=context)
        self.client = zerorpc.Client(context=context, timeout=5, heartbeat=None)
        self.pusher = zerorpc.Pusher(context=context)
        for bound, connected, name in ((self.server, self.client, "rpc"), (self.puller, self.pusher, "push")):
            bound.bind(f"inproc://{name}{Desk.number}")
            connected.connect(f"inproc://{name}{Desk.number}")
        self.tasks = [gevent.spawn(self.server.run), gevent.spawn(self.puller.run)]
        gevent.sleep(0)

    def close(self) -> None:
        """Close the sockets and end the tasks."""
        for each in (self.client, self.server, self.pusher, self.puller):
            each.close()
        gevent.killall(self.tasks)
        self.server._task_pool.kill()  # On a busy machine a request may have come just before.

    def call(self, method: str, *args: object) -> list[str]:
        """Call within a root span, and return the trees."""
        try:
            with ztrace.span("root"):
                result = self.client(method, *args)
                if not isinstance(result, int):
                    list(result)
        except (zerorpc.RemoteError, Mapped):
            pass
        return memory.take()

    def push(self) -> list[str]:
        """Push a message, wait until it has been received, and return the trees."""
        with ztrace.span("root"):
            self.pusher.work(1)
        with gevent.Timeout(10):
            while not any(KIND_NAMES[record[3]] == "consumer" for record in memory.queue):
                gevent.sleep(0.001)
        return memory.take()


_other: Any = None


def _call_other() -> Any:
    """Call another service, traced by a context of its own."""
    global _other
    if _other is None:
        context = zerorpc.Context()
        context.register_middleware(ZerorpcMiddleware())
        _other = Desk(context)
    return _other.client.token()


def nested(hook: str) -> Callable[..., Any]:
    """Return a hook that calls another service."""

    def called(*args: object) -> Any:
        _call_other()
        return {} if hook == "get_task_context" else None

    return called


def in_span(hook: str) -> Callable[..., Any]:
    """Return a hook with a span of its own."""

    def called(*args: object) -> Any:
        with ztrace.span("hook"):
            return {} if hook == "get_task_context" else None

    return called


def foreign(hook: str) -> Callable[..., Any]:
    """Return a hook that sends another tracer's context."""

    def called(event: Any = None) -> Any:
        if event is not None:
            event.header["traceparent"] = FOREIGN
        return {"traceparent": FOREIGN}

    return called


def mapping(hook: str) -> Callable[..., Any]:
    """Return a hook that puts an exception in the place of a remote one, or of a method's."""

    def called(*args: Any) -> Any:
        if hook == "client_handle_remote_error":
            raise Mapped("raised")
        if hook == "server_inspect_exception":
            args[3][1] = Mapped("replaced")
        elif len(args) == 3 and args[2] is not None:
            raise Mapped("mapped") from args[2]

    return called


def run_order(make: str, hook: str, order: str) -> dict[str, Any]:
    """Run calls of each sort beside another middleware, which is registered first, last or not at all."""
    context = zerorpc.Context()
    seen: list[object] = []
    others = [{hook: globals()[make](hook)}] if order != "none" else []
    if make == "foreign":  # The other tracer's server.
        others += [{"load_task_context": lambda header: seen.append(header.get("traceparent"))}]
    ours = [ZerorpcMiddleware()]
    for middleware in others + ours if order == "first" else ours + others:
        context.register_middleware(middleware)
    desk = Desk(context)
    trees = {
        "call": desk.call("work", 1),
        "error": desk.call("fail"),
        "stream": desk.call("count"),
        "unknown": desk.call("nothing"),
        "message": desk.push(),
    }
    desk.close()
    return {"trees": trees, "seen": seen, "failures": dict(diagnostics.counts)}


def run_patterns(when: str) -> dict[str, Any]:
    """Call methods of each pattern, on a server made before or after the middleware, or with its context."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("ztrace").addHandler(handler)
    context = zerorpc.Context() if when != "at once" else None
    desk = Desk(context, Patterned) if when == "before" else None
    ztrace.instrument("zerorpc")
    desk = desk or Desk(context, Patterned)
    methods = {"plain", "silent", "around", "static", "by_class", "odd", "streamed", "work"}
    trees = {method: desk.call(method, *([1] if method != "streamed" else [])) for method in sorted(methods)}
    trees |= {method: desk.call(method) for method in ("plain_fails", "around_fails")}
    desk.close()
    return {"trees": trees, "told": told, "failures": dict(diagnostics.counts)}


def run_late() -> dict[str, Any]:
    """Use contexts that exist before the middleware is installed, one of them of a subclass."""

    class Special(zerorpc.Context):  # type: ignore[misc]
        pass

    desks = [Desk(context) for context in (zerorpc.Context(), Special(), None)]
    ztrace.instrument("zerorpc")
    trees = [desk.call("work", 1) + desk.push() for desk in desks]
    for desk in desks:
        desk.close()
    return {"trees": trees, "failures": dict(diagnostics.counts)}


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "order": run_order,
    "patterns": run_patterns,
    "late": run_late,
}


def main() -> None:
    """Answer commands until the end of standard input."""
    logging.getLogger("zerorpc").setLevel(logging.CRITICAL)
    spans.publisher = memory  # type: ignore[assignment]
    for line in sys.stdin:
        function, *arguments = json.loads(line)
        print(json.dumps(COMMANDS[function](*arguments)), flush=True)


if __name__ == "__main__":
    main()
