"""Listening for OTLP: options, ports in use, missing libraries, and shutdown."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.collector.otlp.listeners import DEADLINE_S, MAIN, started
from tests.collector.otlp.requests import make_request, make_span
from ztrace.addresses import DEFAULT_OTLP_HTTP, Address
from ztrace.errors import EndpointError
from ztrace_collector.otlp.listening.addresses import parse_address

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def collect(*arguments: object, main: str = MAIN) -> "subprocess.CompletedProcess[str]":
    """Run a command that exits by itself."""
    return subprocess.run(
        [sys.executable, "-c", main, *map(str, arguments), "--bind", "tcp://127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def collect_until_it_says(lines: int, *arguments: object, main: str = MAIN) -> list[str]:
    """Run a command until it has printed this number of lines, interrupt it, and return the lines."""
    command = [sys.executable, "-c", main, *map(str, arguments), "--bind", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = [process.stderr.readline() for _ in range(lines)]
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            assert process.wait(DEADLINE_S) == 0, rest
            assert rest == ""
        finally:
            process.kill()
    return said


def without(*modules: str) -> str:
    """Return a main program without these modules installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({modules!r})); {MAIN}"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4318", ("127.0.0.1", 4318)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("[::1]:4318", ("::1", 4318)),
        ("http://127.0.0.1:4318/", ("127.0.0.1", 4318)),
    ],
)
def test_addresses_of_this_machine(text: str, address: tuple[str, int]) -> None:
    """An address of this machine is parsed as HOST:PORT or as a URL."""
    assert parse_address(text, "--otlp-listen", DEFAULT_OTLP_HTTP) == Address(*address)


@pytest.mark.parametrize(
    "text", ["", "4318", ":4318", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "a:b:c"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """An invalid address raises an error with an example."""
    with pytest.raises(
        EndpointError, match=r"is not HOST:PORT; write it like --otlp-listen 127\.0\.0\.1:4318"
    ):
        parse_address(text, "--otlp-listen", DEFAULT_OTLP_HTTP)


@pytest.mark.parametrize("text", ["0.0.0.0:4318", "[::]:4318", "10.0.0.7:4318", "example.org:80", "*:4318"])
@pytest.mark.parametrize("option", ["--otlp-listen", "--otlp-grpc-listen"])
def test_other_machines_are_kept_out(text: str, option: str) -> None:
    """An address beyond this machine raises an error that says how to let others in."""
    with pytest.raises(EndpointError, match="put a proxy with TLS and a password before it"):
        parse_address(text, option, DEFAULT_OTLP_HTTP, "a proxy with TLS and a password")


@pytest.mark.process
@pytest.mark.parametrize("option", ["--otlp-listen", "--otlp-grpc-listen"])
def test_a_refused_address_is_one_line(tmp_path: Path, option: str) -> None:
    """The command ends with one line, and makes no file."""
    done = collect("collect", option, "0.0.0.0:4318", "--db", tmp_path / "traces.db")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{option} 0.0.0.0:4318 can be reached from other machines" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_first_line_says_where(tmp_path: Path) -> None:
    """The first line names the OTLP addresses, and ``collect`` listens for OTLP only on request."""
    with started(tmp_path / "traces.db", "--no-web", name="up") as collector:
        assert f", OTLP at {collector.http} and grpc://{collector.grpc}; " in collector.line
        assert collector.stop() == ""
    (line,) = collect_until_it_says(1, "collect", "--db", tmp_path / "traces.db")
    assert "OTLP" not in line
    (line,) = collect_until_it_says(
        1, "up", "--otlp-listen", "off", "--no-web", "--db", tmp_path / "traces.db"
    )
    assert "OTLP" not in line


@pytest.mark.process
@pytest.mark.parametrize("option", ["--otlp-listen", "--otlp-grpc-listen"])
def test_a_port_that_is_taken_is_an_error(tmp_path: Path, option: str) -> None:
    """A requested port in use is an error, and no file is created."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = collect("collect", option, address, "--db", tmp_path / "traces.db")
    assert done.returncode == 2
    assert done.stderr == f"ztrace: {address} is in use; stop what uses the port, or choose another\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_a_default_port_that_is_taken_is_a_line(tmp_path: Path) -> None:
    """A default port in use is reported in one line, and the collector continues without OTLP."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 4318))
            taken.listen()
        except OSError:
            pass  # In use already.
        said = collect_until_it_says(2, "up", "--no-web", "--db", tmp_path / "traces.db")
    assert said[0] == (
        "ztrace: OTLP is not accepted: 127.0.0.1:4318 is in use; stop what uses the port, or choose another\n"
    )
    assert said[1].startswith("ztrace: collecting at ")


@pytest.mark.process
@pytest.mark.parametrize("module", ["starlette", "uvicorn", "opentelemetry.proto", "google.rpc"])
def test_a_library_that_is_missing_is_named(tmp_path: Path, module: str) -> None:
    """A missing library is reported by ``up`` and an error when OTLP was requested."""
    path = tmp_path / "traces.db"
    main = without(module)
    name = module.partition(".")[0]
    line = f"{name} is not installed; pip install 'ztrace[collector]'\n"
    done = collect("collect", "--otlp-listen", "127.0.0.1:0", "--db", path, main=main)
    assert (done.returncode, done.stderr) == (2, f"ztrace: {line}")
    said = collect_until_it_says(2, "up", "--no-web", "--db", path, main=main)
    assert said[0] == f"ztrace: OTLP is not accepted: {line}"


@pytest.mark.process
def test_grpc_has_an_extra_of_its_own(tmp_path: Path) -> None:
    """A missing gRPC library is an error that names the extra to install."""
    path = tmp_path / "traces.db"
    done = collect("collect", "--otlp-grpc-listen", "127.0.0.1:0", "--db", path, main=without("grpc"))
    line = "ztrace: grpc is not installed; pip install 'ztrace[grpc]'\n"
    assert (done.returncode, done.stderr) == (2, line)
    with started(path) as collector:
        assert collector.stop() == ""


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_collectors(tmp_path: Path, number: signal.Signals) -> None:
    """Signals end the collector quickly and quietly, despite connected exporters and a partial request."""
    with started(tmp_path / "traces.db") as collector:
        host, port = collector.http.removeprefix("http://").split(":")
        with requests.Session() as session, socket.create_connection((host, int(port))) as half:
            body = make_request(make_span()).SerializeToString()
            answer = session.post(f"{collector.http}/v1/traces", body, headers=PROTOBUF, timeout=DEADLINE_S)
            assert answer.status_code == 200
            half.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            start_s = time.monotonic()
            collector.process.send_signal(number)
            _, written = collector.process.communicate(timeout=DEADLINE_S)
        assert (collector.process.returncode, written) == (0, "")
        assert time.monotonic() - start_s < 8
        with socket.create_server((host, int(port))):
            pass
