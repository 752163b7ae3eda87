"""``ztrace rpc`` against servers of ztrace and of zerorpc."""

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

import ztrace
from tests.viewer.commands.test_process import MAIN
from tests.viewer.conftest import Run
from tests.ztrace.rpc.services import FREE, Billing, answering
from tests.ztrace.rpc.test_zerorpc import serving as serving_zerorpc
from ztrace import rpc
from ztrace_viewer.cli import run as run_line
from ztrace_viewer.commands.rpc import asking, measuring, tracing

#: Deadline of a process on a busy machine.
DEADLINE_S = 60
#: Address at which nothing listens.
NOBODY = "ipc:///nowhere/nobody"


@pytest.fixture(scope="module")
def billing() -> Iterator[str]:
    """Yield the address of a server of ztrace."""
    with rpc.Server(Billing, FREE, name="billing") as server:
        yield server.endpoints[0]


@pytest.fixture(scope="module")
def former() -> Iterator[str]:
    """Yield the address of a server of zerorpc as on a Python before 3.11: it describes parameters."""
    with serving_zerorpc("inspecting") as address:
        yield address


@pytest.fixture(scope="module")
def mute() -> Iterator[str]:
    """Yield the address of a server of zerorpc on this Python, which fails to describe itself."""
    with serving_zerorpc() as address:
        yield address


def test_inspect_lists_methods(run: Run, billing: str) -> None:
    """`inspect` prints each method's signature and the first line of its docstring."""
    lines = run("rpc", "inspect", billing).stdout.splitlines()
    assert lines[0].split() == ["billing", billing, "ztrace.rpc", "1", "7", "methods"]
    at = lines.index("charge(card: str, amount: int = 1) -> str")
    assert lines[at + 1] == "    Charge a card."
    assert "count(number: int) -> collections.abc.Iterator[int]  stream" in lines
    assert "class Billing(typing.Protocol):" in run("rpc", "inspect", billing, "--stub").stdout
    document = json.loads(run("rpc", "inspect", billing, "--openrpc").stdout)
    assert len(document["methods"]) == 7
    one = run("rpc", "inspect", billing, "charge").stdout
    assert one == "charge(card: str, amount: int = 1) -> str\n    Charge a card.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("charge", "visa"), "visa:1\n"),
        (("charge", "visa", "amount=2"), "visa:2\n"),
        (("charge", "--", "amount=2"), "amount=2:1\n"),
        (("charge", "--args", '{"card": "visa", "amount": 3}'), "visa:3\n"),
        (("charge", "visa", "--json"), '"visa:1"\n'),
        (("echo", "-5"), "-5\n"),
        (("echo", '[1, {"a": null}]'), '[1, {"a": null}]\n'),
        (("echo", "null"), "null\n"),
        (("echo", "--", "--help"), "--help\n"),
        (("count", "3"), "0\n1\n2\n"),
        (("tail", "0"), ""),
    ],
)
def test_call_prints_results(run: Run, billing: str, words: tuple[str, ...], told: str) -> None:
    """`call` takes words as arguments, and prints the result or the items of a stream."""
    result = run("rpc", "call", billing, *words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, told, "")


def test_a_failing_call_prints_the_remote_traceback(run: Run, billing: str) -> None:
    """A call whose method raises prints the remote traceback and a line, with exit status 1."""
    result = run("rpc", "call", billing, "refuse")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "raise refused from error" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(
        "ztrace: refuse raised tests.ztrace.rpc.services.Refused:"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("call", "chrge", "visa"), 1, "billing has no method 'chrge'; did you mean charge?"),
        (("call", "xyzzy"), 1, "billing has no method 'xyzzy'; see 'ztrace rpc inspect"),
        (("inspect", "chrge"), 1, "billing has no method 'chrge'; did you mean charge?"),
        (
            ("call", "charge"),
            2,
            "charge: missing a required argument: 'card'; it is charge(card: str",
        ),
        (("call", "charge", "a", "1", "2"), 2, "charge: too many positional arguments; it is charge("),
        (("call", "charge", "x", "--args", "[]"), 2, "--args excludes other arguments"),
        (("call", "echo", "1" * 30), 2, "the arguments of echo cannot be sent: an integer beyond 64 bits"),
        (("inspect", "--stub", "--openrpc"), 2, "--openrpc and --stub exclude each other"),
        (("call", "wait", "--timeout", "0.5"), 1, "wait: no answer in time"),
        (("bench", "refuse", "--seconds", "0.1"), 1, "failed, the first with"),
    ],
)
def test_what_cannot_be_called_is_one_line(
    capsys: pytest.CaptureFixture[str], billing: str, arguments: tuple[str, ...], status: int, told: str
) -> None:
    """Unknown methods and wrong arguments are told on one line, with the nearest name or the signature."""
    name, *words = arguments
    assert run_line(["rpc", name, billing, *words]) == status
    said = capsys.readouterr().err
    assert told in said
    assert said.startswith("ztrace: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["inspect", "call", "ping", "repl", "bench"])
def test_nobody_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An address where nothing answers, or that is none, is told on one line with exit status 2."""
    monkeypatch.setattr(asking, "CONNECT_S", 0.1)
    words = ["charge"] if name in ("call", "bench") else []
    assert run_line(["rpc", name, NOBODY, *words]) == 2
    assert capsys.readouterr().err == (
        f"ztrace: no server answers at '{NOBODY}';"
        " start one with 'ztrace rpc serve'; one with keys needs --key\n"
    )
    for address in ("nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "http://127.0.0.1:1"):
        assert run_line(["rpc", name, address, *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"ztrace: '{address}' is not an address; write tcp://")
        assert said.count("\n") == 1


def test_a_server_with_keys_takes_calls_with_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server with keys answers to a key of its folder, by option or variable, and to nobody else."""
    assert run("keys", "init", "--keys", tmp_path).exit_code == 0
    key = run("keys", "add", "shell", "--keys", tmp_path).stdout.strip()
    with rpc.Server(Billing, FREE, keys=tmp_path) as server:
        address = server.endpoints[0]
        assert run("rpc", "call", address, "charge", "visa", "--key", key).stdout == "visa:1\n"
        assert run("rpc", "ping", address, "--key", key, "--count", 1).exit_code == 0
        with monkeypatch.context() as patch:
            patch.setattr(asking, "CONNECT_S", 0.2)
            assert run_line(["rpc", "inspect", address]) == 2
        assert "one with keys needs --key" in capsys.readouterr().err
        monkeypatch.setenv("ZTRACE_RPC_KEY", key)
        assert "charge(card: str" in run("rpc", "inspect", address).stdout
        assert run_line(["rpc", "ping", address, "--key", "damaged"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_ping_and_bench_measure(run: Run, billing: str) -> None:
    """`ping` prints round trips, and `bench` calls a second with quantiles."""
    assert run("rpc", "ping", billing, "--count", 1).stdout.startswith(f"billing from {billing}: ")
    first, second, third = run(
        "rpc", "bench", billing, "charge", "visa", "amount=2", "--callers", 4, "--seconds", 0.1
    ).stdout.splitlines()
    assert "4 at once" in first
    assert second.split()[::2] == ["p50", "p95", "p99"]
    assert "CPU" in third
    assert run("rpc", "bench", billing, "count", 3, "--seconds", 0.1).exit_code == 0


def test_bench_makes_a_call_however_busy_the_machine_is(
    run: Run, billing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement whose time is over before its first call makes one."""
    clocks = {"process_time": time.process_time, "perf_counter_ns": time.perf_counter_ns}
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=count(step=60).__next__, **clocks))
    told = run("rpc", "bench", billing, "twice", "x", "--seconds", 0.1)
    assert told.stdout.startswith("1 calls in "), told.output


def repl(monkeypatch: pytest.MonkeyPatch, address: str, text: str) -> int:
    """Run a session whose lines come from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return run_line(["rpc", "repl", address])


def test_a_session_reads_lines(
    billing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`repl` runs each line until quit, and goes on after errors."""
    lines = ["charge 'visa gold' amount=2", "", "chrge", "refuse", "charge 'x", "charge", "count 2"]
    lines += ["help charge", "echo -- amount=1", "quit", "charge after"]
    assert repl(monkeypatch, billing, "\n".join(lines)) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "visa gold:2",
        "0",
        "1",
        "charge(card: str, amount: int = 1) -> str",
        "    Charge a card.",
        "amount=1",
    ]
    assert [line for line in told.err.splitlines() if line.startswith("ztrace: ")] == [
        "ztrace: billing has no method 'chrge'; did you mean charge?",
        "ztrace: refuse raised tests.ztrace.rpc.services.Refused: ('no card', 3)",
        "ztrace: No closing quotation; quote whole words",
        "ztrace: charge: missing a required argument: 'card';"
        " it is charge(card: str, amount: int = 1) -> str",
    ]


def test_methods_are_completed(
    billing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell completes the commands, and the methods of the server on the line."""
    for line, offered in (("ztrace rpc b", ["bench"]), (f"ztrace rpc call {billing} c", ["charge", "count"])):
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        monkeypatch.setenv("_ZTRACE_COMPLETE", "bash_complete")
        assert run_line([]) == 0
        assert [each.partition(",")[2] for each in capsys.readouterr().out.splitlines()] == offered


@pytest.mark.process
def test_a_former_server_is_called_with_keywords(run: Run, former: str) -> None:
    """A server of zerorpc that describes parameters is called by their names, and says no types."""
    assert "charge(card, amount=1)" in run("rpc", "inspect", former).stdout
    assert run("rpc", "call", former, "charge", "visa", "amount=2").stdout == "visa:2\n"
    assert run("rpc", "call", former, "count", "3").stdout == "0\n1\n2\n"
    result = run("rpc", "call", former, "charge")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it is charge(card, amount=1)" in result.stderr


@pytest.mark.process
def test_a_server_that_cannot_describe_itself_is_called(run: Run, mute: str) -> None:
    """A server of zerorpc under a newer Python lists its methods with docstrings, and takes any arguments."""
    told = run("rpc", "inspect", mute).stdout
    assert "charge(…)\n    Charge a card." in told
    assert "  zerorpc  4 methods" in told
    assert run("rpc", "call", mute, "charge", "visa", "2").stdout == "visa:2\n"
    assert run("rpc", "call", mute, "chrge").stderr.endswith("did you mean charge?\n")
    failed = run("rpc", "call", mute, "fail")
    assert failed.exit_code == 1
    assert "ztrace: fail raised KeyError: 'visa'" in failed.stderr
    assert run("rpc", "ping", mute, "--count", 1).exit_code == 0
    assert "*args: typing.Any" in run("rpc", "inspect", mute, "--stub").stdout


def test_a_server_that_ignores_unknown_names_is_called(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without an answer to ztrace's question, as of zerorpc-node, is described by zerorpc's."""
    monkeypatch.setattr(asking, "_OWN_S", 0.05)
    described = {"name": "node", "methods": {"add": {"args": [{"name": "a"}, {"name": "b"}], "doc": ""}}}
    answers = {"_zerorpc_inspect": described, "add": 3}
    with answering(lambda name, args: answers.get(name)) as address:
        assert "add(a, b)" in run("rpc", "inspect", address).stdout
        assert run("rpc", "call", address, "add", "1", "2").stdout == "3\n"


@contextmanager
def started(folder: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a command in a folder, and kill it at the end unless it has exited."""
    path = os.pathsep.join(each for each in sys.path if each)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", MAIN, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def serving(folder: Path, *arguments: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    """Start `ztrace rpc serve` in a folder."""
    return started(folder, "rpc", "serve", *arguments, "--bind", FREE)


def read_address(process: "subprocess.Popen[str]") -> str:
    """Return the address that a server prints at its start."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert " at tcp://" in line, line
    return line.split(" at ")[1].split(": ")[0]


@pytest.mark.process
def test_serve_prints_what_it_serves_and_stops(run: Run, tmp_path: Path) -> None:
    """`serve` finds a module of the current folder, prints its methods, and exits with 0 after SIGTERM."""
    (tmp_path / "shop.py").write_text(
        "from os import system\n\n\ndef price(article):\n    return len(article)\n"
    )
    with serving(tmp_path, "shop") as process:
        address = read_address(process)
        assert run("rpc", "call", address, "price", "lamp").stdout == "4\n"
        assert "system" not in run("rpc", "inspect", address).stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize(("endpoint", "services"), [("", []), ("ipc:///nowhere/nobody", ["time"])])
def test_an_empty_endpoint_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch, endpoint: str, services: list[str]
) -> None:
    """`serve` without a collector traces its calls if ZTRACE_ENDPOINT names one, and an empty one is none."""
    configured: list[str] = []
    monkeypatch.setenv("ZTRACE_ENDPOINT", endpoint)
    monkeypatch.delenv("ZTRACE_SERVICE", raising=False)
    monkeypatch.setattr(tracing, "has_collector", lambda: False)
    monkeypatch.setattr(ztrace, "configure", configured.append)
    monkeypatch.setattr(rpc, "serve", lambda *_, **options: None)
    assert run("rpc", "serve", "time").exit_code == 0
    assert configured == services


@pytest.mark.process
@pytest.mark.slow
def test_a_call_is_traced_where_a_collector_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call prints its trace's id, and with --trace the tree of all its processes."""
    (tmp_path / "shop.py").write_text("def price(article):\n    return 1 / len(article)\n")
    database = tmp_path / "traced.db"
    with started(tmp_path, "collect", "--db", str(database), "--bind", "tcp://127.0.0.1:0") as collector:
        assert collector.stderr is not None
        endpoint = collector.stderr.readline().split(" at ")[1].split()[0]
        monkeypatch.setenv("ZTRACE_ENDPOINT", endpoint)
        monkeypatch.delenv("ZTRACE_DISABLED")
        with serving(tmp_path, "shop") as server:
            address = read_address(server)

            def call(*words: str) -> "subprocess.CompletedProcess[str]":
                command = [sys.executable, "-W", "error", "-c", MAIN, "rpc", "call", address, "price", *words]
                return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

            done = call("lamp", "--trace", "--db", str(database))
            assert (done.returncode, done.stdout.splitlines()[0]) == (0, "0.25"), done.stderr
            trace_id = done.stderr.removeprefix("trace ").strip()
            assert f"trace {trace_id}" in done.stdout
            assert "└╴shell → price" in done.stdout
            assert "  └╴shop.price" in done.stdout
            failed = call("", "--trace", "--db", str(database))
            assert failed.returncode == 1
            assert "▸ return 1 / len(article)" in failed.stdout
            assert "ztrace: price raised ZeroDivisionError: division by zero" in failed.stderr
            monkeypatch.setenv("ZTRACE_DISABLED", "1")
            assert call("lamp").stderr == ""
            assert call("lamp", "--trace").stderr == "ztrace: nothing is traced; unset ZTRACE_DISABLED\n"
        collector.send_signal(signal.SIGTERM)
        assert collector.wait(DEADLINE_S) == 0
    monkeypatch.delenv("ZTRACE_DISABLED")
    done = call("lamp", "--trace", "--db", str(database))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"ztrace: no collector at {endpoint}; start one with 'ztrace up'\n"


@pytest.mark.process
@pytest.mark.slow
def test_serve_restarts_with_each_version(run: Run, tmp_path: Path) -> None:
    """With --reload a changed file is served by a new process, unless the file cannot be imported."""
    module = tmp_path / "shop.py"
    module.write_text("def version(): return 'first'\n")
    with serving(tmp_path, "shop", "--reload") as process:
        assert process.stderr is not None
        first = read_address(process)
        assert run("rpc", "call", first, "version").stdout == "first\n"
        module.write_text("def version(\n")
        assert process.stderr.readline() == "ztrace: shop.py has changed: restarting\n"
        assert "cannot import 'shop': SyntaxError" in process.stderr.readline()
        assert run("rpc", "call", first, "version").stdout == "first\n"
        module.write_text("def version(): return 'third'\n")
        assert process.stderr.readline() == "ztrace: shop.py has changed: restarting\n"
        assert run("rpc", "call", read_address(process), "version").stdout == "third\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 143


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("nosuch", "cannot import 'nosuch': ModuleNotFoundError: No module named 'nosuch'; run this in"),
        (
            "broken_shop",
            "cannot import 'broken_shop': ZeroDivisionError: division by zero at broken_shop.py:2",
        ),
        ("whole_shop:Nope", "whole_shop has no 'Nope'; NAME is"),
        ("whole_shop:", "'whole_shop:' is not MODULE or MODULE:NAME"),
        ("a b", "'a b' is not MODULE or MODULE:NAME"),
        ("subprocess", "'subprocess' lets a caller run anything"),
        ("whole_shop", "cannot bind"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    billing: str,
    target: str,
    told: str,
) -> None:
    """A module that cannot be imported, a dangerous one, and a port in use are told on one line."""
    (tmp_path / "broken_shop.py").write_text("def half():\n    1 / 0\nhalf()\n")
    (tmp_path / "whole_shop.py").write_text("def half():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run_line(["rpc", "serve", target, "--bind", billing]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"ztrace: {told}")
    assert said.count("\n") == 1
    assert run_line(["rpc", "serve", target, "--bind", "tcp://127.0.0.1:99999"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.process
def test_a_session_on_a_terminal(billing: str, tmp_path: Path) -> None:
    """On a terminal a session has a prompt, Ctrl-C stops each call, and lines are kept for the user alone."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "rpc", "repl", billing],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"},
    ) as process:
        os.close(theirs)
        told = b""

        def wait_for(text: bytes) -> None:
            nonlocal told
            deadline_s = time.monotonic() + DEADLINE_S
            while text not in told:
                ready, _, _ = select.select([ours], [], [], max(0, deadline_s - time.monotonic()))
                assert ready, told
                told += os.read(ours, 65536)
            told = told.partition(text)[2]

        try:
            wait_for(b"try help")
            wait_for(b"billing> ")
            os.write(ours, b"charge visa\n")
            wait_for(b"visa:1")
            for _ in range(2):
                wait_for(b"billing> ")
                os.write(ours, b"tail 1000000\n")
                wait_for(b"\n99\r\n")  # The call runs.
                process.send_signal(signal.SIGINT)
                wait_for(b"stopped")
            wait_for(b"billing> ")
            os.write(ours, b"\x04")
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
    os.close(ours)
    history = tmp_path / "ztrace/rpc-history"
    assert history.read_text().splitlines() == ["charge visa", "tail 1000000"]
    assert history.stat().st_mode & 0o777 == 0o600
