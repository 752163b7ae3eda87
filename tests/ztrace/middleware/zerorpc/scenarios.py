"""Scenarios of callers: each is a function of a `Caller`, run in the driver's process."""

import contextvars
import gc
import os
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import gevent
import zerorpc
import zmq

import ztrace
from ztrace.middleware.zerorpc import ZerorpcMiddleware

if TYPE_CHECKING:
    from tests.ztrace.middleware.zerorpc.driver import Caller


def wait_for(condition: Callable[[], Any]) -> None:
    """Let other greenlets run until the condition is true."""
    with gevent.Timeout(10.0):
        while not condition():
            gevent.sleep(0.01)


def spawn_detached(function: Callable[..., Any], *args: Any) -> Any:
    """Spawn a greenlet that inherits no span, since it has a context already."""
    greenlet = gevent.Greenlet(function, *args)
    greenlet.gr_context = contextvars.Context()
    greenlet.start()
    return greenlet


def ok(caller: "Caller") -> None:
    """Call once, with arguments of every kind."""
    caller.attempt("echo", 1, "zwei", [3.5, None, True], {"a": {"b": b"\0\xff"[:1].decode()}})


def error(caller: "Caller") -> None:
    """Call a method that raises, then another."""
    caller.attempt("fail", "ValueError", "this went wrong")
    caller.attempt("echo", "still here")


def raised_through(caller: "Caller") -> None:
    """Let a remote error end the scenario."""
    caller.call("fail", "ValueError", "not caught")


def unknown_method(caller: "Caller") -> None:
    """Call a method that does not exist."""
    caller.attempt("nothing_like_it")


def timeout(caller: "Caller") -> None:
    """Call with a timeout shorter than the method takes."""
    caller.attempt("slow", 0.3, timeout=0.1)


def gevent_timeout(caller: "Caller") -> None:
    """Interrupt a call by a gevent timeout, then call again."""
    with caller.seeing(), gevent.Timeout(0.1):
        caller.call("slow", 0.3)
    caller.attempt("echo", "after")


def killed_greenlet(caller: "Caller") -> None:
    """Kill the greenlet that waits for an answer."""
    task = gevent.spawn(zerorpc.fork_task_context(caller.call), "slow", 0.3, on=caller.client())
    gevent.sleep(0.1)
    task.kill()
    caller.seen.append(task.successful())


def unpackable_argument(caller: "Caller") -> None:
    """Send an argument that msgpack cannot pack."""
    caller.attempt("echo", object)
    caller.attempt("echo", "after")


def unpackable_reply(caller: "Caller") -> None:
    """Request a result that msgpack cannot pack."""
    caller.attempt("unpackable")


def undecodable_reply(caller: "Caller") -> None:
    """Request a result that the server can pack and the client cannot unpack."""
    caller.attempt("undecodable", timeout=0.3)


def asynchronous(caller: "Caller") -> None:
    """Start two calls and a failing one, then wait for each."""
    started = []
    for method, *args in (("slow", 0.1), ("echo", 1), ("fail", "ValueError", "async")):
        token = caller.next_token()
        entry = caller.journal.entry("client", token, method)
        entry.__enter__()
        started.append((entry, caller.client()(method, token, *args, **{"async": True})))
    for entry, result in started:
        try:
            caller.seen.append(result.get())
        except zerorpc.RemoteError as error:
            caller.seen.append([error.name, error.msg])
            with caller.seeing():
                entry.__exit__(type(error), error, None)
        else:
            entry.__exit__(None, None, None)


def asynchronous_timeout(caller: "Caller") -> None:
    """Start an asynchronous call that exceeds its timeout."""
    token = caller.next_token()
    with caller.seeing(), caller.journal.entry("client", token, "slow"):
        caller.client()("slow", token, 0.3, timeout=0.1, **{"async": True}).get()


def nested(caller: "Caller", *path: Any) -> None:
    """Call through one service per method in the path."""
    caller.attempt(*path)


def through(caller: "Caller", *path: Any) -> None:
    """Call through one service per method in the path, and let an error end the scenario."""
    caller.call(*path)


def twice(caller: "Caller", *path: Any) -> None:
    """Call through one service per method in the path, twice."""
    caller.attempt(*path)
    caller.attempt(*path)


def read_stream(caller: "Caller", *path: Any) -> None:
    """Read a stream through one service per method in the path."""
    method, *args = path
    token = caller.next_token()
    with caller.seeing(), caller.journal.entry("client", token, method):
        for item in caller.client()(method, token, *args):
            caller.seen.append(item)


def call_elsewhere(caller: "Caller", service: str, *path: Any) -> None:
    """Call a service that may disappear."""
    caller.attempt(*path, on=caller.client(service, "brittle"))


def siblings(caller: "Caller") -> None:
    """Call several services, one after the other and within spans."""
    caller.attempt("echo", 1)
    with ztrace.span("inside"):
        caller.attempt("relay", "echo", 2)
        caller.attempt("echo", 3, on=caller.client("back"))
    caller.attempt("relay_twice", "relay", "echo", 4)


def bytes_name(caller: "Caller") -> None:
    """Name methods in bytes, which zerorpc allows."""
    caller.attempt(b"echo", 1)
    caller.attempt("überweisung".encode(), 2)


def exotic_names(caller: "Caller", names: list[str]) -> None:
    """Call methods whose names are no identifiers."""
    for name in names:
        caller.attempt(name, name)


def builtins(caller: "Caller") -> None:
    """Call zerorpc's built-in methods."""
    client = caller.client()
    for call in (client._zerorpc_ping, client._zerorpc_name, client._zerorpc_inspect):
        with caller.seeing():
            caller.seen.append(call())
    with caller.seeing():
        caller.seen.append(client._zerorpc_nothing())


def two_contexts(caller: "Caller") -> None:
    """Call with the scenario's own context and client, then with the shared ones."""
    with zerorpc.Context() as context:
        client = zerorpc.Client(caller.endpoints["front"]["rpc"], context=context, heartbeat=2.0)
        caller.attempt("relay", "echo", 1, on=client)
        client.close()
    caller.attempt("echo", 2)


def forked_tasks(caller: "Caller") -> None:
    """Call from greenlets that inherit the context."""
    tasks = [
        gevent.spawn(zerorpc.fork_task_context(caller.call), "relay", "echo", number, on=caller.client())
        for number in range(3)
    ]
    caller.seen.extend(task.get() for task in tasks)


def spawned_task(caller: "Caller") -> None:
    """Call from a greenlet, with no help of zerorpc's."""
    client = caller.client()
    caller.seen.append(gevent.spawn(caller.call, "relay", "echo", 1, on=client).get())


def queue(caller: "Caller") -> None:
    """Make concurrent calls to a server that runs one at a time."""
    client = caller.client("front", "queue")
    call = zerorpc.fork_task_context(caller.call)
    tasks = [gevent.spawn(call, "slow", 0.1, on=client) for _ in range(3)]
    caller.seen.extend(task.get() for task in tasks)


def short_of_breath(caller: "Caller", method: str, *args: Any) -> None:
    """Call a method that never answers, with a short timeout."""
    caller.attempt(method, *args, timeout=0.3)


def crowd(caller: "Caller", number: int) -> None:
    """Call through three services from many greenlets with one client, each in its own trace."""
    client = caller.client()

    def one(position: int) -> list[Any]:
        token = f"{caller.token}.{position}"
        leaves: list[list[Any]] = [
            ["slow", 0.01 * (position % 7)],
            ["echo", position],
            ["fail", "ValueError", ""],
        ]
        leaf = leaves[position % 3]
        with ztrace.span("scenario", scenario=token) as root:
            try:
                with caller.journal.entry("client", f"{token}.0", "relay_twice"):
                    result = client("relay_twice", f"{token}.0", "relay", *leaf)
            except zerorpc.RemoteError as error:
                result = error.name
        return [token, root.trace_id.hex(), result]

    tasks = [spawn_detached(one, position) for position in range(number)]
    caller.seen.extend(task.get() for task in tasks)


def stream(caller: "Caller") -> None:
    """Read streams to their ends: long, short and empty."""
    for number in (300, 1, 0):
        token = caller.next_token()
        with caller.journal.entry("client", token, "count"):
            caller.seen.append(list(caller.client().count(token, number)))


def stream_with_calls(caller: "Caller") -> None:
    """Read a stream whose items come from another service, with calls in between."""
    token = caller.next_token()
    with caller.journal.entry("client", token, "relay_each"):
        for item in caller.client().relay_each(token, 3, "echo"):
            caller.seen.append(item)
            caller.attempt("echo", "between")


def failing_stream(caller: "Caller") -> None:
    """Read streams that fail at once and after some items."""
    for number in (2, 0):
        token = caller.next_token()
        with caller.seeing(), caller.journal.entry("client", token, "count_and_fail"):
            for item in caller.client().count_and_fail(token, number):
                caller.seen.append(item)


def abandoned_stream(caller: "Caller", how: str) -> None:
    """Stop reading a stream half way."""
    token = caller.next_token()
    with caller.seeing(), caller.journal.entry("client", token, "count"):
        stream = caller.client("front", "brittle").count(token, 1000)
        caller.seen.extend([next(stream), next(stream)])
        if how == "close":
            stream.close()
        elif how == "throw":
            stream.throw(LookupError("enough"))
        else:
            del stream
            gc.collect()


def unread_stream(caller: "Caller", number: int) -> None:
    """Discard a stream unread and close its client, which is what the server notices."""
    token = caller.next_token()
    with caller.journal.entry("client", token, "count"):
        stream = caller.client("front", "brittle").count(token, number)
        del stream
        gc.collect()
    caller.seen.append(number)
    caller.close("front", "brittle")


def stream_from_another_greenlet(caller: "Caller") -> None:
    """Request a stream in one greenlet, and read it in another."""
    token = caller.next_token()
    with caller.journal.entry("client", token, "count"):
        stream = caller.client().count(token, 120)
        caller.seen.append(gevent.spawn(list, stream).get())


def lost_remote(caller: "Caller") -> None:
    """Call a server that blocks for longer than its client's heartbeat allows."""
    caller.attempt("block", 1.0, on=caller.client("front", "brittle"))


def asynchronous_lost_remote(caller: "Caller") -> None:
    """Start a call with a timeout to a server that blocks."""
    token = caller.next_token()
    with caller.seeing(), caller.journal.entry("client", token, "block"):
        client = caller.client("front", "brittle")
        result = client("block", token, 1.5, timeout=1.0, **{"async": True})
        try:
            result.get()
        finally:
            result.wait()


def lost_in_stream(caller: "Caller") -> None:
    """Read a stream of a server that is killed meanwhile."""
    token = caller.next_token()
    with caller.seeing(), caller.journal.entry("client", token, "count_and_die"):
        for item in caller.client("doomed", "brittle").count_and_die(token, 3):
            caller.seen.append(item)


def call_doomed(caller: "Caller") -> None:
    """Call a server that is killed meanwhile."""
    caller.attempt("die", on=caller.client("doomed", "brittle"))


def stopped_server(caller: "Caller") -> None:
    """Call a server that is stopped for a while."""
    caller.attempt("slow", 1.0, on=caller.client("doomed", "brittle"))


def call_nobody(caller: "Caller") -> None:
    """Call an endpoint without a server."""
    caller.attempt("echo", on=caller.client("front", "brittle"))


def call_brittle(caller: "Caller") -> None:
    """Make a call that kills this process."""
    caller.attempt("kill", os.getpid(), on=caller.client("front", "brittle"))


def call_quitter(caller: "Caller") -> None:
    """Call a method that exits its server."""
    caller.attempt("fail", "SystemExit", "", on=caller.client("doomed", "brittle"))


def push(caller: "Caller", calls: list[list[Any]]) -> None:
    """Push messages, which have no answer."""
    pusher = zerorpc.Pusher()
    pusher.connect(caller.endpoints["front"]["pull"])
    for method, *args in calls:
        token = caller.next_token()
        with caller.seeing(), caller.journal.entry("producer", token, method):
            caller.seen.append(pusher(method, token, *[object if arg == "object" else arg for arg in args]))
    wait_for(lambda: pusher._events._send._send_queue.getters)  # Until all messages are sent.
    pusher.close()


def publish(caller: "Caller", calls: list[list[Any]]) -> None:
    """Publish to two subscribers once both have connected."""
    publisher = zerorpc.Publisher()
    for service in ("front", "back"):
        publisher.connect(caller.endpoints[service]["sub"])
    # Messages published before the subscription are lost; they are kept out of the scenario's tree.
    numbers = count()
    wait_for(
        lambda: (
            spawn_detached(publisher, "echo", f"{caller.token}-hello.{next(numbers)}").get()
            or len({entry.service for entry in caller.journal.read(f"{caller.token}-hello")}) == 2
        )
    )
    for method, *args in calls:
        token = caller.next_token()
        with caller.journal.entry("producer", token, method):
            caller.seen.append(publisher(method, token, *args))
    wait_for(lambda: publisher._events._send._send_queue.getters)
    publisher.close()


def header_by_hand(caller: "Caller", header: dict[str, Any], method: str, *args: Any) -> None:
    """Send a header as another tracer, or a broken one, would."""
    with zerorpc.Context() as context:
        context.register_middleware({"get_task_context": lambda: header})
        client = zerorpc.Client(caller.endpoints["front"]["rpc"], context=context, heartbeat=2.0)
        caller.attempt(method, *args, on=client)
        client.close()


def foreign_middleware(caller: "Caller", raising: str, ours: str) -> None:
    """Call a server in this process whose context has a middleware that records its hooks; one may raise."""
    context = zerorpc.Context()
    foreign = Recorder(caller.seen, raising)
    order = {"before": [ZerorpcMiddleware(), foreign], "after": [foreign, ZerorpcMiddleware()]}
    for middleware in order.get(ours, [foreign]):
        context.register_middleware(middleware)
    methods = {"work": lambda: "done", "break": lambda: [][0], "count": zerorpc.stream(lambda: [1, 2])}
    server = zerorpc.Server(methods, context=context, heartbeat=2.0)
    server.bind("tcp://127.0.0.1:0", resolve=False)
    endpoint = server._events._socket.getsockopt_string(zmq.LAST_ENDPOINT)
    client = zerorpc.Client(context=context, timeout=5, heartbeat=2.0)
    with caller.seeing():
        client.connect(f"by-name:{endpoint}")
    if raising == "resolve_endpoint":
        client.connect(endpoint, resolve=False)
    task = gevent.spawn(server.run)
    for method in ("work", "break", "nothing_like_it"):
        never_answers = raising == "server_inspect_exception" and method != "work"
        with caller.seeing():
            caller.seen.append(client(method, **({"timeout": 0.3} if never_answers else {})))
    if raising != "client_patterns_list":  # An unreadable stream would keep the server running.
        with caller.seeing():
            caller.seen.append(list(client.count()))
    client.close()
    task.kill()
    server.close()
    context.destroy(linger=0)


class Mapped(Exception):
    """Exception into which the foreign middleware converts remote errors."""


class Recorder:
    """Middleware that implements every hook, records its calls, and may raise in one of them."""

    def __init__(self, seen: list[Any], raising: str) -> None:
        self._seen = seen
        self._raising = raising

    def _note(self, hook: str, *what: Any) -> None:
        self._seen.append([hook, *what])
        if hook == self._raising:
            raise LookupError(hook)

    def resolve_endpoint(self, endpoint: str) -> str:
        """Resolve an endpoint that only this middleware knows."""
        self._note("resolve_endpoint")
        return endpoint.removeprefix("by-name:")

    def get_task_context(self) -> dict[str, str]:
        """Return the middleware's own header."""
        self._note("get_task_context")
        return {"mine": "sent"}

    def load_task_context(self, header: dict[str, Any]) -> None:
        """Record the middleware's own header as received."""
        self._note("load_task_context", header.get("mine"), header.get("late"))

    def server_before_exec(self, request: Any) -> None:
        """Record the request as received."""
        self._note("server_before_exec", request.name, request.header.get("mine"))

    def server_after_exec(self, request: Any, reply: Any) -> None:
        """Add a header to the reply."""
        reply.header["back"] = "from after_exec"
        self._note("server_after_exec", request.name, reply.name)

    def server_inspect_exception(self, request: Any, reply: Any, context: Any, exc_info: Any) -> None:
        """Add a header to the error reply."""
        reply.header["back"] = "from inspect_exception"
        self._note("server_inspect_exception", request.name, context.get("mine"), exc_info[0].__name__)

    def client_handle_remote_error(self, event: Any) -> Exception:
        """Convert a remote error into another exception."""
        self._note("client_handle_remote_error", event.args[0])
        return Mapped(event.args[1])

    def client_before_request(self, request: Any) -> None:
        """Add a header to the request."""
        request.header["late"] = "added"
        self._note("client_before_request", request.name, request.header.get("mine"))

    def client_after_request(self, request: Any, reply: Any, exception: Any = None) -> None:
        """Record the reply or exception."""
        back = reply.header.get("back") if reply is not None else None
        self._note("client_after_request", request.name, back, type(exception).__name__)

    def client_patterns_list(self, patterns: list[Any]) -> list[Any]:
        """Return the patterns unchanged."""
        self._note("client_patterns_list")
        return patterns


def late(caller: "Caller") -> None:
    """Instrument after a context and a connected client exist and have been used."""
    client = caller.client()
    caller.seen.append(client("echo", f"{caller.token}-untraced.0"))
    ztrace.instrument("zerorpc")
    caller.attempt("relay", "echo", 1)


def by_hand(caller: "Caller", times: int) -> None:
    """Register the middleware by hand with one context, several times, and call with this context."""
    middleware = ZerorpcMiddleware()
    with zerorpc.Context() as context:
        for _ in range(times):
            context.register_middleware(middleware)
        context.register_middleware(ZerorpcMiddleware())
        client = zerorpc.Client(caller.endpoints["front"]["rpc"], context=context, heartbeat=2.0)
        caller.attempt("relay", "echo", 1, on=client)
        caller.attempt("fail", "ValueError", "once", on=client)
        client.close()


def by_hand_and_not(caller: "Caller", times: int) -> None:
    """Call with a registered context and with an unregistered one."""
    by_hand(caller, times)
    caller.seen.append(caller.client()("echo", f"{caller.token}-untraced.0"))


def without_context(caller: "Caller") -> None:
    """Call from a process that is not instrumented."""
    caller.seen.append(caller.client()("relay", f"{caller.token}-untraced.0", "echo", 1))
    with caller.seeing():
        caller.client()("fail", f"{caller.token}-untraced.1", "ValueError", "as ever")
