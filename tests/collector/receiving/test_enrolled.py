"""Services with keys, and a collector that knows them: no span is lost because another key is revoked."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ztrace
from tests.collector.messages import refusals, row, rows
from tests.ztrace.waiting import wait_for
from ztrace.enrolment import Enrolment
from ztrace.publishing import peer
from ztrace_collector.receiving.keys import KeyFolder
from ztrace_collector.service import Collector, Options

#: Longer than any condition takes: only a failing test reaches it.
DEADLINE_S = 60
#: Spans of each service, created over this number of steps of 20 ms.
SPANS, STEPS = 3000, 50

PROGRAM = f"""
import sys, time, ztrace
ztrace.configure()
for step in range(int(sys.argv[1])):
    for _ in range({SPANS // STEPS}):
        with ztrace.span("charge"):
            pass
    time.sleep(0.02)
ztrace.shutdown(2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """Return a folder with the collector's key."""
    made = KeyFolder(tmp_path / "keys")
    made.create()
    return made


@contextmanager
def running(path: Path, folder: KeyFolder) -> Iterator[str]:
    """Run a collector in a thread; yield its endpoint, and stop the collector at the end."""
    endpoints: list[str] = []
    collector = Collector(Options("tcp://127.0.0.1:0", path, keys=folder), ready=endpoints.append)
    thread = threading.Thread(target=collector.run)
    thread.start()
    try:
        yield wait_for(lambda: endpoints)[0]
    finally:
        collector.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def start(endpoint: str, key: Enrolment, steps: int = 1, **environ: str) -> "subprocess.Popen[str]":
    """Start a service process that creates spans in some steps."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    named = {"ZTRACE_ENDPOINT": endpoint, "ZTRACE_KEY": key.format()}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(steps)],
        env=kept | named | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(service: "subprocess.Popen[str]") -> str:
    """Wait until a service has exited; return its stderr."""
    _, errors = service.communicate(timeout=DEADLINE_S)
    assert service.returncode == 0
    return errors


@pytest.mark.process
@pytest.mark.slow
def test_revoking_one_key_costs_the_others_nothing(path: Path, folder: KeyFolder) -> None:
    """A key revoked during work disconnects its service, and the other service's spans are stored once."""
    good, bad = folder.add("billing"), folder.add("shop")
    with running(path, folder) as endpoint:
        services = [start(endpoint, good, STEPS), start(endpoint, bad, STEPS)]
        wait_for(lambda: path.exists() and len(rows(path, "SELECT * FROM publishers")) == 2)
        folder.revoke("shop")
        errors = [end(service) for service in services]
    assert errors[0] == ""
    assert "not delivered" in errors[1]
    stored = {
        each["service"]: each
        for each in rows(path, "SELECT * FROM publishers JOIN instances ON instances.id = instance")
    }
    assert (stored["billing"]["spans_created"], stored["billing"]["spans_stored"]) == (SPANS, SPANS)
    assert stored["billing"]["state"] == "ended"
    assert stored["shop"]["spans_stored"] < SPANS
    assert row(path, "SELECT count(DISTINCT span_id) AS n FROM spans")["n"] == sum(
        each["spans_stored"] for each in stored.values()
    )
    assert refusals(path)["handshake_denied"] >= 1
    # A handshake that was under way when the port was opened again has failed.
    assert set(refusals(path)) <= {"handshake_denied", "key_revoked"}


@pytest.mark.process
def test_a_service_under_another_name_is_not_traced(path: Path, folder: KeyFolder) -> None:
    """A service name other than the key's disables tracing with one line; the default is the key's name."""
    key = folder.add("billing")
    with running(path, folder) as endpoint:
        errors = end(start(endpoint, key, ZTRACE_SERVICE="shop"))
        assert errors.count("\n") == 1
        assert "the key is for the service billing, this one is shop" in errors
        assert end(start(endpoint, key)) == ""
    assert row(path, "SELECT service FROM instances") == {"service": "billing"}


def test_a_key_that_is_known_only_later_lets_the_service_in(
    path: Path, folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent reconnects after ZeroMQ was denied, so a key added later loses no span."""
    monkeypatch.setattr(peer, "RENEW_S", 0.0)
    key = folder.add("billing")
    (file,) = [each for each in folder.path.iterdir() if "billing" in each.read_text()]
    file.rename(path.with_name("elsewhere"))
    with running(path, folder) as endpoint:
        ztrace.configure(endpoint=endpoint, key=key.format())
        with ztrace.span("charge"):
            pass
        wait_for(lambda: refusals(path).get("handshake_denied"))
        path.with_name("elsewhere").rename(file)
        assert ztrace.flush(DEADLINE_S)
        ztrace.shutdown()
    assert row(path, "SELECT count(*) AS n FROM spans")["n"] == 1
