"""One tree over five processes that use OpenTelemetry, ztrace or both."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collector.otlp.receivers import tapping
from tests.collector.otlp.sending_on import sending_on
from tests.ports import find_port
from tests.ztrace.middleware.zerorpc.fleet import Child
from tests.ztrace.waiting import wait_for
from ztrace_viewer.documents.trees import SpanDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree

pytestmark = pytest.mark.process

#: Roles in the order of starting: each one calls the one before.
CHAIN = ("stock", "goods", "orders", "web", "shopper")
TREE = [
    ("internal", "shopper", "buy"),
    ("client", "shopper", "GET"),
    ("server", "web", "GET /order"),
    ("client", "web", "order"),
    ("server", "orders", "order"),
    ("client", "orders", "reserve"),
    ("server", "goods", "reserve"),
    ("client", "goods", "GET"),
    ("server", "stock", "GET /level"),
]
PURCHASES = 3
#: Expected origin flag of each span's exception, None without one: HTTP status 500 is no exception.
FAILED = [
    ("shopper", "buy", None),
    ("shopper", "GET", None),
    ("web", "GET /refuse", False),
    ("web", "refuse", False),
    ("orders", "refuse", False),
    ("orders", "refuse", False),
    ("goods", "refuse", True),
]


def line_up(spans: list[SpanDocument]) -> list[tuple[str, str, str]]:
    """Return the kind, service and name of each span of a tree without branches, root first."""
    found = []
    while spans:
        (span,) = spans
        assert span["status"] == "ok"
        assert span["self_ns"] is not None
        assert 0 <= span["self_ns"] <= (span["duration_ns"] or 0)
        found.append((span["kind"], span["service"], span["name"]))
        spans = span["children"]
    return found


def parents_of(path: Path, trace: str) -> set[tuple[bytes, bytes]]:
    """Return the stored span ids of a trace, each with its parent's."""
    query = "SELECT span_id, parent_id FROM spans WHERE trace_id = ?"
    with open_file(path) as db:
        return {(row[0], row[1] or b"") for row in db.db.execute(query, (bytes.fromhex(trace),))}


@contextmanager
def shopping(path: Path, way: str, *options: str) -> Iterator[Child]:
    """Run a collector and the five processes; yield the shopper, and assert that none reports a failure."""
    errors, url = path.parent / "errors.txt", f"http://127.0.0.1:{find_port()}"
    listen = ("--otlp-listen", url.removeprefix("http://"))
    with sending_on(path, *listen, *options) as collector, ExitStack() as stack:
        upstream = ""
        for role in CHAIN:
            command = ["-W", "error", "-m", "tests.ztrace.otel.mixed", role, way, url, upstream]
            child = stack.enter_context(Child(errors, *command, ZTRACE_ENDPOINT=collector.endpoint))
            upstream = child.hear()
        yield child
    said = errors.read_text().splitlines()
    assert [line for line in said if "ztrace:" in line or "Warning" in line] == []


@dataclass(frozen=True)
class Shopped:
    """What a run of the five processes has left.

    Attributes:
        path: the database.
        orders: the traces of purchases, as hex.
        refused: the trace of a purchase that was refused.
        sent: the spans sent on.
    """

    path: Path
    orders: list[str]
    refused: str
    sent: list[Span]


@pytest.fixture(scope="module", params=["ztrace", "otlp"])
def shopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shopped:
    """Run the five processes, and return what they have left."""
    path = tmp_path_factory.mktemp("mixed") / "traces.db"
    with (
        tapping() as tap,
        shopping(path, request.param, "--otlp", tap.url) as shopper,
    ):
        orders = []
        for _ in range(PURCHASES):
            shopper.say("/order")
            orders.append(shopper.hear())
        # zerorpc reports missed events and late heartbeats where the machine is busy, traced or not.
        errors = (path.parent / "errors.txt").read_text().splitlines()
        theirs = ("gevent_zeromq BUG", "zerorpc.ChannelMultiplexer, unable to route event")
        assert [line for line in errors if not any(each in line for each in theirs)] == []
        shopper.say("/refuse")
        refused = shopper.hear()
        wait_for(lambda: all(len(parents_of(path, trace)) == len(TREE) for trace in orders))
        wait_for(lambda: len(parents_of(path, refused)) == len(FAILED))
        wait_for(lambda: len(tap.spans) >= PURCHASES * len(TREE) + len(FAILED))
    return Shopped(path, orders, refused, tap.spans)


def test_it_is_whole_in_the_file_and_where_it_is_sent_on(shopped: Shopped) -> None:
    """The mixed tree is complete in the database, and is sent on by OTLP with the same parents."""
    for trace in shopped.orders:
        with open_file(shopped.path) as db:
            tree = read_tree(db, bytes.fromhex(trace))
        assert (tree["complete"], tree["missing"], tree["error_count"]) == (True, [], 0)
        assert line_up(tree["roots"]) == TREE
        sent = [span for span in shopped.sent if span.trace_id.hex() == trace]
        assert len(sent) == len(TREE)
        assert {(span.span_id, span.parent_span_id) for span in sent} == parents_of(shopped.path, trace)


def test_an_exception_has_one_origin(shopped: Shopped) -> None:
    """An exception raised in goods has one origin, through two zerorpc calls to the HTTP request's span."""
    with open_file(shopped.path) as db:
        spans = read_tree(db, bytes.fromhex(shopped.refused))["roots"]
    found = []
    origins = set()
    while spans:
        (span,) = spans
        exception = span["exception"]
        found.append((span["service"], span["name"], None if exception is None else exception["origin"]))
        if exception is not None:
            origins.add(exception["origin_span_id"])
        last, spans = span["span_id"], span["children"]
    assert found == FAILED
    assert origins == {last}
