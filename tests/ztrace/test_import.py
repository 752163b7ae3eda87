"""Side effects of importing the agent, directions of imports, and contents of the wheel."""

import ast
from pathlib import Path

import pytest

import ztrace
from tests.ztrace.programs import ROOT, run_program


def test_the_public_names() -> None:
    """The documented names, and no others, are public and have docstrings."""
    assert sorted(ztrace.__all__) == [
        "Context",
        "Span",
        "SpanContext",
        "configure",
        "current_span",
        "extract",
        "flush",
        "inject",
        "instrument",
        "shutdown",
        "span",
        "trace",
    ]
    for name in ztrace.__all__:
        assert getattr(ztrace, name).__doc__, name


@pytest.mark.process
def test_importing_does_nothing() -> None:
    """Importing ztrace loads no ZeroMQ, starts no thread, adds no exit handler and prints nothing."""
    done = run_program(
        "import sys, threading, _thread, atexit\n"
        "before, handlers = set(sys.modules), atexit._ncallbacks()\n"
        "import ztrace\n"
        "assert 'ztrace.spans' in sys.modules\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names & {'zmq', 'zerorpc', 'gevent', 'opentelemetry', 'ztrace_collector',\n"
        "                      'ztrace_viewer'}))\n"
        "print(threading.active_count(), _thread._count(), atexit._ncallbacks() - handlers)\n"
    )
    assert (done.stdout, done.stderr) == ("[]\n1 0 0\n", "")


@pytest.mark.process
def test_configuring_starts_no_thread_before_the_first_span() -> None:
    """A process that has ended no span has no publisher thread."""
    done = run_program(
        "import _thread, ztrace\n"
        "ztrace.configure('quiet', 'tcp://127.0.0.1:9')\n"
        "with ztrace.span('open'):\n"
        "    print(_thread._count())\n"
        "    ztrace.shutdown()\n"
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.process
def test_disabled_zeromq_is_not_imported() -> None:
    """A process with tracing disabled does not import ZeroMQ."""
    done = run_program(
        "import sys, ztrace\nztrace.configure()\nprint('zmq' in sys.modules)\n", ZTRACE_DISABLED="1"
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("ztrace", {"ztrace_collector", "ztrace_viewer", "collector", "viewer", "sqlite3", "click", "rich"}),
        ("collector/ztrace_collector", {"ztrace_viewer", "collector", "viewer", "click", "rich"}),
        ("viewer/ztrace_viewer", {"collector", "viewer"}),
    ],
)
def test_imports_run_one_way(folder: str, forbidden: set[str]) -> None:
    """Imports run from viewer to collector to agent only, including imports within functions."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    wrong = [
        f"{path}: {name}" for path in paths for name in imported(path) if name.partition(".")[0] in forbidden
    ]
    assert wrong == []


def imported(path: Path) -> list[str]:
    """Return the modules that a file imports, including those imported within functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.append(node.module or "")
    return names
