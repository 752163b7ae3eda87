"""Examples of the tutorial and the how-to pages, run as printed."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.docs import pages
from tests.ztrace.waiting import wait_for
from ztrace_collector.refusals import HANDSHAKE_FAILED
from ztrace_viewer.documents.trees import SpanDocument, TreeDocument
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.status import read_status
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import read_error

pytestmark = pytest.mark.process

#: Console script, independent of its installed location.
ZTRACE = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60

_T = TypeVar("_T")


class Bench:
    """Folder with the files of a page, and the processes that run in it.

    Attributes:
        database: the collector's database.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.database = folder / "ztrace.db"
        self._folder = folder
        self._stack = stack
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
        self._environment = {**kept, "COLUMNS": "96"}

    def save(self, names: list[str], page: str) -> None:
        """Save the page's first blocks of Python under these names, with free ports."""
        texts = pages.blocks(pages.read(page), "python")[: len(names)]
        ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", "".join(texts))))
        with ExitStack() as stack:
            for port in ports:
                taken = stack.enter_context(socket.socket())
                taken.bind(("127.0.0.1", 0))
                free = f"127.0.0.1:{taken.getsockname()[1]}"
                texts = [text.replace(f"127.0.0.1:{port}", free) for text in texts]
        for name, text in zip(names, texts, strict=True):
            (self._folder / name).write_text(text)

    def collect(self) -> None:
        """Start a collector, to which all later processes send."""
        up = ["up", "--bind", "tcp://127.0.0.1:0", "--otlp-listen", "127.0.0.1:0", "--no-web"]
        process = self._start("-c", ZTRACE, *up, "--db", str(self.database))
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"collecting at (\S+) into .*, OTLP at (http://[\d.:]+);", line)
        assert found is not None, line
        self._environment["ZTRACE_ENDPOINT"] = found[1]
        self._environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = found[2]

    def serve(self, name: str) -> "subprocess.Popen[str]":
        """Run a file until the test ends, or ends it."""
        return self._start(name)

    def run(self, *arguments: str) -> list[str]:
        """Run a file to its end; return its lines of output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=True,
        )
        return done.stdout.splitlines()

    def read(self, name: str) -> str:
        """Return the text of a file that a process has written."""
        return (self._folder / name).read_text()

    def ask(self, *arguments: str) -> list[str]:
        """Run a ztrace command; return its lines of output."""
        return self.run("-c", ZTRACE, *arguments, "--db", str(self.database))

    def wait_for_spans(self, number: int) -> None:
        """Wait until this number of spans is stored."""

        def stored() -> bool:
            with open_file(self.database) as db:
                status = read_status(db, time.time_ns())
            assert status["rejected"].keys() <= {HANDSHAKE_FAILED}  # Clients of other tests.
            return status["spans_stored"] >= number

        wait_for(stored)

    def trees(self) -> list[TreeDocument]:
        """Return the call trees, slowest first."""
        with open_file(self.database) as db:
            found = list_slowest(db)["traces"]
            return [read_tree(db, bytes.fromhex(trace["trace_id"])) for trace in found]

    def _start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self._folder,
                env=self._environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        self._stack.callback(process.kill)
        return process


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Yield a bench; its processes are killed at the end."""
    with ExitStack() as stack:
        yield Bench(folder, stack)


def outline(spans: list[SpanDocument], depth: int = 0) -> list[str]:
    """Return a tree as lines: depth, kind, service, name, status."""
    return [
        line
        for span in spans
        for line in (
            f"{'  ' * depth}{span['kind']} {span['service']}.{span['name']} {span['status']}",
            *outline(span["children"], depth + 1),
        )
    ]


def printed(page: str, command: str) -> list[str]:
    """Return a page's output below the first line that starts with a command."""
    for block in pages.blocks(pages.read(page), "console"):
        _, found, after = block.partition(f"$ {command}")
        if found:
            return after.split("\n$ ")[0].splitlines()[1:]
    raise AssertionError(f"{page} has no {command}")


def labels(lines: list[str]) -> list[str]:
    """Return the calls of a drawn tree, without times, bars and tracebacks."""
    drawn = lines[[line.startswith("CALL ") for line in lines].index(True) + 1 :]
    calls = [re.match(r"((?:[│ ] )*(?:[├└]╴)?[\w →.✗]+?) +\d[\d.]*[nµm]?s ", line) for line in drawn]
    return [call[1] for call in calls if call is not None]


def types_at_hops(bench: Bench, group: str) -> list[tuple[str, str | None, str | None]]:
    """Return the service, exception and path of each hop, from the caller to the origin."""
    with open_file(bench.database) as db:
        hops = read_error(db, group)["hops"]
    return [(hop["service"], hop["type"], hop["how"]) for hop in hops]


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Run the tutorial up to its customer."""
    page = "tutorial.md"
    with bench(tmp_path_factory.mktemp("tutorial")) as running:
        running.save(["stock.py", "shop.py", "customer.py"], page)
        running.collect()
        running.serve("stock.py")
        running.serve("shop.py")
        assert running.run("customer.py") == printed(page, "python customer.py")
        running.wait_for_spans(13)
        yield running


def with_supplier_first(trees: list[TreeDocument]) -> list[TreeDocument]:
    """Sort trees: on a busy machine another than the supplier's may be the slowest."""
    return sorted(trees, key=lambda tree: "ask supplier" not in " ".join(outline(tree["roots"])))


def test_trees_of_the_tutorial(tutorial: Bench) -> None:
    """The tutorial leaves one slow tree with the supplier, a failed one and two equal ones, all complete."""
    call = ["server shop.order ok", "  client shop.reserve ok", "    server stock.reserve ok"]
    supplied, *others = with_supplier_first(tutorial.trees())
    assert outline(supplied["roots"]) == [*call, "      internal stock.ask supplier ok"]
    assert (supplied["duration_ns"] or 0) > 400_000_000
    failed = [line.replace(" ok", " error") for line in call]
    assert sorted(outline(tree["roots"]) for tree in others) == sorted([call, call, failed])
    assert all(tree["complete"] for tree in (supplied, *others))


def test_pictures_of_the_tutorial(tutorial: Bench) -> None:
    """``show`` and ``error`` draw the output on the page, except ids, times and paths."""
    supplied = with_supplier_first(tutorial.trees())[0]["trace_id"]
    assert labels(tutorial.ask("show", supplied)) == labels(printed("tutorial.md", "ztrace show"))
    with open_file(tutorial.database) as db:
        (group,) = list_groups(db)["groups"]
    assert types_at_hops(tutorial, group["group"]) == [
        ("shop", "__main__.OutOfStock", "wrapped"),
        ("shop", "zerorpc.exceptions.RemoteError", "passed"),
        ("stock", "KeyError", "raised"),
    ]
    drawn, shown = tutorial.ask("error", group["group"]), printed("tutorial.md", "ztrace error ")
    way, page_way = (
        [re.sub(r"pid .*\)|/[\w/.-]*/", "", line) for line in lines[lines.index("", 5) :]]
        for lines in (drawn, shown)
    )
    assert way == page_way
    assert drawn[0] == shown[0]


def test_the_log_of_the_tutorial(tutorial: Bench) -> None:
    """The line logged by the failed order names the failed tree and the span that logged it."""
    (failed,) = (tree for tree in tutorial.trees() if tree["error_count"])
    ids = f"trace={failed['trace_id']} span={failed['roots'][0]['span_id']}"
    line = tutorial.read("shop.log").splitlines()[0]
    assert line == f"no piano today {ids}"
    (shown,) = printed("tutorial.md", "grep piano")
    assert re.sub("[0-9a-f]{16,}", "…", shown) == re.sub("[0-9a-f]{16,}", "…", line)


def test_lists_of_the_tutorial(tutorial: Bench) -> None:
    """``slow``, ``errors``, ``stats`` and ``status`` have the columns and rows on the page."""
    for command in ("slow", "errors", "stats", "status"):
        drawn, shown = tutorial.ask(command), printed("tutorial.md", f"ztrace {command}")
        heads = [line.split() for line in shown if line.isupper()]
        assert heads == [line.split() for line in drawn if line.isupper()], command
        assert len(drawn) == len(shown), command
    assert printed("tutorial.md", "ztrace status")[:4] == tutorial.ask("status")[:4]


def test_the_example_with_opentelemetry(tmp_path: Path) -> None:
    """Spans of both tracers in one process are one tree, drawn as on the page."""
    page = "how-to/use-with-opentelemetry.md"
    with bench(tmp_path) as running:
        running.save(["instrumented.py", "stock.py", "shop.py"], page)
        running.collect()
        running.serve("stock.py")
        assert running.run("shop.py") == printed(page, "python shop.py")
        running.wait_for_spans(5)
        (tree,) = running.trees()
        assert outline(tree["roots"]) == [
            "internal shop.checkout ok",
            "  client shop.reserve ok",
            "    server stock.reserve ok",
            "  internal shop.pack ok",
            "    internal shop.print label ok",
        ]
        assert tree["complete"]
        assert labels(running.ask("show", tree["trace_id"])) == labels(printed(page, "ztrace show"))


def test_the_example_of_propagation(tmp_path: Path) -> None:
    """A call over raw ZeroMQ is one tree over two processes, drawn as on the page."""
    page = "how-to/propagate-context.md"
    with bench(tmp_path) as running:
        running.save(["adder.py", "ask.py"], page)
        running.collect()
        running.serve("adder.py")
        lines = running.run("ask.py")
        running.wait_for_spans(5)
        (tree,) = running.trees()
        assert lines == printed(page, "python ask.py")
        assert outline(tree["roots"]) == [
            "internal ask.main ok",
            "  client ask.add ok",
            "    server adder.add ok",
            "  client ask.add error",
            "    server adder.add error",
        ]
        assert tree["complete"]
        assert labels(running.ask("show", tree["trace_id"])) == labels(printed(page, "ztrace show"))


def test_the_example_of_opentelemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's spans are a complete tree with its exception, stored once the program has ended."""
    page = "how-to/receive-opentelemetry.md"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")
    with bench(tmp_path) as running:
        running.save(["checkout.py"], page)
        running.collect()
        assert running.run("checkout.py") == printed(page, "python checkout.py")
        (tree,) = running.trees()
        assert outline(tree["roots"]) == [
            "server checkout.checkout ok",
            "  internal checkout.reserve ok",
            "  internal checkout.charge error",
        ]
        assert tree["complete"]
        (failed,) = [span for span in tree["roots"][0]["children"] if span["exception"] is not None]
        assert failed["exception"] is not None
        assert (failed["name"], failed["exception"]["type"]) == ("charge", "ValueError")
