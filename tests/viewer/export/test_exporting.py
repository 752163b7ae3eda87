"""``ztrace export``: selection of trees, destinations, and failures."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.collector.otlp.receivers import Reply, answering, script
from tests.ports import find_port
from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, MINUTE, NOON, SECOND, checkout, raised, span, store, trace_id
from ztrace_viewer.export import sending
from ztrace_viewer.queries import pieces

MAIN = "import sys; from ztrace_viewer.entry import main; sys.exit(main())"
DEADLINE_S = 60


@pytest.fixture
def trees(path: Path) -> Path:
    """Return a database with five trees, an hour apart, of which the last has not ended."""
    store(path, {"shop": [span(trace_id(1), 1, duration_ms=10)]})
    store(path, {"shop": [span(trace_id(2), 1, duration_ms=300, at_ns=NOON + HOUR)]})
    failed = span(trace_id(3), 2, 1, at_ns=NOON + 2 * HOUR, exception=raised("KeyError", "'x'"))
    called = span(trace_id(3), 1, kind="client", duration_ms=20, at_ns=NOON + 2 * HOUR)
    store(path, {"shop": [called], "stock": [failed]})
    half = span(trace_id(4), 1, duration_ms=None, at_ns=NOON + 3 * HOUR)
    store(
        path,
        {"shop": [half], "stock": [span(trace_id(4), 2, 1, start_ms=1, at_ns=NOON + 3 * HOUR)]},
        at_ns=NOON + 4 * HOUR,
    )
    store(
        path, {"mail": [span(trace_id(5), 1, duration_ms=None, at_ns=NOON + 4 * HOUR)]}, at_ns=NOON + 5 * HOUR
    )
    return path


def read_ids(text: str) -> list[int]:
    """Return the numbers of the traces in a Jaeger file."""
    return [int(trace["traceID"][12:], 16) for trace in json.loads(text)["data"]]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [1, 2, 3, 4]),
        (["--unfinished"], [1, 2, 3, 4, 5]),
        ([trace_id(2).hex()[:32], trace_id(1).hex()], [1, 2]),
        (["--since", "2026-01-31T13:00Z"], [2, 3, 4]),
        (["--until", "2026-01-31T13:00Z"], [1]),
        (["--since", "2026-01-31T13:00Z", "--until", "2026-01-31T14:00:00.000001Z"], [2, 3]),
        (["--service", "stock"], [3, 4]),
        (["--service", "mail", "--unfinished"], [5]),
        (["--service", "shop", "--unfinished"], [1, 2, 3, 4]),
        (["--errors"], [3]),
        (["--errors", "--unfinished"], [3]),
        (["--slower-than", "20ms"], [2]),
        (["--slower-than", "19999us"], [2, 3]),
        (["--slower-than", "59m", "--unfinished"], [5]),
        (["--limit", "2"], [3, 4]),
        (["--limit", "2", "--unfinished"], [4, 5]),
        (["--since", "2026-01-31T16:00Z", "--unfinished"], [5]),
        (["--until", "2026-01-31T15:00:00.001Z", "--unfinished", "--service", "stock"], [3, 4]),
    ],
)
def test_conditions_choose_whole_trees(trees: Path, run: Run, options: list[str], found: list[int]) -> None:
    """All conditions must match, and the trees are exported in order of their start."""
    told = run("export", "--db", trees, "--format", "jaeger", *options)
    assert told.exit_code == 0, told.stderr
    assert read_ids(told.stdout) == found


def test_unfinished_spans_are_left_out_unless_asked_for(trees: Path, run: Run) -> None:
    """Unfinished spans are exported on request only, with a mark."""
    identifier = trace_id(4).hex()
    (tree,) = json.loads(run("export", identifier, "--db", trees, "--format", "jaeger").stdout)["data"]
    assert [each["spanID"] for each in tree["spans"]] == ["0000000000000002"]
    told = run("export", identifier, "--db", trees, "--format", "jaeger", "--unfinished")
    (tree,) = json.loads(told.stdout)["data"]
    root = tree["spans"][1]
    assert {"key": "ztrace.unfinished", "type": "bool", "value": True} in root["tags"]
    assert root["duration"] == HOUR // 1000


@pytest.mark.parametrize("options", [["--errors", "--service", "mail"], ["--since", "2026-02-01"]])
def test_nothing_found_writes_nothing(trees: Path, tmp_path: Path, run: Run, options: list[str]) -> None:
    """An empty selection prints one line, exits with status 1, and writes no file."""
    told = run("export", "--db", trees, "--output", tmp_path / "none.jsonl", *options)
    assert told.exit_code == 1
    assert told.stderr.startswith("ztrace: no matching call trees;")
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["ffff"], "ztrace: no trace begins with ffff"),
        (
            ["--to", "http://127.0.0.1:1", "--format", "otlp"],
            "ztrace: --to and --output exclude each other",
        ),
        (["--to", "ftp://box"], "ztrace: --to ftp:… is not the URL of an OTLP receiver"),
        (
            ["--output", "/nowhere/at/all.jsonl"],
            "ztrace: cannot write /nowhere/at/all.jsonl: No such file",
        ),
    ],
)
def test_what_cannot_be_done_is_told_on_a_line(
    trees: Path, run: Run, options: list[str], message: str
) -> None:
    """An error is one line with a remedy and without a traceback."""
    told = run("export", "--db", trees, *options)
    assert told.exit_code in (1, 2)
    assert told.stderr.startswith(message)
    assert told.stderr.count("\n") == 1


def test_a_file_is_written_and_compressed_by_its_name(trees: Path, tmp_path: Path, run: Run) -> None:
    """The format and the compression of a file follow its name, and no other file is left."""
    packed, plain = tmp_path / "to" / "a.jsonl.gz", tmp_path / "to" / "b.jsonl"
    packed.parent.mkdir()
    told = run("export", "--db", trees, "--output", packed)
    assert told.stderr == f"exported 5 spans in 4 trees to {packed}\n"
    run("export", "--db", trees, "-o", plain)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert run("export", "--db", trees).stdout_bytes == plain.read_bytes()
    assert run("export", "--db", trees, "-o", "-").stdout_bytes == plain.read_bytes()
    (line,) = plain.read_text().splitlines()
    assert set(json.loads(line)) == {"resourceSpans"}
    named = tmp_path / "to" / "x.speedscope.json.gz"
    run("export", "--db", trees, "-o", named)
    assert json.loads(gzip.decompress(named.read_bytes()))["exporter"].startswith("ztrace@")
    assert sorted(each.name for each in packed.parent.iterdir()) == [
        "a.jsonl.gz",
        "b.jsonl",
        "x.speedscope.json.gz",
    ]


@pytest.mark.parametrize("format_name", ["otlp", "jaeger", "chrome", "speedscope"])
def test_pieces_make_no_difference(
    path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    """Output is the same for trees read in pieces or together."""
    for number in range(1, 6):
        store(path, checkout(trace_id(number), NOON + number * MINUTE), at_ns=NOON)
    store(path, {"shop": [span(trace_id(1), 99, 1, duration_ms=None)]}, at_ns=NOON + SECOND)
    arguments = ("export", "--db", path, "--unfinished", "--format", format_name)

    def read() -> Any:
        text = run(*arguments).stdout
        return text if format_name != "otlp" else sorted(_read_spans(text), key=repr)

    whole = read()
    for size in (1, 4, 20):
        monkeypatch.setattr(pieces, "PIECE_SPANS", size)
        assert read() == whole


def _read_spans(text: str) -> list[Any]:
    return [
        (resource["resource"], span)
        for line in text.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.mark.process
@pytest.mark.usefixtures("_hears_hangup")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_file_as_it_was(path: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and SIGHUP remove the temporary file and keep the previous file."""
    many = [span(trace_id(number), 1, at_ns=NOON + number) for number in range(1, 8001)]
    store(path, {"shop": many[:4000]})
    store(path, {"shop": many[4000:]})
    folder = tmp_path / "to"
    folder.mkdir()
    (folder / "a.json").write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "export", "--db", str(path), "-o", str(folder / "a.json")],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    with process:
        _wait_for(lambda: len(list(folder.iterdir())) == 2)
        process.send_signal(number)
        _, told = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, told) == (128 + number, b"")
    assert [each.name for each in folder.iterdir()] == ["a.json"]
    assert (folder / "a.json").read_text() == "before"


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "timed out"
        time.sleep(0.001)


def test_a_receiver_gets_every_span(trees: Path, run: Run) -> None:
    """A receiver gets the spans of the selected trees only."""
    with answering(script()) as (url, received):
        told = run("export", "--db", trees, "--to", url, "--since", "2026-01-31T14:00Z")
    assert (told.exit_code, told.stderr) == (0, f"sent 3 spans in 2 trees to {url}/v1/traces\n")
    assert sorted(received.ids()) == sorted(
        [trace_id(3) + bytes(7) + b"\x01", trace_id(3) + bytes(7) + b"\x02", trace_id(4) + bytes(7) + b"\x02"]
    )


def test_a_receiver_that_is_busy_is_asked_again(trees: Path, run: Run) -> None:
    """A request answered with 503 is sent again after the requested delay."""
    with answering(script(Reply(503, headers={"retry-after": "0"}))) as (url, received):
        assert run("export", "--db", trees, "--to", url).exit_code == 0
    assert (len(received.requests), len(received.ids())) == (2, 5)


def test_a_receiver_that_refuses_is_told(trees: Path, run: Run) -> None:
    """Refused spans are reported with count, reason and answer, and exit status 2."""
    with answering(script(Reply(401, b"who are you?"))) as (url, _):
        told = run("export", "--db", trees, "--to", url)
    assert told.exit_code == 2
    assert told.stderr.startswith(f"ztrace: {url}/v1/traces refused 5 of 5 spans (HTTP 401: 5)")


def test_a_receiver_that_is_not_there_is_given_up(
    trees: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable receiver is given up after some attempts, with the number of spans sent."""
    monkeypatch.setattr(sending, "TRIES", 2)
    port = find_port()
    told = run("export", "--db", trees, "--to", f"http://127.0.0.1:{port}")
    assert told.exit_code == 2
    assert told.stderr.startswith(f"ztrace: http://127.0.0.1:{port}/v1/traces does not accept spans: ")
    assert told.stderr.endswith("; nothing was sent; start it and retry\n")
