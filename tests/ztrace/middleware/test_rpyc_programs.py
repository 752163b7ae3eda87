"""rpyc between programs, of which both, one or none is traced."""

from pathlib import Path

import pytest

from tests.ztrace.middleware.combining import run_combinations
from tests.ztrace.receiving import Receiver
from ztrace.records import KIND_NUMBERS, ExceptionRecord

pytestmark = pytest.mark.process

SERVER = """
import rpyc
from rpyc.utils.server import ThreadedServer

class OwnError(Exception):
    pass

class Service(rpyc.Service):
    def exposed_echo(self, *values):
        return values
    def exposed_fail(self, word):
        raise ValueError(word)
    def exposed_fail_own(self):
        raise OwnError("own", 5)
    def exposed_stop_iteration(self):
        raise StopIteration
    def exposed_call(self, function, value):
        return function(value)
    def exposed_count(self, end):
        yield from range(end)
        raise KeyError("end")
    exposed_table = {"a": [1, 2]}
    def on_disconnect(self, connection):
        server.close()

server = ThreadedServer(Service, socket_path=sys.argv[1])
print("ready", flush=True)
server.start()
"""

CLIENT = """
import traceback
import rpyc
from rpyc.utils.factory import unix_connect

def attempt(name, function, *arguments):
    try:
        print(name, function(*arguments))
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        print(name, type(error).__name__, error.args, sorted(vars(error)))
        # The lines of this program, and of the server's; addresses and lines within rpyc vary.
        print([line for line in text.splitlines() if "<string>" in line or "Error" in line])
        print("ztrace/middleware" in text)

def double(value):
    return value * 2

def fail(value):
    raise KeyError(value)

connection = unix_connect(sys.argv[1])
root = connection.root
attempt("echo", root.echo, 1, "two", b"3")
attempt("netref", lambda: root.echo(root)[0] == root)
attempt("fail", root.fail, "word")
attempt("own", root.fail_own)
attempt("call", root.call, double, 4)
attempt("call", root.call, fail, 4)
attempt("count", lambda: [value for value in root.count(3)])
attempt("nothing", lambda: root.nothing)
attempt("table", lambda: root.table["a"][1])
attempt("missing", lambda: root.table["b"])
attempt("async", lambda: rpyc.async_(root.echo)(5).value)
attempt("async", lambda: rpyc.async_(root.fail)("later").value)
try:
    root.stop_iteration()
except StopIteration:
    print("StopIteration")
connection.close()
"""


def test_combinations(receiver: Receiver, tmp_path: Path) -> None:
    """A program prints the same whichever side is traced, and calls are joined where both are."""
    printed = run_combinations(SERVER, CLIENT, receiver, f"{tmp_path}/")
    assert len(set(printed.values())) == 1
    assert "True" not in printed[False, False].replace("netref True", "")
    spans = {span.span_id: span for span in receiver.spans}
    kinds = {name: [s for s in spans.values() if s.kind == n] for name, n in KIND_NUMBERS.items()}
    joined = [span for span in kinds["server"] if span.parent_id in spans]
    assert len(joined) * 2 == len(kinds["server"]) == len(kinds["client"])
    names = {(span.name, spans[span.parent_id or b""].name) for span in joined}
    # Of a function that the caller has passed, the server knows the type alone.
    assert {called for served, called in names if served != called} == {"function"}
    failed = [span for span in kinds["client"] if span.name == "fail_own"]
    both, alone = sorted((ExceptionRecord(*span.exception or ()) for span in failed), key=lambda e: e.how)
    # Where only the client is traced, its span is the origin, under the server's own class.
    assert both.type == alone.type == "__main__.OwnError"
    assert both.message == alone.message == "('own', 5)"
    attributes = [span.attributes or {} for span in failed]
    texts = [each["rpyc.remote_traceback"] for each in attributes if "rpyc.remote_traceback" in each]
    assert len(texts) == 1
    assert "exposed_fail_own" in texts[0]
