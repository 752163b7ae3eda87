"""Defects of ztrace in a real collector: each costs the message that causes it, and nothing else."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.collector.defective import MARK, NUMBER
from tests.collector.messages import is_balanced, make_open, make_span, refusals, row, rows, span_id, trace_id
from tests.collector.otlp.requests import make_request
from tests.collector.otlp.requests import make_span as make_otlp_span
from tests.collector.peers import Connect
from tests.ztrace.waiting import wait_for
from ztrace.records import ERROR, RAISED, ExceptionRecord

pytestmark = pytest.mark.process

#: Messages of a test; they are sent at once, so that several share a transaction.
COUNT = 12
DEADLINE_S = 60
#: Request that is answered as protobuf.
PROTOBUF = {"content-type": "application/x-protobuf"}


class Defective(NamedTuple):
    """A running collector with a defect, and the file of its standard error."""

    process: "subprocess.Popen[str]"
    endpoint: str
    url: str
    errors: Path


@contextmanager
def collecting(place: str, path: Path) -> Iterator[Defective]:
    """Run a collector with a defect, and stop it; it must end as one without."""
    errors = path.with_name("errors.txt")
    command = [sys.executable, "-m", "tests.collector.defective", place, "tcp://127.0.0.1:0", str(path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        errors.open("w") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment) as child,
    ):
        try:
            assert child.stdout is not None
            yield Defective(child, child.stdout.readline().strip(), child.stdout.readline().strip(), errors)
            child.send_signal(signal.SIGTERM)
            assert child.wait(DEADLINE_S) == 0, errors.read_text()
        finally:
            if child.poll() is None:
                child.kill()


def marked(**changes: Any) -> Any:
    """Return a span that meets the defect, in its name or in its exception."""
    record = ExceptionRecord(MARK, "boom", (), (), RAISED, None, None)
    return make_span(NUMBER, name=MARK, status=ERROR, exception=record, **changes)


def kept(path: Path) -> list[dict[str, Any]]:
    """Return the contents of the files that are kept of defects; nobody else can read them."""
    folder = path.with_name(f"{path.name}.defects")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize(
    "place",
    [
        "reading a batch",
        pytest.param("checking columns", marks=pytest.mark.slow),
        pytest.param("adding to traces", marks=pytest.mark.slow),
        pytest.param("adding to figures", marks=pytest.mark.slow),
        pytest.param("reading an exception", marks=pytest.mark.slow),
        "writing figures",
        "accounting",
    ],
)
def test_a_message_that_causes_a_defect_is_refused_alone(path: Path, connect: Connect, place: str) -> None:
    """It is acknowledged, its span is lost and counted, and every other message is stored."""
    with collecting(place, path) as collector:
        peer = connect(collector.endpoint)
        peer.wait_for_welcome()
        spans = [marked() if number == NUMBER else make_span(number) for number in range(COUNT)]
        messages = [peer.sender.data(span) for span in spans]
        peer.send(*messages, peer.sender.bye())
        peer.wait_for_ack(COUNT + 1)
    stored = {each["span_id"] for each in rows(path, "SELECT span_id FROM spans")}
    assert stored == {span_id(number) for number in range(COUNT) if number != NUMBER}
    publisher = row(path, "SELECT * FROM publishers")
    assert is_balanced(publisher)
    assert (publisher["spans_created"], publisher["spans_refused"]) == (COUNT, 1)
    assert row(path, "SELECT reason, span_count FROM losses") == {"reason": "refused", "span_count": 1}
    assert refusals(path) == {"internal_error": 1}
    errors = collector.errors.read_text()
    assert "internal error while storing a message" in errors
    assert "Traceback (most recent call last):" in errors
    assert "an injected defect" in errors
    (report,) = kept(path)
    assert "an injected defect" in report["traceback"]
    frames = [base64.b64decode(frame["base64"]) for frame in report["data"]["messages"][0]]
    assert frames == messages[NUMBER]
    assert not list(path.parent.glob("*.damaged-*"))


def test_an_open_span_that_causes_a_defect_costs_no_other(path: Path, connect: Connect) -> None:
    """A report of an unfinished span that is refused leaves spans and accounts as they are."""
    with collecting("adding unfinished spans", path) as collector:
        peer = connect(collector.endpoint)
        peer.wait_for_welcome()
        peer.send(
            peer.sender.data(make_span(0)),
            peer.sender.open(make_open(1, name=MARK)),
            peer.sender.open(make_open(2)),
            peer.sender.data(make_span(3)),
        )
        peer.wait_for_ack(2)
        wait_for(lambda: refusals(path))
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 2}
    assert row(path, "SELECT span_id FROM unfinished_spans") == {"span_id": span_id(2)}
    assert refusals(path) == {"internal_error": 1}
    assert row(path, "SELECT spans_refused FROM publishers") == {"spans_refused": 0}


@pytest.mark.parametrize(
    "place",
    [
        "reading a parcel",
        pytest.param("finding known spans", marks=pytest.mark.slow),
        pytest.param("adding to traces", marks=pytest.mark.slow),
        pytest.param("writing figures", marks=pytest.mark.slow),
        "mapping OTLP",
    ],
)
def test_an_otlp_request_that_causes_a_defect_succeeds_partially(path: Path, place: str) -> None:
    """Its spans are rejected for good, with no status that would bring them back; others are stored."""
    bad = make_request(make_otlp_span(name=MARK), make_otlp_span(span_id=b"second.."))
    good = make_request(make_otlp_span(span_id=b"third..."))
    with collecting(place, path) as collector:
        answers = [_post(f"{collector.url}/v1/traces", each) for each in (good, bad, good)]
    assert [answer.partial_success.rejected_spans for answer in answers] == [0, 2, 0]
    assert "internal_error 2" in answers[1].partial_success.error_message
    assert row(path, "SELECT span_id FROM spans") == {"span_id": b"third..."}
    assert refusals(path) == {"internal_error": 2}
    (report,) = kept(path)
    assert "an injected defect" in report["traceback"]
    assert "Traceback" in collector.errors.read_text()
    assert not list(path.parent.glob("*.damaged-*"))


def _post(url: str, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
    answer = requests.post(url, request.SerializeToString(), headers=PROTOBUF, timeout=DEADLINE_S)
    assert answer.status_code == 200
    response: ExportTraceServiceResponse = ExportTraceServiceResponse.FromString(answer.content)
    return response


@pytest.mark.parametrize(
    ("place", "doing"),
    [
        ("deleting", "deleting old traces"),
        ("adopting", "adopting spans"),
        ("sending on", "sending spans on"),
        ("tending connections", "collecting"),
    ],
)
def test_a_defect_beside_storing_costs_nothing(path: Path, connect: Connect, place: str, doing: str) -> None:
    """Work that fails beside storing is logged and paused, and every message is stored."""
    with collecting(place, path) as collector:
        peer = connect(collector.endpoint)
        peer.wait_for_welcome()
        for number in range(4):
            peer.send(peer.sender.data(make_span(number)))
            peer.wait_for_ack(number + 1)
        wait_for(lambda: f"internal error while {doing}" in collector.errors.read_text())
    assert row(path, "SELECT count(*) AS n FROM spans") == {"n": 4}
    assert refusals(path) == {}
    assert collector.errors.read_text().count("Traceback") == 1
    assert not list(path.parent.glob("*.damaged-*"))
    assert trace_id(0) in {each["trace_id"] for each in rows(path, "SELECT trace_id FROM traces")}
