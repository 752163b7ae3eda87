"""Trees through every installed OpenTelemetry instrumentation, and origins in HTTP responses."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import pytest

from tests.ztrace.middleware.zerorpc.fleet import Child, Collected
from tests.ztrace.otel.entry_points import register
from tests.ztrace.otel.test_mixed_tree import line_up
from tests.ztrace.waiting import wait_for
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.way import read_error

pytestmark = pytest.mark.process

TREE = [
    ("internal", "shopper", "buy"),
    ("client", "shopper", "GET"),
    ("server", "web", "GET /{path}"),
    ("client", "web", "find"),
    ("server", "stock", "find"),
    ("client", "stock", "SELECT"),
]


@dataclass(frozen=True)
class Shopped:
    """Stored trees of an order and of a refused one, and the collector."""

    order: TreeDocument
    refused: TreeDocument
    collected: Collected


@pytest.fixture(scope="module")
def shopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shopped]:
    """Run the processes of the chain, and yield the two trees."""
    folder = tmp_path_factory.mktemp("instrumented")
    collected = Collected(folder)
    errors = folder / "errors.txt"
    if find_spec("opentelemetry.instrumentation.sqlite3") is None:
        register(folder, "sqlite3", "tests.ztrace.otel.instrumented:SQLite3Instrumentor")
    with ExitStack() as stack:
        upstream = ""
        for role in ("stock", "web", "shopper"):
            command = ["-m", "tests.ztrace.otel.instrumented", role, upstream]
            environment = {"ZTRACE_ENDPOINT": collected.endpoint, "PYTHONPATH": str(folder)}
            child = stack.enter_context(Child(errors, *command, **environment))
            upstream = child.hear()
        trees = []
        for path, outcome in (("/order", "3"), ("/refuse", "500")):
            child.say(path)
            trace_id, said = child.hear().split()
            assert said == outcome
            wait_for(partial(lambda trace_id: collected.count_spans(trace_id) >= len(TREE), trace_id))
            trees.append(collected.tree(trace_id))
    assert [line for line in errors.read_text().splitlines() if "ztrace:" in line] == []
    yield Shopped(trees[0], trees[1], collected)
    collected.stop()


def tree_of(path: str) -> list[tuple[str, str, str]]:
    """Return the tree of a path's request."""
    return [(kind, service, name.format(path=path)) for kind, service, name in TREE]


def in_line(spans: list[SpanDocument]) -> list[SpanDocument]:
    """Return the spans of a tree without branches, root first."""
    found = []
    while spans:
        (span,) = spans
        found.append(span)
        spans = span["children"]
    return found


def test_it_is_one_whole_tree(shopped: Shopped) -> None:
    """Requests, WSGI, zerorpc and sqlite3 are one tree, in one file."""
    assert (shopped.order["complete"], shopped.order["missing"]) == (True, [])
    assert line_up(shopped.order["roots"]) == tree_of("order")


def test_the_origin_is_at_the_deepest(shopped: Shopped) -> None:
    """An exception in the database driver has its one origin there, through zerorpc and back over HTTP."""
    chain = in_line(shopped.refused["roots"])
    assert [(span["kind"], span["service"], span["name"]) for span in chain] == tree_of("refuse")
    told = [
        None if span["exception"] is None else (span["exception"]["type"], span["exception"]["origin"])
        for span in chain
    ]
    assert told == [
        ("requests.exceptions.HTTPError", False),
        ("HTTP 500", False),
        None,
        ("zerorpc.exceptions.RemoteError", False),
        ("sqlite3.OperationalError", False),
        ("sqlite3.OperationalError", True),
    ]
    origins = {span["exception"]["origin_span_id"] for span in chain if span["exception"] is not None}
    assert origins == {chain[-1]["span_id"]}
    with open_file(shopped.collected.path) as db:
        (group,) = list_groups(db)["groups"]
        error = read_error(db, group["group"])
    assert (group["count"], group["service"], group["name"]) == (1, "stock", "SELECT")
    assert [hop["name"] for hop in error["hops"]] == ["buy", "GET", "GET /refuse", "find", "find", "SELECT"]


def test_the_origin_has_the_line_of_the_program(shopped: Shopped) -> None:
    """The record at the origin shows the program's statement, and the spans above only what is theirs."""
    exceptions = [span["exception"] for span in in_line(shopped.refused["roots"])]
    origin, passed = exceptions[-1], exceptions[-2]
    assert origin is not None
    assert passed is not None
    lines = [frame["code"] for frame in origin["frames"] if frame["in_app"]]
    assert lines[-1] == "return int(db.cursor().execute(QUERIES[path]).fetchone()[0])"
    assert [frame["function"] for frame in passed["frames"] if frame["in_app"]] == ["Stock.find"]
