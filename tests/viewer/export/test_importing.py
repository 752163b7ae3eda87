"""``ztrace import``: recognized formats, messages, and errors half way."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.otlp.receivers import answering, script
from tests.collector.otlp.requests import make_request, make_span
from tests.viewer.conftest import Run
from tests.viewer.stored import MINUTE, NOON, checkout, store, trace_id
from ztrace_collector.otlp.mapping.json_form import format_request
from ztrace_collector.storing.store import Store
from ztrace_viewer.export import files, sending, storing
from ztrace_viewer.export.jaeger import make_traces

MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
DEADLINE_S = 30


def request(number: int) -> ExportTraceServiceRequest:
    """Return a request of one span."""
    return make_request(make_span(trace_id=trace_id(number)))


def lines(*numbers: int) -> bytes:
    """Return OTLP JSON lines with one span each."""
    return b"".join(format_request(request(number)).encode() + b"\n" for number in numbers)


def jaeger(*numbers: int) -> dict[str, Any]:
    """Return a document of Jaeger's query API."""
    return {"data": make_traces(request(number) for number in numbers), "total": 0, "errors": None}


def with_length(number: int) -> bytes:
    """Return a message with a length prefix, as the OpenTelemetry Collector writes it."""
    body: bytes = request(number).SerializeToString()
    return len(body).to_bytes(4, "big") + body


FORMS: dict[str, Callable[[], bytes]] = {
    "lines": lambda: lines(1, 2),
    "lines with empty ones and a mark": lambda: b"\xef\xbb\xbf" + lines(1) + b"\r\n \n" + lines(2),
    "lines without an end": lambda: lines(1, 2).rstrip(),
    "an OTLP document": lambda: json.dumps(
        {"resourceSpans": [json.loads(line)["resourceSpans"][0] for line in lines(1, 2).splitlines()]},
        indent=2,
    ).encode(),
    "a list of requests": lambda: b"[" + lines(1) + b"," + lines(2) + b"]",
    "protobuf": lambda: request(1).SerializeToString() + request(2).SerializeToString(),
    "protobuf with lengths": lambda: with_length(1) + with_length(2),
    "Jaeger's answer": lambda: json.dumps(jaeger(1, 2)).encode(),
    "Jaeger's answer in lines": lambda: b"\n" + json.dumps(jaeger(1, 2), indent=4).encode(),
    "Jaeger's answer with data last": lambda: json.dumps(dict(reversed(jaeger(1, 2).items()))).encode(),
    "Jaeger's traces on lines": lambda: b"\n".join(
        json.dumps(each).encode() for each in jaeger(1, 2)["data"]
    ),
    "Jaeger's traces in a list": lambda: json.dumps(jaeger(1, 2)["data"], indent=1).encode(),
    "Jaeger's third version": lambda: b'{"result": ' + lines(1).strip() + b"}\n" + lines(2),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_recognised_by_its_content(tmp_path: Path, run: Run, form: str, packed: bool) -> None:
    """The format of a file is recognized by content, under any name, compressed or not."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    content = FORMS[form]()
    file.write_bytes(gzip.compress(content) if packed else content)
    told = run("import", file, "--db", home)
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == f"imported 2 spans into {home}; 2 new trees\n"
    document = json.loads(run("show", trace_id(2).hex(), "--db", home, "--json").stdout)
    assert (document["roots"][0]["service"], document["roots"][0]["name"]) == ("shop", "charge")
    assert document["duration_ns"] == 10_000_000


def test_small_pieces_make_no_difference(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """A Jaeger list is read trace by trace, wherever the chunks of the file end."""
    for number in range(1, 4):
        store(path, checkout(trace_id(number), NOON + number * MINUTE), at_ns=NOON)
    file = tmp_path / "file.json"
    run("export", "--db", path, "--format", "jaeger", "-o", file)
    for size in (1, 7, 100, 5000):
        home = tmp_path / f"{size}.db"
        monkeypatch.setattr(files, "_CHUNK", size)
        assert run("import", file, "--db", home).exit_code == 0
        for number in range(1, 4):
            shown = [
                run("show", trace_id(number).hex(), "--db", each, "--json").stdout for each in (path, home)
            ]
            assert shown[0] == shown[1]


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "a line cut off": (
        lambda: lines(1) + lines(2)[:50],
        "line 2: is not JSON: Unterminated string starting at column ",
    ),
    "a line of something else": (
        lambda: lines(1) + b'{"resourceMetrics": []}\n',
        "line 2: has no spans of OTLP or of Jaeger's; it has resourceMetrics",
    ),
    "a line that is no object": (lambda: lines(1) + b"5\n", "line 2: is neither OTLP nor Jaeger's JSON"),
    "a line of wrong OTLP": (
        lambda: lines(1) + b'{"resourceSpans": [{"scopeSpans": 7}]}\n',
        "line 2: the body is not OTLP JSON: ",
    ),
    "a document cut off": (
        lambda: json.dumps(json.loads(lines(1)), indent=1).encode()[:-20],
        "line 25: is not JSON: ",
    ),
    "Jaeger's cut off": (
        lambda: json.dumps(jaeger(1, 2), indent=1).encode()[:1100],
        "line 57: is not JSON: ",
    ),
    "Jaeger's with a mistake": (
        lambda: json.dumps(jaeger(1, 2), indent=1).replace('"duration": 10000', '"duration": 1x').encode(),
        "line 12: is not JSON: Expecting ',' delimiter at column ",
    ),
    "Jaeger's with a wrong span": (
        lambda: json.dumps(jaeger(1, 2)).replace("0102030405060708", "q", 1).encode(),
        "line 1: is no trace of Jaeger's: span 1: ",
    ),
    "not UTF-8": (lambda: lines(1) + b'{"\xff": 1}\n', "line 2: is not JSON: "),
    "nested too deeply": (lambda: lines(1) + b"[" * 200_000 + b"\n", "line 2: is nested too deeply"),
    "a text": (lambda: b"hello\n", "is neither OTLP, as JSON or protobuf, nor Jaeger's JSON"),
    "protobuf cut off": (lambda: (with_length(1) + with_length(2))[:-3], "ends within a message"),
    "gzip cut off": (lambda: gzip.compress(lines(1, 2))[:-12], "cannot read "),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, run: Run, kind: str) -> None:
    """An invalid file is reported in one line with the position, and exit status 2."""
    content, message = BAD[kind]
    file, home = tmp_path / "file", tmp_path / "home.db"
    file.write_bytes(content())
    told = run("import", file, "--db", home)
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1
    assert str(file) in told.stderr
    assert message in told.stderr
    has_first = "lines" in kind or "; 1 span stored before it" in told.stderr
    assert home.exists() == has_first


def test_what_came_before_a_mistake_is_stored(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans before an error are stored and counted in the message, and later ones are not."""
    monkeypatch.setattr(storing, "TURN_SPANS", 2)
    good, bad, home = tmp_path / "good", tmp_path / "bad", tmp_path / "home.db"
    good.write_bytes(lines(1, 2, 3))
    bad.write_bytes(lines(4, 5) + b"{\n" + lines(6))
    told = run("import", good, bad, "--db", home)
    assert told.stderr == (
        f"ztrace: {bad}, line 3: is not JSON: Expecting property name enclosed in double quotes at column 2;"
        " 5 spans stored before it\n"
    )
    assert len(json.loads(run("slow", "--db", home, "--json").stdout)["traces"]) == 5


def test_a_parent_that_is_not_in_the_file_was_never_received(tmp_path: Path, run: Run) -> None:
    """A parent missing from a file was never received: its process has no state that says more."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    content = make_request(make_span(trace_id=trace_id(1), parent_span_id=b"parent.."))
    file.write_text(format_request(content))
    run("import", file, "--db", home)
    told = run("show", trace_id(1).hex(), "--db", home)
    assert "? parent never received\n" in told.stdout
    assert told.stdout.endswith("incomplete; 1 span without parent: never received\n")


def test_nothing_in_it_is_nothing_found(tmp_path: Path, run: Run) -> None:
    """A file without spans exits with status 1 and creates no database."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    for content in (b"", b"\n", b'{"resourceSpans": []}', b'{"data": []}', b"[]"):
        file.write_bytes(content)
        told = run("import", file, "--db", home)
        assert (told.exit_code, told.stderr) == (1, f"ztrace: no spans in {file}; nothing was changed\n")
    assert not home.exists()


def test_refused_spans_are_told_by_reason(tmp_path: Path, run: Run) -> None:
    """Refused spans are reported by reason, and the others are stored."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    broken = [make_span(span_id=bytes(8)), make_span(trace_id=b"short"), make_span(end_time_unix_nano=0)]
    file.write_text(format_request(make_request(make_span(), *broken)))
    told = run("import", file, "--db", home)
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0] == f"imported 1 span into {home}; 1 new tree"
    (refused,) = told.stdout.splitlines()[1:]
    assert refused.startswith("3 spans refused: ")
    assert set(refused.removeprefix("3 spans refused: ").split(", ")) == {"span_id 1", "time 1", "trace_id 1"}


def test_a_database_that_is_written_is_left_alone(tmp_path: Path, run: Run) -> None:
    """A database in use by a collector is reported before anything is read."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    file.write_bytes(lines(1))
    with Store(home):
        told = run("import", file, "--db", home)
    assert told.exit_code == 2
    assert told.stderr == (
        f"ztrace: a collector writes to {home}; import with --to http://127.0.0.1:4318 if it listens"
        " for OTLP, or stop it first\n"
    )
    assert run("import", file, "--db", home).exit_code == 0


def test_files_that_are_not_there_are_told_before_anything_is_done(tmp_path: Path, run: Run) -> None:
    """A missing file is reported before any file is imported."""
    file = tmp_path / "file"
    file.write_bytes(lines(1))
    told = run("import", file, tmp_path / "none", "--db", tmp_path / "home.db")
    assert (told.exit_code, told.stderr) == (
        2,
        f"ztrace: there is no file {tmp_path / 'none'}; give a file, or - for standard input\n",
    )
    assert not (tmp_path / "home.db").exists()
    told = run("import", tmp_path, "--db", tmp_path / "home.db")
    assert (told.exit_code, told.stderr) == (
        2,
        f"ztrace: cannot read {tmp_path}: Is a directory; nothing was imported\n",
    )


@pytest.mark.process
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_standard_input_is_a_file_as_well(tmp_path: Path, packed: bool) -> None:
    """Standard input is imported like a file, compressed or not."""
    content = gzip.compress(lines(1, 2)) if packed else lines(1, 2)
    told = subprocess.run(
        [sys.executable, "-c", MAIN, "import", "-", "--db", str(tmp_path / "home.db")],
        input=content,
        capture_output=True,
        timeout=DEADLINE_S,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, b"")
    assert told.stdout.decode() == f"imported 2 spans into {tmp_path / 'home.db'}; 2 new trees\n"


def test_a_receiver_gets_what_is_in_the_files(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans are sent to a receiver in bounded requests, with their resources and scopes."""
    monkeypatch.setattr(sending, "REQUEST_SPANS", 3)
    file = tmp_path / "file"
    file.write_bytes(lines(1, 2, 3, 4, 5))
    with answering(script()) as (url, received):
        told = run("import", file, "--to", url)
    assert (told.exit_code, told.stdout) == (0, f"sent 5 spans to {url}/v1/traces\n")
    assert [len(each.resource_spans) for each in received.taken] == [3, 2]
    expected = [request(number).resource_spans[0] for number in range(1, 6)]
    assert [resource for each in received.taken for resource in each.resource_spans] == expected
