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
from ztrace_viewer.export import files, json_stream, sending, storing
from ztrace_viewer.export.jaeger import make_traces

MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
DEADLINE_S = 60


def request(number: int) -> ExportTraceServiceRequest:
    """Return a request of one span."""
    return make_request(make_span(trace_id=trace_id(number)))


def lines(*numbers: int) -> bytes:
    """Return OTLP JSON lines with one span each."""
    return b"".join(format_request(request(number)).encode() + b"\n" for number in numbers)


def jaeger(*numbers: int) -> dict[str, Any]:
    """Return a document of Jaeger's query API."""
    return {"data": make_traces(request(number) for number in numbers), "total": 0, "errors": None}


def zipkin(number: int) -> dict[str, Any]:
    """Return a span of Zipkin's second version."""
    return {
        "traceId": trace_id(number).hex(),
        "id": "1",
        "name": "charge",
        "timestamp": 1_769_860_800_000_000,
        "duration": 10_000,
        "localEndpoint": {"serviceName": "shop"},
    }


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
    "documents of many lines": lambda: b"".join(
        json.dumps(json.loads(lines(number)), indent=2).encode() for number in (1, 2)
    ),
    "a line and a document": lambda: lines(1) + json.dumps(json.loads(lines(2)), indent=2).encode(),
    "documents without anything between": lambda: lines(1).strip() + lines(2).strip(),
    "Jaeger's answers after each other": lambda: b"".join(
        json.dumps(jaeger(number), indent=2).encode() for number in (1, 2)
    ),
    "Jaeger's answer and OTLP": lambda: json.dumps(jaeger(1)).encode() + lines(2),
    "records of a text sequence": lambda: b"\x1e" + lines(1) + b"\x1e" + lines(2),
    "UTF-16": lambda: lines(1, 2).decode().encode("utf-16"),
    "Tempo's answer": lambda: (
        lines(1).replace(b"resourceSpans", b"batches") + b'{"trace": ' + lines(2) + b"}"
    ),
    "Zipkin's answer": lambda: json.dumps([[zipkin(1)], [zipkin(2)]]).encode(),
    "Zipkin's trace": lambda: json.dumps([zipkin(1), zipkin(2)], indent=1).encode(),
    "Zipkin's spans on lines": lambda: b"\n".join(json.dumps(zipkin(number)).encode() for number in (1, 2)),
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
        monkeypatch.setattr(json_stream, "CHUNK", size)
        assert run("import", file, "--db", home).exit_code == 0
        for number in range(1, 4):
            shown = [
                run("show", trace_id(number).hex(), "--db", each, "--json").stdout for each in (path, home)
            ]
            assert shown[0] == shown[1]


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
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
    "a document with a mistake after a line": (
        lambda: lines(1) + json.dumps(json.loads(lines(2)), indent=1).encode().replace(b'"kind": 2', b"kind"),
        "line 22: is not JSON: ",
    ),
    "nested too deeply": (lambda: b"[" * 200_000 + b"\n", "line 1: is nested too deeply"),
    "a text": (lambda: b"hello\n", "is neither OTLP, as JSON or protobuf, nor Jaeger's or Zipkin's JSON"),
    "protobuf cut off": (lambda: (with_length(1) + with_length(2))[:-3], "ends within a message"),
    "gzip cut off": (lambda: gzip.compress(lines(1, 2))[:-12], "cannot read "),
    "logs alone": (lambda: b'{"resourceLogs": [{}]}\n' * 2, "line 1: has logs, and no spans; nothing was"),
    "another program's": (
        lambda: b'{"a": 1}',
        "line 1: has no spans of OTLP, of Jaeger's or of Zipkin's; it has a",
    ),
    "Jaeger's error": (
        lambda: b'{"data": null, "errors": [{"code": 404, "msg": "trace not found"}]}',
        "is an error of Jaeger's, {'code': 404, 'msg': 'trace not found'}; download the trace again",
    ),
    "Chrome's": (lambda: b'{"traceEvents": []}', "is Chrome's trace format"),
    "Zipkin's first version": (
        lambda: b'[{"traceId": "1", "id": "1", "binaryAnnotations": []}]',
        "is Zipkin's JSON of version 1; export it as version 2",
    ),
    "ids of no form": (
        lambda: lines(1).replace(trace_id(1).hex().encode(), b""),
        "no span of ",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, run: Run, kind: str) -> None:
    """A file of which nothing can be read, or not its rest, is one line with the place, and status 2."""
    content, message = BAD[kind]
    file, home = tmp_path / "file", tmp_path / "home.db"
    file.write_bytes(content())
    told = run("import", file, "--db", home)
    assert told.exit_code == 2
    assert told.stderr.count("\n") == 1
    assert str(file) in told.stderr
    assert message in told.stderr
    has_first = "; 1 span stored before it" in told.stderr
    assert home.exists() == (has_first or kind == "ids of no form")


#: Contents of which one line or field is bad, with two good spans, and what is told beside them.
PARTLY: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "a line cut off at the end": (
        lambda: lines(1, 2) + lines(3)[:50],
        [
            "1 line without spans skipped: unreadable 1",
            "the first: FILE, line 3: is not JSON: Unterminated string starting at column 47",
        ],
    ),
    "a line cut off in the middle": (
        lambda: lines(1) + b'{"resourceSpans": [\n' + lines(2),
        [
            "1 line without spans skipped: unreadable 1",
            "the first: FILE, line 2: is not JSON: Expecting ',' delimiter at column 1",
        ],
    ),
    "lines of other signals, comments and blanks": (
        lambda: (
            b"# spans\n"
            + lines(1)
            + b'{"resourceMetrics": []}\n\n// logs\n{"resource_logs": [{}]}\n{"resourceLogs": []}\n'
            + lines(2)
        ),
        ["5 lines without spans skipped: comments 2, logs 2, metrics 1"],
    ),
    "a line that is no object": (
        lambda: lines(1) + b"5\n" + lines(2),
        [
            "1 line without spans skipped: other 1",
            "the first: FILE, line 2: is neither OTLP nor Jaeger's or Zipkin's JSON",
        ],
    ),
    "a line of wrong OTLP": (
        lambda: lines(1) + b'{"resourceSpans": [{"scopeSpans": 7}]}\n' + lines(2),
        [
            "1 line without spans skipped: unreadable 1",
            "the first: FILE, line 2: the body is not OTLP JSON: scopeSpans has to be a list of objects",
        ],
    ),
    "a line nested too deeply": (
        lambda: lines(1) + b"[" * 200_000 + b"\n" + lines(2),
        [
            "1 line without spans skipped: unreadable 1",
            "the first: FILE, line 2: is nested too deeply",
        ],
    ),
    "bytes that are not UTF-8": (
        lambda: lines(1) + lines(2).replace(b"charge", b"charg\xe9"),
        ["1 value corrected: utf8 1"],
    ),
    "an id that is none": (
        lambda: lines(1, 2) + lines(3).replace(trace_id(3).hex().encode(), b"xyz"),
        ["1 span refused: trace_id 1"],
    ),
    "Jaeger's with a wrong span": (
        lambda: json.dumps(jaeger(3, 1, 2)).replace("0102030405060708", "q", 1).encode(),
        ["1 span refused: span_id 1"],
    ),
    "Jaeger's with a wrong trace": (
        lambda: json.dumps(jaeger(1, 2)).replace('"data": [', '"data": [7, {"spans": 1}, ').encode(),
        ["2 spans refused: fields 2"],
    ),
}


@pytest.mark.parametrize("kind", PARTLY)
def test_a_bad_part_costs_itself(tmp_path: Path, run: Run, kind: str) -> None:
    """A line or a field that is invalid is counted and told, and the rest of the file is imported."""
    content, more = PARTLY[kind]
    file, home = tmp_path / "file", tmp_path / "home.db"
    file.write_bytes(content())
    told = run("import", file, "--db", home)
    assert (told.exit_code, told.stderr) == (0, "")
    first, *others = told.stdout.splitlines()
    assert first.startswith("imported 2 spans into ")
    assert [line.replace(str(file), "FILE") for line in others] == more


def test_reasons_of_an_import_are_in_the_status(tmp_path: Path, run: Run) -> None:
    """Spans refused and values corrected by a reader are counted in the database like those of the store."""
    file, home = tmp_path / "file", tmp_path / "home.db"
    trace = jaeger(1)["data"][0]
    (good,) = trace["spans"]
    trace["spans"] += [7, good | {"spanID": "2", "duration": -1}, good | {"spanID": "3", "startTime": "now"}]
    good["tags"] = [{"key": "n", "type": "int64", "value": "18446744073709551615"}]
    file.write_text(json.dumps({"data": [trace]}))
    assert run("import", file, "--db", home).stdout.splitlines()[1:] == [
        "2 spans refused: fields 1, time 1",
        "2 values corrected: attributes 1, end_before_start 1",
    ]
    rejected = json.loads(run("status", "--db", home, "--json").stdout)["rejected"]
    assert rejected == {"fields": 1, "time": 1, "attributes": 1, "end_before_start": 1}


def test_another_file_without_spans_does_not_stop_an_import(tmp_path: Path, run: Run) -> None:
    """A file of another signal beside one of spans is skipped and counted."""
    logs, spans, home = tmp_path / "logs", tmp_path / "spans", tmp_path / "home.db"
    logs.write_bytes(b'{"resourceLogs": []}')
    spans.write_bytes(lines(1))
    told = run("import", logs, spans, "--db", home)
    assert (told.exit_code, told.stdout.splitlines()[1:]) == (0, ["1 line without spans skipped: logs 1"])


def test_what_came_before_a_mistake_is_stored(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans before an error are stored and counted in the message, and later ones are not."""
    monkeypatch.setattr(storing, "TURN_SPANS", 2)
    good, bad, home = tmp_path / "good", tmp_path / "bad", tmp_path / "home.db"
    good.write_bytes(lines(1, 2, 3))
    bad.write_bytes(lines(4, 5) + b"{\n\n\n\n" + lines(6))
    told = run("import", good, bad, "--db", home)
    assert told.stderr == (
        f"ztrace: {bad}, line 7: is not JSON: Expecting property name enclosed in double quotes at column 1;"
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
