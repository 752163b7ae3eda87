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
        "carry",
        "configure",
        "current_span",
        "extract",
        "flush",
        "inject",
        "install_log_record_factory",
        "instrument",
        "logging_filter",
        "shutdown",
        "span",
        "trace",
    ]
    for name in ztrace.__all__:
        assert getattr(ztrace, name).__doc__, name


@pytest.mark.process
def test_the_agent_does_not_import_the_rpc() -> None:
    """A traced process has no part of `ztrace.rpc`, which itself needs pyzmq and msgpack alone."""
    done = run_program(
        "import sys, ztrace\n"
        "ztrace.configure('shop', 'tcp://127.0.0.1:9')\n"
        "ztrace.instrument()\n"
        "with ztrace.span('charge'):\n"
        "    pass\n"
        "ztrace.shutdown()\n"
        "print([name for name in sys.modules if name.startswith('ztrace.rpc')])\n"
        "from importlib.metadata import packages_distributions\n"
        "before = set(sys.modules)\n"
        "from ztrace import rpc\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(names & packages_distributions().keys()))\n",
        expect=0,
        ZTRACE_SPOOL="off",
    )
    assert done.stdout.splitlines()[0] == "[]"
    assert set(ast.literal_eval(done.stdout.splitlines()[1])) <= {"ztrace", "zmq", "msgpack"}


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
def test_configuring_starts_no_thread_before_the_first_span(tmp_path: Path) -> None:
    """A process that has started no span has no publisher thread, and no file in its spool."""
    done = run_program(
        "import _thread, os, ztrace, zmq\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "ztrace.configure('quiet', 'tcp://127.0.0.1:9')\n"
        "open_span = ztrace.span('open')\n"
        "print(_thread._count(), len(os.listdir('/proc/self/fd')) - before)\n"
        "print(os.path.exists(os.environ['ZTRACE_SPOOL']))\n"
        "with open_span:\n"
        "    print(len(os.listdir('/proc/self/task')) > 1)\n"
        "    ztrace.shutdown()\n",
        ZTRACE_SPOOL=str(tmp_path / "spool"),
    )
    assert (done.stdout, done.stderr) == ("0 0\nFalse\nTrue\n", "")


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
    if folder == "ztrace":  # Jobs of the RPC may be kept in SQLite; the agent has no part of it.
        paths = [path for path in paths if "ztrace/rpc/queueing" not in str(path)]
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
