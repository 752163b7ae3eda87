"""Raw ZeroMQ between programs, of which both, one or none is traced."""

from pathlib import Path

import pytest

from tests.ztrace.middleware.combining import run_combinations
from tests.ztrace.middleware.messaging import KINDS
from tests.ztrace.programs import run_program
from tests.ztrace.receiving import Receiver

pytestmark = pytest.mark.process

#: Serves REQ and DEALER by REP and ROUTER, PUSH by PULL, publishes what it pulls, all in one thread each; the
#: same by asyncio and by gevent.
SERVER = """
import asyncio, threading
import gevent, zmq, zmq.asyncio, zmq.green

def answer(message):
    if message == b"bad":
        raise ValueError("no such word")
    return b"[" + message + b"]"

def serve(context, kind, name):
    socket = context.socket(kind)
    socket.bind(sys.argv[1] + name)
    while True:
        *envelope, message = socket.recv_multipart()
        try:
            socket.send_multipart([*envelope, answer(message)])
        except ValueError as error:
            socket.send_multipart([*envelope, str(error).encode()])
        if message == b"stop":
            break
    socket.close()

def relay(context):
    pull, pub = context.socket(zmq.PULL), context.socket(zmq.PUB)
    pull.bind(sys.argv[1] + "pull")
    pub.bind(sys.argv[1] + "pub")
    message = b""
    while message != b"stop":
        message = pull.recv()
        pub.send_multipart([b"topic", message])
    pull.close()
    pub.close()

async def serve_async():
    with zmq.asyncio.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(sys.argv[1] + "async")
        message = b""
        while message != b"stop":
            message = await socket.recv()
            try:
                await socket.send(answer(message))
            except ValueError as error:
                await socket.send_string(str(error))

context = zmq.Context()
threads = [
    threading.Thread(target=serve, args=(context, zmq.REP, "rep")),
    threading.Thread(target=serve, args=(context, zmq.ROUTER, "router")),
    threading.Thread(target=relay, args=(context,)),
    threading.Thread(target=asyncio.run, args=(serve_async(),)),
]
for thread in threads:
    thread.start()
print("ready", flush=True)
with zmq.green.Context() as green:
    gevent.spawn(serve, green, zmq.REP, "green").join()
for thread in threads:
    thread.join()
context.term()
"""

CLIENT = """
import asyncio
import gevent, zmq, zmq.asyncio, zmq.green

WORDS = (b"a", b"bad", b"c", b"stop")

def ask(context, kind, name):
    with context.socket(kind) as socket:
        socket.connect(sys.argv[1] + name)
        for word in WORDS:
            socket.send_multipart([b"more", word] if name == "rep" else [word])
            print(name, socket.recv_multipart())

async def ask_async():
    with zmq.asyncio.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(sys.argv[1] + "async")
        for word in WORDS:
            await socket.send(word)
            print("async", await socket.recv_string())

context = zmq.Context()
ask(context, zmq.REQ, "rep")
ask(context, zmq.DEALER, "router")
asyncio.run(ask_async())
with zmq.green.Context() as green:
    gevent.spawn(ask, green, zmq.REQ, "green").join()
sub, push = context.socket(zmq.SUB), context.socket(zmq.PUSH)
sub.connect(sys.argv[1] + "pub")
sub.subscribe(b"")
push.connect(sys.argv[1] + "pull")
while not sub.poll(20):  # Until the subscription has arrived.
    push.send(b"hello")
push.send(b"last")
push.send(b"stop")
message = [b"topic", b"hello"]
while message[1] == b"hello":
    message = sub.recv_multipart()
print(message, sub.recv_multipart())
sub.close()
push.close()
context.term()
"""


def test_combinations(receiver: Receiver, tmp_path: Path) -> None:
    """A program prints the same whichever side is traced, and calls are joined where both are."""
    printed = run_combinations(SERVER, CLIENT, receiver, f"ipc://{tmp_path}/")
    assert len(set(printed.values())) == 1
    assert printed[False, False].count("no such word") == 4
    spans = {span.span_id: span for span in receiver.spans}
    clients = [span for span in spans.values() if KINDS[span.kind] == "client"]
    servers = [span for span in spans.values() if KINDS[span.kind] == "server"]
    joined = [spans[span.parent_id] for span in servers if span.parent_id in spans]
    # Four requests each by REQ, asyncio and gevent: in two combinations of which one is traced on both sides.
    assert len(clients) == len(servers) == 2 * 12
    assert len(joined) == 9
    assert all(span in clients for span in joined)
    assert [span.status for span in servers].count(1) == 2 * 3
    assert sum("zeromq.unjoined" in (span.attributes or {}) for span in clients) == 24 - 9


#: All patterns between two sockets of one loop or hub; replies where the pattern has them.
PATTERNS = """
import asyncio, sys
import zmq
import ztrace
ztrace.instrument()
ztrace.configure(service="one")
flavour, folder = sys.argv[1:]
PAIRS = {
    "request": (zmq.REP, zmq.REQ),
    "routed": (zmq.ROUTER, zmq.REQ),
    "message": (zmq.ROUTER, zmq.DEALER),
    "task": (zmq.PULL, zmq.PUSH),
    "news": (zmq.SUB, zmq.PUB),
}

async def exchange(context, wait):
    for name, (bound, connected) in PAIRS.items():
        server, client = context.socket(bound), context.socket(connected)
        server.bind(f"ipc://{folder}/{name}")
        client.connect(f"ipc://{folder}/{name}")
        if bound == zmq.SUB:
            server.subscribe(b"")
            while not await wait(server.poll(20)):  # Until the subscription has arrived.
                await wait(client.send(b"hello"))
            while await wait(server.poll(20)):
                await wait(server.recv())
        ztrace.carry(client, name=name)
        await wait(client.send_multipart([name.encode(), b"content"]))
        message = await wait(server.recv_multipart())
        with ztrace.span(f"work {name}"):
            print(message[-2:])
        if bound in (zmq.REP, zmq.ROUTER):
            await wait(server.send_multipart([*message, b"answer"]))
            print(await wait(client.recv_multipart()))
        client.close()
        server.close()

if flavour == "asyncio":
    import zmq.asyncio
    async def wait(future):
        return await future
    with zmq.asyncio.Context() as context:
        asyncio.run(exchange(context, wait))
else:
    import gevent, zmq.green
    async def wait(result):
        return result
    def run(context):
        try:
            exchange(context, wait).send(None)
        except StopIteration:
            pass
    with (zmq.green if flavour == "green" else zmq).Context() as context:
        gevent.spawn(run, context).get()
ztrace.flush()
"""


@pytest.mark.parametrize("flavour", ["plain", "asyncio", "green"])
def test_every_pattern_is_joined(receiver: Receiver, tmp_path: Path, flavour: str) -> None:
    """Calls and messages of each pattern are joined, by plain sockets, asyncio's and gevent's."""
    done = run_program(PATTERNS, flavour, str(tmp_path), ZTRACE_ENDPOINT=receiver.endpoint)
    assert done.stderr == ""
    expected = []
    for topic in (b"request", b"routed", b"message", b"task", b"news"):
        expected.append([topic, b"content"])
        if topic in (b"request", b"routed", b"message"):
            expected.append([topic, b"content", b"answer"])
    assert done.stdout.splitlines() == [str(frames) for frames in expected]
    spans = {span.span_id: span for span in receiver.spans}
    for name, kinds in (
        ("request", ("server", "client")),
        ("routed", ("server", "client")),
        ("message", ("consumer", "producer")),
        ("task", ("consumer", "producer")),
        ("news", ("consumer", "producer")),
    ):
        (work,) = (span for span in spans.values() if span.name == f"work {name}")
        received = spans[work.parent_id or b""]
        sent = spans[received.parent_id or b""]
        assert [(span.name, KINDS[span.kind]) for span in (received, sent)] == [
            (name, kind) for kind in kinds
        ]


def test_sockets_of_other_libraries_have_no_spans(receiver: Receiver, tmp_path: Path) -> None:
    """zerorpc's sockets, and those that send ztrace's own spans, are left as they are."""
    code = """
import sys, gevent, zerorpc, zmq, ztrace
ztrace.instrument()
ztrace.configure(service="one")
class Service:
    def echo(self, value):
        return value
server, client = zerorpc.Server(Service()), zerorpc.Client()
server.bind(sys.argv[1])
serving = gevent.spawn(server.run)
client.connect(sys.argv[1])
print(client.echo(1))
client.close()
server.stop()
serving.join()
server.close()
ztrace.flush()
"""
    done = run_program(code, f"ipc://{tmp_path}/zerorpc", ZTRACE_ENDPOINT=receiver.endpoint)
    assert done.stdout == "1\n"
    assert {(span.attributes or {})["rpc.system.name"] for span in receiver.spans} == {"zerorpc"}


def test_forked_children_leave_sockets_alone(receiver: Receiver, tmp_path: Path) -> None:
    """A child that frees its parent's sockets, or closes them, ends, and the parent's calls go on."""
    code = """
import gc, os, sys, threading, zmq, ztrace
ztrace.instrument()
ztrace.configure(service="one")
context = zmq.Context()
rep, req = context.socket(zmq.REP), context.socket(zmq.REQ)
rep.bind(sys.argv[1])
req.connect(sys.argv[1])
def call():
    req.send(b"a")
    rep.send(rep.recv())
    return req.recv()
print(call(), call())
for close in (True, False):
    child = os.fork()
    if not child:
        if close:
            rep.close()
            req.close()
        del rep, req, context
        gc.collect()
        sys.exit(0)
    print(os.waitpid(child, 0)[1], call())
req.close()
rep.close()
context.term()
ztrace.flush()
"""
    done = run_program(code, f"ipc://{tmp_path}/forked", ZTRACE_ENDPOINT=receiver.endpoint)
    assert done.stdout.splitlines() == ["b'a' b'a'", "0 b'a'", "0 b'a'"]
    assert [KINDS[span.kind] for span in receiver.spans].count("client") == 4
