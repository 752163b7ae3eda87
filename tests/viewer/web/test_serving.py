"""Server process: missing and replaced databases, addresses, and shutdown."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.viewer.commands.test_process import MAIN, environment, ztrace
from tests.viewer.stored import NOON, checkout, span, store, trace_id
from tests.viewer.web.serving import DEADLINE_S, TOKEN, Site, served
from tests.ztrace.waiting import wait_for
from ztrace_collector.otlp.listening.http_connections import MAX_CONNECTIONS

pytestmark = pytest.mark.process


def test_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    """A missing database is answered with 503 and not created, and is read once it exists."""
    path = tmp_path / "shop.db"
    with served(path) as site:
        answer = site.ask("/api/services")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "there is no database" in answer.document["errors"][0]["msg"]
        assert "there is no database" in site.ask("/api/v3/services").document["error"]["message"]
        assert list(tmp_path.iterdir()) == [tmp_path / "shop.db.page"]
        store(path, checkout(trace_id(1)))
        assert "shop" in site.get("/api/services")["data"]


def test_a_database_that_is_replaced(tmp_path: Path) -> None:
    """A replaced database is read, and a file that is no database is answered with 503."""
    path = store(tmp_path / "shop.db", {"old": [span(trace_id(1), 1)]})
    with served(path) as site:
        assert site.get("/api/services")["data"] == ["old"]
        os.replace(store(tmp_path / "new.db", {"new": [span(trace_id(2), 1)]}), path)
        assert site.get("/api/services")["data"] == ["new"]
        path.write_bytes(b"no database at all" * 100)
        answer = site.ask("/api/services")
        assert answer.status == 503
        assert "is not a database" in answer.document["errors"][0]["msg"]


def test_what_is_written_meanwhile_is_answered(tmp_path: Path) -> None:
    """Spans written by a collector are in the next answer."""
    path = store(tmp_path / "shop.db", {"shop": [span(trace_id(1), 1)]})
    with served(path) as site:
        for number in range(2, 5):
            store(path, {"shop": [span(trace_id(number), 1)]})
            assert len(site.get("/api/traces?service=shop")["data"]) == number


def test_it_ends_on_sigterm_too(shop: Path) -> None:
    """SIGTERM ends the server despite an idle connection."""
    with served(shop) as site, closing(socket.create_connection(("127.0.0.1", site.port))):
        assert site.ask("/").status == 200
        site.process.send_signal(signal.SIGTERM)
        assert site.process.wait(DEADLINE_S) == 0


def test_half_a_request_keeps_nobody_out(shop: Path) -> None:
    """However many connections send half a request, a whole one is answered."""
    with served(shop) as site, ExitStack() as stack:
        for number in range(MAX_CONNECTIONS + 50):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            half.sendall(b"GET /api/services HTTP/1.1\r\nX: " if number % 2 else b"")
        for _ in range(3):
            assert "shop" in site.get("/api/services")["data"]


@pytest.mark.slow
def test_it_ends_although_an_answer_is_being_made(tmp_path: Path) -> None:
    """SIGINT ends the server within seconds despite answers in progress."""
    path = tmp_path / "shop.db"
    for first in range(0, 20_000, 4_000):
        store(path, {"shop": [span(trace_id(1), 1 + each) for each in range(first, first + 4_000)]})
    with served(path) as site, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(is_answered, site, f"/api/v3/traces/{trace_id(1).hex()}") for _ in range(12)]
        # All of them take many times longer.
        started_s = cpu_s(site.process.pid)
        wait_for(lambda: cpu_s(site.process.pid) > started_s + 0.3)
        begin_s = time.monotonic()
        site.process.send_signal(signal.SIGINT)
        assert site.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - begin_s < 8
        assert not all(each.result() for each in asked)


def cpu_s(pid: int) -> float:
    """Return the CPU time used by a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_answered(site: Site, path: str) -> bool:
    """Return whether a request is answered with success."""
    try:
        return site.ask(path).status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_it_announces_a_url_that_opens(shop: Path) -> None:
    """The announcement is one line with a working URL and the token kept beside the database."""
    with served(shop, ZTRACE_WEB_TOKEN="") as site:
        assert re.fullmatch(
            r"ztrace: serving \S+shop\.db at http://127\.0\.0\.1:\d+/\?token=\S+; end with Ctrl-C\n",
            site.line,
        )
        assert site.ask("/").status == 200
        kept = shop.with_name("shop.db.token").read_text().strip()
        assert site.headers["X-Ztrace-Token"] == kept


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        (
            "0.0.0.0:4711",
            "can be reached from other machines; listen on 127.0.0.1:4711 and put a proxy with TLS",
        ),
        ("[::]:4711", "can be reached from other machines"),
        ("example.org:80", "can be reached from other machines"),
        ("4711", "is not HOST:PORT; write it like --listen 127.0.0.1:4711"),
        ("127.0.0.1:99999", "is not HOST:PORT"),
        ("127.0.0.1:x", "is not HOST:PORT"),
        (":4711", "is not HOST:PORT"),
    ],
)
def test_where_it_does_not_listen(shop: Path, listen: str, message: str) -> None:
    """An address beyond this machine, or an invalid one, is one line with a remedy."""
    done = ztrace("web", "--db", shop, "--listen", listen)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken(shop: Path) -> None:
    """A requested port in use is an error."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = ztrace("web", "--db", shop, "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "is in use; stop what uses the port" in done.stderr


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_other_names_of_this_machine(shop: Path, host: str) -> None:
    """IPv6 and localhost are accepted as address."""
    with started("web", "--db", str(shop), "--listen", f"{host}:0") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert f"http://{host.replace('localhost', '127.0.0.1')}:" in line
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


@contextmanager
def started(*arguments: str, **changes: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a command; it is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**{"ZTRACE_WEB_TOKEN": TOKEN, **changes}),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def up(path: Path, *more: str) -> tuple[str, ...]:
    """Return the arguments of a collector on free ports."""
    return ("up", "--bind", "tcp://127.0.0.1:0", "--otlp-listen", "off", "--db", str(path), *more)


def read_site(process: "subprocess.Popen[str]") -> Site:
    """Read a collector's announcements; return its web site."""
    assert process.stderr is not None
    assert "collecting at" in process.stderr.readline()
    line = process.stderr.readline()
    found = re.fullmatch(r"ztrace: the page is at http://127\.0\.0\.1:(\d+)/\?token=(\S+)\n", line)
    assert found is not None, line
    assert found[2] == TOKEN
    return Site(process, line, int(found[1]))


def is_served(site: Site) -> bool:
    """Return whether the site answers."""
    try:
        return site.ask("/api/services").status == 200
    except OSError:
        return False


def test_it_is_beside_the_collector(tmp_path: Path) -> None:
    """`up` serves the API beside the collector until it ends, and ends quietly."""
    with started(*up(tmp_path / "shop.db", "--web-listen", "127.0.0.1:0")) as process:
        site = read_site(process)
        assert site.get("/api/services")["data"] == []
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert not is_served(site)


def test_it_ends_with_a_collector_that_is_killed(tmp_path: Path) -> None:
    """The server ends with a killed collector and frees its port."""
    with started(*up(tmp_path / "shop.db", "--web-listen", "127.0.0.1:0")) as process:
        site = read_site(process)
        assert is_served(site)
        process.kill()
        process.wait(DEADLINE_S)
        wait_for(lambda: not is_served(site))


def test_a_collector_goes_on_without_it(tmp_path: Path) -> None:
    """The collector continues without a killed server, reports its end, and exits with status 0."""
    with started(*up(tmp_path / "shop.db", "--web-listen", "127.0.0.1:0")) as process:
        site = read_site(process)
        assert is_served(site)
        (page,) = _children(process.pid)
        os.kill(page, signal.SIGKILL)
        assert process.stderr is not None
        assert (
            process.stderr.readline()
            == "ztrace: the web page has ended (status -9); the collector continues\n"
        )
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_default_port_that_is_taken_is_no_reason_to_end(tmp_path: Path) -> None:
    """A default port in use is reported, and a requested one is an error before a file is created."""
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 4711))
            taken.listen()
        except OSError:
            pass  # In use already.
        with started(*up(tmp_path / "shop.db")) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line == (
                "ztrace: there is no web page: 127.0.0.1:4711 is in use;"
                " give another address with --web-listen\n"
            )
            assert "collecting at" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
            assert process.stderr.read() == ""
        done = ztrace(*up(tmp_path / "other.db", "--web-listen", "127.0.0.1:4711"))
    assert done.returncode == 2
    assert "127.0.0.1:4711 is in use" in done.stderr
    assert not (tmp_path / "other.db").exists()


def test_a_collector_without_it(tmp_path: Path) -> None:
    """`up --no-web` starts no server and creates no token."""
    with started(*up(tmp_path / "shop.db", "--no-web")) as process:
        assert process.stderr is not None
        assert "collecting at" in process.stderr.readline()
        assert _children(process.pid) == []
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""
    assert not (tmp_path / "shop.db.token").exists()


def test_warnings_name_what_is_missing(tmp_path: Path) -> None:
    """A missing parent is a warning on its span, in the form of Jaeger's page."""
    path = store(tmp_path / "shop.db", {"shop": [span(trace_id(1), 2, 1, at_ns=NOON)]})
    with served(path) as site:
        (trace,) = site.get(f"/api/traces/{trace_id(1).hex()}")["data"]
    (warning,) = trace["spans"][0]["warnings"]
    assert warning.startswith("its parent 0000000000000001 is not stored; 'ztrace show ")
