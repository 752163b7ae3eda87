"""OpenTelemetry's own exporters, in separate processes, sending to the real command."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.disks import fill, small_disk
from tests.collector.otlp.listeners import DEADLINE_S, MAIN, count_spans, started
from tests.collector.otlp.requests import put_in_order, send_all

pytestmark = [pytest.mark.process, pytest.mark.slow]


def export(protocol: str, endpoint: str, compression: str) -> dict[str, Any]:
    """Run the exporting service to its end; return the exported spans."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.collector.otlp.exporting", protocol, endpoint, compression],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    exported: dict[str, Any] = json.loads(done.stdout)
    return exported


def walk(spans: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield spans and their descendants."""
    for span in spans:
        yield span
        yield from walk(span["children"])


def show(path: Path, trace_id: str) -> dict[str, Any]:
    """Return the document of ``ztrace show --json``."""
    command = [sys.executable, "-c", MAIN, "show", trace_id, "--db", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


@pytest.mark.parametrize(
    ("protocol", "compression"),
    [("http", "none"), ("http", "gzip"), ("http", "deflate"), ("grpc", "none"), ("grpc", "gzip")],
)
def test_everything_that_an_sdk_sends_is_stored(tmp_path: Path, protocol: str, compression: str) -> None:
    """Ids, names, kinds, times, status, typed attributes, events, links, scopes and resources are stored."""
    path = tmp_path / "traces.db"
    with started(path) as collector:
        endpoint = collector.http if protocol == "http" else collector.grpc
        exported = export(protocol, endpoint, compression)
        # Spans are stored before the exporter has its answer.
        shown = show(path, exported["spans"][0]["trace_id"])
        assert collector.stop() == ""
    sent = ExportTraceServiceRequest.FromString(bytes.fromhex(exported["otlp"]))
    assert put_in_order(send_all(path)) == put_in_order(sent)
    assert shown["complete"]
    spans = {span["span_id"]: span for span in walk(shown["roots"])}
    assert len(spans) == len(exported["spans"]) == 4
    for expected in exported["spans"]:
        span = spans[expected["span_id"]]
        assert expected.pop("trace_id") == shown["trace_id"]
        assert {key: span[key] for key in expected} == expected
        of_type = {key: repr(value) for key, value in expected["attributes"].items()}
        assert {key: repr(value) for key, value in span["attributes"].items()} == of_type
        assert (span["instance"]["host"], span["instance"]["pid"]) == ("desk", 42)
    (failed,) = [span for span in spans.values() if span["exception"] is not None]
    assert (failed["name"], failed["exception"]["type"]) == ("charge", "ValueError")
    assert failed["exception"]["frames"][-1]["function"] == "work"


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """Spans answered with success are in the file even if the collector is killed at once."""
    path = tmp_path / "traces.db"
    with started(path) as collector:
        exported = export("http", collector.http, "none")
        collector.process.kill()
        collector.process.wait(DEADLINE_S)
    assert count_spans(path) == len(exported["spans"])
    sent = ExportTraceServiceRequest.FromString(bytes.fromhex(exported["otlp"]))
    with started(path) as collector:
        assert collector.stop() == ""
    assert put_in_order(send_all(path)) == put_in_order(sent)


@contextmanager
def blocked(path: Path, disk: Path | None) -> Iterator[Callable[[], None]]:
    """Block writing by a full disk, or by another program's lock; yield the function that ends the block."""
    if disk is not None:
        yield fill(disk).unlink
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other.rollback


@pytest.mark.parametrize(
    ("how", "protocol"),
    [
        ("disk", "grpc"),
        ("lock", "http"),
        ("disk", "http"),
        ("lock", "grpc"),
    ],
)
def test_exporters_keep_what_cannot_be_stored(tmp_path: Path, how: str, protocol: str) -> None:
    """Exporters retry while nothing can be stored, and each span is stored once afterwards."""
    with small_disk(tmp_path / "disk", 24) as disk:
        path = (disk or tmp_path) / "traces.db"
        with started(path) as collector:
            endpoint = collector.http if protocol == "http" else collector.grpc
            with blocked(path, disk if how == "disk" else None) as release:
                command = [sys.executable, "-m", "tests.collector.otlp.exporting", protocol, endpoint, "none"]
                exporter = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                with exporter:
                    try:
                        assert exporter.stderr is not None
                        line = exporter.stderr.readline()
                        # The exporter's own message, once it has been rejected.
                        assert "retrying" in line, line + exporter.stderr.read()
                        assert count_spans(path) == 0
                        release()
                        printed, _ = exporter.communicate(timeout=DEADLINE_S)
                    finally:
                        exporter.kill()
            assert exporter.returncode == 0
            assert "storing resumes by itself" in collector.stop()
        sent = ExportTraceServiceRequest.FromString(bytes.fromhex(json.loads(printed)["otlp"]))
        assert put_in_order(send_all(path)) == put_in_order(sent)
