"""Traces of other programs on the terminal: stack traces, processes, clocks and ids unlike ztrace's."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run

TRACE = "a" * 31 + "1"
START_US = 1_790_000_000_000_000
JAVA = "java.io.IOException: closed\n\tat shop.Net.read(Net.java:3)\nCaused by: java.lang.Error\n\t... 2 more"


def jaeger_span(number: int, name: str, **changes: Any) -> dict[str, Any]:
    """Return a span of Jaeger's, below the first unless it is the first."""
    parent = [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": f"{1:016x}"}] if number > 1 else []
    return {
        "traceID": TRACE,
        "spanID": f"{number:016x}",
        "operationName": name,
        "references": parent,
        "startTime": START_US,
        "duration": 1000,
        "tags": [],
        "logs": [],
        "processID": "p1",
    } | changes


def bring(run: Run, home: Path, *spans: dict[str, Any]) -> None:
    """Import spans of Jaeger's as one trace into a database."""
    processes = {"p1": {"serviceName": "svc", "tags": []}, "p2": {"serviceName": "other", "tags": []}}
    file = home.with_suffix(".json")
    file.write_text(json.dumps({"data": [{"traceID": TRACE, "spans": spans, "processes": processes}]}))
    assert run("import", file, "--db", home).exit_code == 0


def failed(stack: str) -> dict[str, Any]:
    """Return a failed span with an error log."""
    fields = [
        {"key": key, "type": "string", "value": value}
        for key, value in (("event", "error"), ("stack", stack))
    ]
    return jaeger_span(
        1,
        "pay",
        tags=[{"key": "error", "type": "bool", "value": True}],
        logs=[{"timestamp": START_US, "fields": fields}],
    )


def test_a_foreign_stack_trace_is_printed_as_it_came(tmp_path: Path, run: Run) -> None:
    """Each line of a stack trace that is not Python's is printed, in the order and indentation it came in."""
    home = tmp_path / "home.db"
    bring(run, home, failed(JAVA))
    shown = run("show", TRACE, "--db", home).stdout
    (group,) = json.loads(run("errors", "--db", home, "--json").stdout)["groups"]
    told = run("error", group["group"], "--db", home).stdout
    for text in (shown, told):
        lines = text.splitlines()
        first, *rest = JAVA.expandtabs(4).splitlines()
        place = [number for number, line in enumerate(lines) if line.strip() == first][-1]
        indent = " " * (len(lines[place]) - len(first))
        assert lines[place + 1 :][: len(rest)] == [indent + line for line in rest]
    assert "error.kind" not in shown


@pytest.mark.parametrize("stack", ["\n".join(f"  at f{number}" for number in range(200)), "\x1b[2J\tat x"])
def test_a_foreign_stack_trace_is_bounded_and_harmless(tmp_path: Path, run: Run, stack: str) -> None:
    """A long stack trace is cut at its end, and nothing in it moves the cursor."""
    home = tmp_path / "home.db"
    bring(run, home, failed(stack))
    shown = run("show", TRACE, "--db", home).stdout
    assert shown.count("at ") <= 42
    assert "\x1b" not in shown


def test_an_unknown_process_has_no_number(tmp_path: Path, run: Run) -> None:
    """No display names a process id or a host that the sender did not tell."""
    home = tmp_path / "home.db"
    bring(run, home, failed(JAVA))
    (group,) = json.loads(run("errors", "--db", home, "--json").stdout)["groups"]
    told = run("error", group["group"], "--db", home).stdout
    assert "svc.pay\n" in told
    assert "pid" not in told
    row = run("status", "--db", home).stdout.splitlines()[-1].split()
    assert row[:3] == ["svc", "silent", "1"]
    chrome = run("export", "--db", home, "--format", "chrome").stdout
    names = {
        each["args"]["name"]
        for each in json.loads(chrome)["traceEvents"]
        if each.get("name") == "process_name"
    }
    assert names == {"svc"}


HOUR_US, YEAR_US = 3_600_000_000, 365 * 24 * 3_600_000_000


@pytest.mark.parametrize(
    ("away_us", "words"),
    [
        (-HOUR_US, "other.server begins 1h 0m before its caller svc.client"),
        (-START_US, "other.server begins 20717d 14h before its caller svc.client"),
        (HOUR_US, "other.server begins 1h 0m after its caller svc.client has ended"),
        (3 * YEAR_US, "other.server begins 1095d 0h after its caller svc.client has ended"),
    ],
)
def test_a_clock_that_is_off_hides_nothing(tmp_path: Path, run: Run, away_us: int, words: str) -> None:
    """A span with a wrong clock leaves its trace in the searches of its time, and the tree says so."""
    home = tmp_path / "home.db"
    off = jaeger_span(2, "server", startTime=START_US + away_us, duration=500, processID="p2")
    bring(run, home, jaeger_span(1, "client"), off, jaeger_span(3, "inner"))
    stretch = ("--since", "2026-09-21T14:13Z", "--until", "2026-09-21T14:14Z")
    (found,) = json.loads(run("slow", "--db", home, "--json", *stretch).stdout)["traces"]
    assert (found["start_ns"], found["duration_ns"]) == (START_US * 1000, 1_000_000)
    tree = json.loads(run("show", TRACE, "--db", home, "--json").stdout)
    assert (tree["start_ns"], tree["duration_ns"]) == (START_US * 1000, 1_000_000)
    shown = run("show", TRACE, "--db", home).stdout.splitlines()
    assert f"clocks differ: {words}" in shown
    assert next(line for line in shown if line.startswith("CALL")).endswith(" 1.00ms")
    exported = run("export", "--db", home, *stretch).stdout
    assert exported.count('"spanId"') == 3


def test_clocks_that_agree_are_no_matter(tmp_path: Path, run: Run) -> None:
    """Milliseconds between two clocks, and a callee in the caller's process, are not mentioned."""
    home = tmp_path / "home.db"
    near = jaeger_span(2, "server", startTime=START_US - 5_000, processID="p2")
    bring(run, home, jaeger_span(1, "client"), near, jaeger_span(3, "inner", startTime=START_US - HOUR_US))
    assert "clocks" not in run("show", TRACE, "--db", home).stdout


def test_a_start_of_zero_is_a_clock_that_was_never_set(tmp_path: Path, run: Run) -> None:
    """A span that begins at 0 and ends soon after is stored; one that ends today has lost its start."""
    home = tmp_path / "home.db"
    bring(
        run,
        home,
        jaeger_span(1, "r", startTime=0, duration=100),
        jaeger_span(2, "c", startTime=10, duration=10),
        jaeger_span(3, "lost", startTime=0, duration=START_US),
    )
    tree = json.loads(run("show", TRACE, "--db", home, "--json").stdout)
    assert (tree["start_ns"], tree["duration_ns"], tree["span_count"]) == (0, 100_000, 2)
    assert json.loads(run("status", "--db", home, "--json").stdout)["rejected"] == {"time": 1}


def test_an_empty_name_is_told(tmp_path: Path, run: Run) -> None:
    """A span without a name, and one of unseen characters, have a name on the terminal and none in JSON."""
    home = tmp_path / "home.db"
    bring(run, home, jaeger_span(1, ""), jaeger_span(2, "\u200b"))
    shown = run("show", TRACE, "--db", home).stdout
    assert "svc.(no name)" in run("slow", "--db", home).stdout
    assert shown.count("svc.(no name)") >= 3
    (root,) = json.loads(run("show", TRACE, "--db", home, "--json").stdout)["roots"]
    assert root["name"] == ""


@pytest.mark.parametrize("written", ["1e223ff1f80f1c69", "1E22", "0" * 16 + "1e223ff1f80f1c69"])
def test_an_id_of_64_bits_is_found(tmp_path: Path, run: Run, written: str) -> None:
    """A trace of a tracer with short ids is found by its digits, and listed by them."""
    home, file = tmp_path / "home.db", tmp_path / "zipkin.json"
    zipkin = {"traceId": "1e223ff1f80f1c69", "id": "1", "name": "get", "timestamp": START_US, "duration": 5}
    file.write_text(json.dumps([zipkin]))
    run("import", file, "--db", home)
    tree = json.loads(run("show", written, "--db", home, "--json").stdout)
    assert tree["trace_id"] == "0" * 16 + "1e223ff1f80f1c69"
    assert run("slow", "--db", home).stdout.splitlines()[1].startswith("1e223ff1f80f1c69  ")
