"""The ``ztrace`` command as a process: pipes, signals, terminals, missing extras and imports."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.viewer.stored import checkout, raised, span, store, trace_id

pytestmark = pytest.mark.process

#: Console script, independent of its installed location.
MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
#: Deadline of a process on a busy machine.
DEADLINE_S = 60
#: Modules that take long to import, which no question about a database needs.
HEAVY = (
    *("sqlite_utils", "opentelemetry", "google", "mpmath", "starlette", "uvicorn", "h11", "requests"),
    *("zerorpc", "gevent", "rpyc", "zmq", "msgpack", "asyncio", "difflib", "subprocess", "ssl"),
)
FIRST = trace_id(1).hex()[:16]


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with changes, and without variables that control colour."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    return {**kept, "PYTHONWARNINGS": "error", **changes}


def ztrace(*arguments: object, main: str = MAIN, **changes: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-c", main, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=environment(**changes),
        check=False,
    )


@contextmanager
def started(*arguments: object) -> "Iterator[subprocess.Popen[str]]":
    """Start a command; it is killed at the end unless it has exited."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def without(*modules: str) -> str:
    """Return a main program without these modules installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({modules!r})); {MAIN}"


def on_terminal(*arguments: object, columns: int = 100, **changes: str) -> str:
    """Run a command on a terminal; return its output."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        stdout=follower,
        env=environment(TERM="xterm-256color", COLUMNS=str(columns), **changes),
    )
    os.close(follower)
    written = b""
    deadline_s = time.monotonic() + DEADLINE_S
    with process:
        while time.monotonic() < deadline_s and select.select([leader], [], [], DEADLINE_S)[0]:
            try:
                part = os.read(leader, 65536)
            except OSError:  # The other end is closed.
                break
            written += part
        assert process.wait(DEADLINE_S) == 0
    os.close(leader)
    return written.decode()


@pytest.mark.parametrize(
    ("module", "arguments", "install"),
    [
        ("click", ("--help",), "ztrace[all]"),
        ("rich", ("slow",), "ztrace[all]"),
        ("sqlite_utils", ("collect",), "ztrace[collector]"),
        ("sqlite_utils", ("up",), "ztrace[collector]"),
        ("pyarrow", ("export", "--format", "parquet"), "ztrace[parquet]"),
    ],
)
def test_a_missing_extra_is_named(shop: Path, module: str, arguments: tuple[str, ...], install: str) -> None:
    """A missing extra is reported in one line with the pip command, and exit status 2."""
    named = () if arguments[0].startswith("-") else ("--db", shop)
    result = ztrace(*arguments, *named, main=without(module))
    assert result.returncode == 2
    assert result.stderr == f"ztrace: {module} is not installed; pip install '{install}'\n"
    assert result.stdout == ""


def test_a_demo_without_zerorpc_says_what_to_install(tmp_path: Path) -> None:
    """The demo reports missing zerorpc before it starts anything."""
    hidden = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: n != 'zerorpc' and f(n); "
    result = ztrace("demo", "--db", tmp_path / "demo.db", main=hidden + MAIN)
    assert result.returncode == 2
    assert result.stderr == "ztrace: zerorpc is not installed; pip install 'ztrace[demo]'\n"
    assert list(tmp_path.iterdir()) == []


def test_queries_in_json_need_neither_rich_nor_the_collectors_extra(shop: Path) -> None:
    """Queries with --json need only the standard library and click."""
    result = ztrace("slow", "--json", "--db", shop, main=without("rich", "sqlite_utils"))
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["traces"]) == 2


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (("--help",), ("rich", "sqlite3", "zmq", "ztrace", "ztrace_collector", *HEAVY)),
        (("slow",), HEAVY),
        (("find", "charge"), HEAVY),
        (("map",), HEAVY),
        (("show", FIRST), HEAVY),
        (("stats", "--json"), ("rich", *HEAVY)),
    ],
)
def test_what_is_not_needed_is_not_imported(
    shop: Path, arguments: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    """Each command imports only the modules it needs."""
    tell = f"{MAIN.replace('sys.exit(main())', 'main()')}; print('\\n', *sys.modules, file=sys.stderr)"
    result = ztrace(*arguments, main=tell, ZTRACE_DB=str(shop))
    imported = set(result.stderr.split())
    assert "click" in imported
    assert not imported & set(unwanted)


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    """A closed pipe ends a command quietly, during long output and before short output."""
    path = tmp_path / "wide.db"
    trace = trace_id(1)
    store(path, {"shop": [span(trace, 1)] + [span(trace, n, 1, name=f"call{n}") for n in range(2, 8000)]})
    for arguments in (("show", FIRST, "--limit", "0"), ("show", FIRST, "--json"), ("slow",), ("--help",)):
        named = () if arguments[0].startswith("-") else ("--db", path)
        with started(*arguments, *named) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(10) if arguments[0] == "show" else None
            process.stdout.close()
            assert process.stderr.read() == ""
            assert process.wait(DEADLINE_S) == 0


def test_a_full_disk_is_told(shop: Path) -> None:
    """A full disk is reported in one line, with exit status 2."""
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", MAIN, "slow", "--db", str(shop)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            timeout=DEADLINE_S,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr.startswith("ztrace: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(shop: Path, encoding: str) -> None:
    """Characters that the output encoding lacks are replaced by plainer ones."""
    result = subprocess.run(
        [sys.executable, "-c", MAIN, "show", FIRST, "--db", str(shop)],
        capture_output=True,
        env=environment(PYTHONIOENCODING=encoding),
        timeout=DEADLINE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode(encoding)
    assert ("├╴shop → load" if encoding == "utf-8" else "|-shop > load") in text
    assert "?" not in text


def test_the_terminal_gets_colour_and_a_next_command(shop: Path) -> None:
    """A terminal gets colour, unless NO_COLOR is set, and a next command; a pipe gets neither."""
    shown = on_terminal("slow", "--db", shop)
    assert re.search("\x1b\\[[0-9;]*3[0-9]", shown)
    assert f"next: ztrace show {FIRST} --db {shop}"[:60] in re.sub("\x1b\\[[0-9;]*m|\r", "", shown).replace(
        "\n", ""
    )
    plain = on_terminal("slow", "--db", shop, NO_COLOR="1")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", plain)
    piped = ztrace("slow", "--db", shop).stdout
    assert "\x1b" not in piped
    assert "next:" not in piped


def test_tail_follows_until_it_is_interrupted(tmp_path: Path) -> None:
    """`tail` prints each line at once, and exits quietly with status 0 on Ctrl-C."""
    path = store(tmp_path / "shop.db", checkout(trace_id(1)))
    with started("tail", "--db", path, "--since", "2020-01-01") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "ZeroDivisionError" in process.stdout.readline()
        assert "shop.checkout" in process.stdout.readline()
        store(path, {"bank": [span(trace_id(2), 2, name="pay", exception=raised("ValueError", "no"))]})
        assert "ValueError" in process.stdout.readline()
        assert "bank.pay" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_tail_follows_a_file_that_is_replaced(tmp_path: Path) -> None:
    """`tail` reads a deleted file to its end, waits for the name, and follows the new file from its start."""
    path = store(tmp_path / "shop.db", checkout(trace_id(1)))
    with started("tail", "--db", path, "--since", "2020-01-01") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "ZeroDivisionError" in process.stdout.readline()
        assert "shop.checkout" in process.stdout.readline()
        for beside in tmp_path.iterdir():
            beside.unlink()
        assert process.stderr.readline() == f"ztrace: there is no database {path}; waiting for it\n"
        path.write_bytes(b"not yet")
        path.unlink()
        store(path, {"bank": [span(trace_id(2), 2, name="pay")]})
        assert "bank.pay" in process.stdout.readline()
        other = store(tmp_path / "other.db", {"bank": [span(trace_id(3), 3, name="refund")]})
        other.replace(path)
        assert "bank.refund" in process.stdout.readline()
        store(path, {"bank": [span(trace_id(4), 4, name="again")]})
        assert "bank.again" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


@pytest.mark.usefixtures("_hears_hangup")
@pytest.mark.parametrize("name", ["up", "collect"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_collector_runs_until_it_is_stopped(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """The collector runs until SIGINT, SIGTERM or SIGHUP, leaves its database, and exits with status 0."""
    path = tmp_path / "ztrace.db"
    more = ["--otlp-listen", "off", "--web-listen", "127.0.0.1:0"] if name == "up" else []
    with started(name, "--bind", "tcp://127.0.0.1:*", "--db", path, *more) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert re.match(r"ztrace: collecting at tcp://127\.0\.0\.1:\d+ into ", line)
        if name == "up":
            assert "http://127.0.0.1:" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""
    assert ztrace("status", "--db", path).returncode == 0


def test_nothing_found_and_wrong_input_are_exit_statuses(shop: Path) -> None:
    """The process exits with status 1 for no result and 2 for wrong input."""
    assert ztrace("slow", "--db", shop, "--service", "bank").returncode == 1
    assert ztrace("slow", "--db", shop, "--limit", "none").returncode == 2
    assert ztrace("slow", "--db", "/nowhere/at/all.db").returncode == 2
    assert ztrace().returncode in (0, 2)
