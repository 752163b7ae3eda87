"""The middleware of the page on writing one, in all combinations of traced and untraced peers."""

from pathlib import Path

import pytest

from tests.docs import pages
from tests.ztrace.middleware.combining import run_combinations
from tests.ztrace.receiving import Receiver
from ztrace.records import KIND_NUMBERS, ExceptionRecord

pytestmark = pytest.mark.process

PAGE = "how-to/write-a-middleware.md"

START = """
sys.path.insert(0, {folder!r})
import jsonlines
if "ZTRACE_ENDPOINT" in os.environ:
    import trace_jsonlines
    trace_jsonlines.install()
"""

SERVER = """
import pathlib, threading
class Service:
    def double(self, value):
        return value * 2
    def fail(self, word):
        raise ValueError(word)
    def stop(self):
        threading.Thread(target=server.shutdown).start()
server = jsonlines.Server("127.0.0.1", 0, Service())
pathlib.Path(sys.argv[1]).write_text(str(server.server_address[1]))
print("ready", flush=True)
server.serve_forever()
server.server_close()
"""

CLIENT = """
import pathlib, traceback
client = jsonlines.Client("127.0.0.1", int(pathlib.Path(sys.argv[1]).read_text()))
print(client.call("double", 4), client.call("double", "ab"))
for method in ("fail", "nothing"):
    try:
        client.call(method, "no funds")
    except jsonlines.RemoteError:
        print(traceback.format_exc())
print(client.call("stop"))
client.file.close()
"""


def test_the_middleware(receiver: Receiver, tmp_path: Path) -> None:
    """The page's middleware joins both ends, and a program prints the same whichever end is traced."""
    library, middleware, _ = pages.blocks(pages.read(PAGE), "python")
    (tmp_path / "jsonlines.py").write_text(library)
    (tmp_path / "trace_jsonlines.py").write_text(middleware)
    start = START.format(folder=str(tmp_path))
    printed = run_combinations(start + SERVER, start + CLIENT, receiver, f"{tmp_path}/port")
    assert len(set(printed.values())) == 1
    spans = {span.span_id: span for span in receiver.spans}
    kinds = {name: [s for s in spans.values() if s.kind == n] for name, n in KIND_NUMBERS.items()}
    assert len(kinds["client"]) == len(kinds["server"]) == 2 * 5
    joined = [span for span in kinds["server"] if span.parent_id in spans]
    assert [span.name for span in joined] == ["double", "double", "fail", "nothing", "stop"]
    callers = [spans[span.parent_id or b""] for span in joined]
    assert all((span.self_ns or 0) < (span.duration_ns or 0) for span in callers)
    for served, caller in zip(joined[2:4], callers[2:4], strict=True):
        origins = [ExceptionRecord(*span.exception or ()).origin_span_id for span in (served, caller)]
        assert origins == [served.span_id] * 2
