"""Export and import of trees, errors and groups, of real services too, without a difference."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.collector.otlp.requests import put_in_order, send_all, take_in
from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, SECOND, checkout, raised, span, store, trace_id
from ztrace import records
from ztrace_viewer.documents.errors import ErrorDocument, ErrorsDocument
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.selection import EVERYTHING
from ztrace_viewer.queries.stores.conditions import NEWEST, Filter
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.queries.way import read_error

pytestmark = pytest.mark.process

#: Console script that runs the demo with real zerorpc services.
DEMO = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
DEADLINE_S = 90
#: Number of trees made here; the others are the demo's.
MADE_TREES = 7


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with the demo's trees, an exception group, open spans and OpenTelemetry's spans."""
    path = tmp_path_factory.mktemp("everything") / "everything.db"
    subprocess.run(
        [sys.executable, "-c", DEMO, "demo", "--seconds", "1", "--db", str(path)],
        check=True,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    store(path, checkout(trace_id(1), NOON), at_ns=NOON + 5 * SECOND)
    member = raised("shop.StockError", "no desk", causes=[raised("KeyError", "'desk'")])
    group = raised("ExceptionGroup", "2 of 3")._replace(members=[list(member), list(member)], notes=["note"])
    caused = raised("shop.OrderError", "no order", causes=[member])
    failing = [span(trace_id(2), 1, exception=group), span(trace_id(2), 2, exception=caused)]
    store(path, {"shop": failing}, at_ns=NOON + 5 * SECOND)
    message = {"messaging.system": "zerorpc"}
    sent = [span(trace_id(5), 1, kind="producer", name="order", attributes=message)]
    got = [span(trace_id(5), 2, 1, kind="consumer", name="order", start_ms=2, attributes=message)]
    store(path, {"shop": sent, "mail": got}, at_ns=NOON + 5 * SECOND)
    opened = [
        span(trace_id(3), 1, kind="internal", duration_ms=None, attributes={"n": 1, "raw": b"\xff"}),
        span(trace_id(3), 2, 1, start_ms=1, duration_ms=30),
        span(trace_id(4), 1, kind="consumer", duration_ms=None),
    ]
    store(path, {"shop": opened}, at_ns=NOON + 5 * SECOND)
    take_in(path, make_foreign())
    return path


def make_foreign() -> ExportTraceServiceRequest:
    """Return spans of OpenTelemetry's SDK with every kind of data."""
    exporter = InMemorySpanExporter()
    resource = Resource(
        {"service.name": "web", "host.name": "box", "process.command_args": ["run", "--fast"]}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("web.requests", "1.2", "https://example.org/schema", {"async": True})
    values: dict[str, Any] = {
        "int": 1,
        "double": 1.0,
        "nan": float("nan"),
        "ints": [1, 2],
        "error": True,
        "event": "x",
    }
    with tracer.start_as_current_span("job", kind=SpanKind.PRODUCER) as job:
        job.set_attributes(values)
        job.add_event("event of its own", {"event": "taken", "sizes": [0.5]}, timestamp=NOON + 7)
    link = Link(job.get_span_context(), {"why": "because"})
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER, links=[link]) as request:
        request.set_status(Status(StatusCode.OK))
        with pytest.raises(ZeroDivisionError), tracer.start_as_current_span("divide"):
            print(1 // 0)
    provider.shutdown()
    return encode_spans(exporter.get_finished_spans())


def read_trees(path: Path) -> Iterator[TreeDocument]:
    """Yield the document of ``show --json`` for every trace."""
    with open_file(path) as db:
        ids = db.db.execute(
            "SELECT trace_id FROM traces UNION SELECT trace_id FROM unfinished_spans ORDER BY trace_id"
        ).fetchall()
        for (found,) in ids:
            yield read_tree(db, found)


def read_errors(path: Path) -> tuple[ErrorsDocument, list[ErrorDocument]]:
    """Return the documents of ``errors --json``, and of ``error --json`` for each group."""
    with open_file(path) as db:
        listed = list_groups(db, EVERYTHING, 1000, Filter(None, None, True), NEWEST, NOON)
        return listed, [read_error(db, group["group"]) for group in listed["groups"]]


@pytest.mark.parametrize("name", ["otlp.jsonl", "jaeger.json", "packed.jsonl.gz"])
def test_everything_comes_home(everything: Path, tmp_path: Path, run: Run, name: str) -> None:
    """Trees, errors, groups and OTLP output are equal in the original and the imported database."""
    file, home = tmp_path / name, tmp_path / "home.db"
    format_name = "jaeger" if name == "jaeger.json" else "otlp"
    told = run("export", "--db", everything, "--unfinished", "--format", format_name, "--output", file)
    assert told.exit_code == 0, told.stderr
    told = run("import", file, "--db", home)
    assert told.exit_code == 0, told.stderr
    trees = list(read_trees(everything))
    assert len(trees) > MADE_TREES
    assert list(read_trees(home)) == trees
    assert read_errors(home) == read_errors(everything)
    assert put_in_order(send_all(home)) == put_in_order(send_all(everything))


def test_what_was_looked_for_is_there(everything: Path) -> None:
    """The exported database has messages, causes, members, open spans, links and events."""
    with closing(sqlite3.connect(everything)) as db:

        def count(query: str) -> int:
            ((found,),) = db.execute(f"SELECT count(*) FROM {query}").fetchall()
            return int(found)

        assert count("spans JOIN methods ON methods.id = method WHERE kind = 'consumer'") > 0
        assert count(f"exceptions WHERE how = '{records.PASSED}'") > 0
        assert count("exceptions WHERE causes != '[]'") > 0
        assert count("exceptions WHERE members != '[]'") > 0
        assert count("unfinished_spans") >= 2
        assert count("spans WHERE links IS NOT NULL AND details LIKE '%because%'") == 1
        assert count("spans WHERE details LIKE '%event of its own%'") == 1


def test_importing_twice_stores_once(everything: Path, tmp_path: Path, run: Run) -> None:
    """A second import stores nothing, even in the other format."""
    otlp, jaeger, home = tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "home.db"
    run("export", "--db", everything, "--unfinished", "-o", otlp)
    run("export", "--db", everything, "--unfinished", "-o", jaeger, "--format", "jaeger")
    run("import", otlp, "--db", home)
    trees = list(read_trees(home))
    with open_file(home) as db:
        ((spans,),) = db.db.execute(
            "SELECT (SELECT count(*) FROM spans) + (SELECT count(*) FROM unfinished_spans)"
        ).fetchall()
    told = run("import", otlp, jaeger, "--db", home)
    assert told.stdout.splitlines() == [
        f"imported 0 spans into {home}; 0 new trees",
        f"{2 * spans:,} spans already stored",
    ]
    assert list(read_trees(home)) == trees
