"""Text, JSON, exit status and help of every command."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tests.viewer.commands.shapes import has_shape
from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, checkout, message, raised, span, store, trace_id
from ztrace import __version__
from ztrace_collector.storing.store import Store
from ztrace_viewer.cli import COMMANDS, ztrace
from ztrace_viewer.documents.errors import (
    ExceptionEvent,
)
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.documents.figures import MethodFigures, StatsTrendsDocument
from ztrace_viewer.documents.status import Publisher, StatusDocument
from ztrace_viewer.documents.traces import SlowDocument, TraceEvent, TraceSummary
from ztrace_viewer.documents.trees import SpanDocument, TimedInstance, TreeDocument

EVIL = "a\x1b[31mb\x9b2J\u202e[bold]"
FIRST = trace_id(1).hex()[:16]
Ask = Callable[..., Any]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, name: str) -> None:
    """Each command's help has its summary and an example."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert re.search(rf"^ +ztrace {name}\b", result.stdout, re.M)
    command = ztrace.get_command(click.Context(ztrace), name)
    assert command is not None
    assert command.get_short_help_str(200).rstrip(".") == COMMANDS[name].summary.rstrip(".")


def test_the_list_of_commands_fits_80_columns(run: Run) -> None:
    """The list of commands has one line per command within 80 columns."""
    result = run("--help", columns=80)
    assert result.exit_code == 0
    for name, place in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(place.summary)}$", result.stdout, re.M)


def test_the_version_is_told(run: Run) -> None:
    """``--version`` prints the version."""
    assert run("--version").stdout == f"ztrace {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("slow", "--nonsense"),
        ("slow", "--since", "yesterday"),
        ("slow", "--limit", "0"),
        ("slow", "--since", "1m", "--until", "2m"),
        ("show",),
        ("show", "nothex"),
        ("show", "abc"),
        ("error", "zz"),
        ("demo", "--seconds", "many"),
    ],
)
def test_wrong_usage_ends_with_status_2(run: Run, shop: Path, arguments: tuple[str, ...]) -> None:
    """Wrong usage exits with status 2 and an error on stderr."""
    named = () if arguments[0] in ("demo", "nonsense") else ("--db", shop)
    result = run(*arguments, *named)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr != ""
    assert "Traceback" not in result.stderr


def test_slow_lists_the_slowest_first(run: Run, shop: Path) -> None:
    """`slow` lists the slowest trees first, with ids that `show` accepts."""
    result = run("slow", "--db", shop)
    assert result.exit_code == 0
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["TRACE", "CALL", "TIME", "SPANS", "ERRORS", "STARTED", "SERVICES"]
    assert first.split()[:5] == [FIRST, "shop.checkout", "1.24s", "9", "4"]
    assert second.split()[2] == "620ms"
    assert run("show", first.split()[0], "--db", shop).exit_code == 0


def test_slow_in_json_has_the_documented_shape(ask: Ask, shop: Path) -> None:
    """`slow --json` has exactly the documented fields, and respects --limit and --since."""
    document = ask("slow", "--db", shop)
    has_shape(document, SlowDocument)
    for trace in document["traces"]:
        has_shape(trace, TraceSummary)
    assert document["traces"][0] == {
        "trace_id": trace_id(1).hex(),
        "service": "shop",
        "name": "checkout",
        "start_ns": NOON,
        "duration_ns": 1_240_000_000,
        "running_ns": None,
        "state": "finished",
        "span_count": 9,
        "unfinished_count": 0,
        "error_count": 4,
        "services": ["billing", "cart", "pricing", "shop", "stock"],
        "complete": True,
    }
    assert len(ask("slow", "--db", shop, "--limit", 1)["traces"]) == 1
    assert len(ask("slow", "--db", shop, "--since", "2026-01-31T12:00:30Z")["traces"]) == 1


def test_slow_lists_trees_with_errors(run: Run, ask: Ask, shop: Path, path: Path) -> None:
    """`slow --errors` lists trees with a failed span only."""
    assert ask("slow", "--db", shop, "--errors") == ask("slow", "--db", shop)
    store(path, {"shop": [span(trace_id(1), 1)]})
    result = run("slow", "--db", path, "--errors")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no call trees with errors" in result.stderr


def test_slow_marks_what_is_incomplete(run: Run, path: Path) -> None:
    """`slow` marks an incomplete tree and explains the mark."""
    store(path, {"shop": [span(trace_id(1), 2, 1)]})
    result = run("slow", "--db", path)
    assert "1+?" in result.stdout
    assert "incomplete" in result.stdout


def test_show_draws_a_tree(run: Run, ask: Ask, shop: Path) -> None:
    """`show` draws a tree, and its JSON has exactly the documented fields on every level."""
    assert "└╴cart.load" in run("show", FIRST, "--db", shop).stdout
    document = ask("show", FIRST, "--db", shop)
    has_shape(document, TreeDocument)
    pending = list(document["roots"])
    while pending:
        each = pending.pop()
        has_shape(each, SpanDocument)
        has_shape(each["instance"], TimedInstance)
        if each["exception"]:
            has_shape(each["exception"], ExceptionDocument)
        pending.extend(each["children"])


def test_show_cuts_at_its_limit(run: Run, path: Path) -> None:
    """`show` prints 200 spans unless --limit says otherwise."""
    trace = trace_id(1)
    store(path, {"shop": [span(trace, 1)] + [span(trace, n, 1, name=f"call{n}") for n in range(2, 302)]})
    assert "--limit 0 shows all" in run("show", trace.hex(), "--db", path).stdout
    assert "--limit" not in run("show", trace.hex(), "--db", path, "--limit", 0).stdout


def test_stats_shows_figures(run: Run, ask: Ask, shop: Path) -> None:
    """`stats` lists methods by total time, largest first."""
    document = ask("stats", "--db", shop)
    has_shape(document, StatsTrendsDocument)
    for method in document["methods"]:
        has_shape(method, MethodFigures)
    totals = [method["total_ns"] for method in document["methods"]]
    assert totals == sorted(totals, reverse=True)
    head, first, *_ = run("stats", "--db", shop).stdout.splitlines()
    assert head.split() == ["CALL", "CALLS", "ERRORS", "P50", "P95", "P99", "TOTAL", "OWN"]
    assert first.split()[:3] == ["shop.checkout", "2", "0"]
    assert "shop → price" in run("stats", "--db", shop).stdout


def test_stats_tells_kinds_of_one_name_apart(run: Run, path: Path) -> None:
    """A server and an internal method of one name have their kinds beside them, and others have not."""
    spans = [
        span(trace_id(1), 1),
        span(trace_id(1), 2, 1, kind="internal"),
        span(trace_id(1), 3, 1, name="rest"),
    ]
    store(path, {"shop": spans})
    text = run("stats", "--db", path).stdout
    assert sorted(line.partition("  ")[0] for line in text.splitlines()[1:]) == [
        "shop.rest",
        "shop.work (internal)",
        "shop.work (server)",
    ]


def test_status_shows_publishers(run: Run, ask: Ask, shop: Path) -> None:
    """`status` prints totals, losses and publishers."""
    document = ask("status", "--db", shop)
    has_shape(document, StatusDocument)
    for publisher in document["publishers"]:
        has_shape(publisher, Publisher)
    text = run("status", "--db", shop).stdout
    assert "18 spans in 2 traces" in text
    assert "lost        nothing" in text
    assert re.search(r"^stock +box +\d+ +silent", text, re.M)


def test_status_says_why_spans_were_lost(run: Run, path: Path) -> None:
    """`status` prints each loss and refusal with its reason."""
    with Store(path) as opened:
        opened.store(
            [message("shop", [span(trace_id(1), 1)], 1, created=6, dropped=5, mended={"scrubbed": 7}), [b"x"]]
        )
    text = run("status", "--db", path).stdout
    assert re.search(r"^created +6 spans$", text, re.M)
    assert re.search(r"^lost +5 spans$", text, re.M)
    assert re.search(r"^ +5  queue full  shop +box +1001  2026-01-31 12:00:00 to ", text, re.M)
    assert re.search(r"^rejected +frames 1$", text, re.M)
    assert re.search(r"^at source +scrubbed 7$", text, re.M)
    assert re.search(r"^ +1  frames  just now  1 frames instead of 3$", text, re.M)


NOTHING: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (("slow",), {"traces": []}),
    (("slow", "--service", "bank"), {"traces": []}),
    (("errors",), {"groups": []}),
    (("stats",), {"methods": [], "trends": None}),
    (("show", "abcdef"), {}),
    (("error", "abcdef"), {}),
]


@pytest.mark.parametrize(("arguments", "empty"), NOTHING)
def test_nothing_found_is_status_1(run: Run, path: Path, arguments: tuple[str, ...], empty: Any) -> None:
    """An empty result exits with status 1, and prints one line or an empty document."""
    Store(path).close()
    result = run(*arguments, "--db", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("ztrace: no ")
    assert result.stderr.count("\n") == 1
    result = run(*arguments, "--db", path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == empty


def test_the_database_is_named_by_option_variable_or_folder(
    run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is given by --db, ZTRACE_DB or the folder, in this order."""
    monkeypatch.chdir(shop.parent)
    assert "there is no database ztrace.db" in run("slow").stderr
    monkeypatch.setenv("ZTRACE_DB", "shop.db")
    assert run("slow").exit_code == 0
    assert "no database other.db" in run("slow", "--db", "other.db").stderr


@pytest.mark.parametrize("columns", [1, 12, 40, 80, 200])
def test_no_output_is_wider_than_the_screen(run: Run, ask: Ask, shop: Path, columns: int) -> None:
    """No command's output exceeds the screen's width, down to one column."""
    group = ask("errors", "--db", shop)["groups"][0]["group"]
    for arguments in (("slow",), ("errors",), ("error", group), ("show", FIRST), ("stats",), ("status",)):
        result = run(*arguments, "--db", shop, columns=columns)
        assert result.exit_code == 0
        assert max(map(len, result.stdout.splitlines())) <= columns


def test_nothing_from_the_wire_acts_on_the_terminal(run: Run, ask: Ask, path: Path) -> None:
    """No command prints control characters from stored data, and markup is printed literally."""
    error = raised(EVIL, EVIL, frames=[[EVIL, 1, EVIL, "m", EVIL, True]])
    store(path, {EVIL: [span(trace_id(1), 1, name=EVIL, exception=error, attributes={EVIL: EVIL})]})
    group = ask("errors", "--db", path)["groups"][0]["group"]
    for arguments in (("slow",), ("errors",), ("error", group), ("show", FIRST), ("stats",), ("status",)):
        for option in ((), ("--json",)):
            result = run(*arguments, "--db", path, *option, columns=200)
            assert result.exit_code == 0
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", result.stdout)
            assert "[bold]" in result.stdout


def test_tail_prints_a_line_for_each(run: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tail` prints one line per error and tree, and exits with status 0 on Ctrl-C."""
    store(path, checkout(trace_id(1)))
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("ztrace_viewer.commands.tail.time.sleep", nap)
    result = run("tail", "--db", path, "--since", "2026-01-31T00:00Z")
    assert result.exit_code == 0
    error, tree = result.stdout.splitlines()
    assert error.split(maxsplit=4)[1:4] == [FIRST, "error", "stock.reserve"]
    assert "ZeroDivisionError: division by zero" in error
    assert tree == f"12:00:00.000  {FIRST}    1.24s  shop.checkout  9 spans  4 errors"

    naps.clear()
    result = run("tail", "--db", path, "--since", "2026-01-31T00:00Z", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    has_shape(first, ExceptionEvent)
    has_shape(second, TraceEvent)
    assert (first["event"], second["event"]) == ("error", "trace")
