"""The same documents from a collector's file and from ClickHouse, to which all of its rows were sent."""

import socket
from pathlib import Path

import pytest

from tests.clickhouse import Engine
from tests.viewer.conftest import Run
from tests.viewer.stored import (
    MINUTE,
    NOON,
    span_id,
    trace_id,
)
from tests.viewer.stores.asked import QUESTIONS, Ask, make_ask
from tests.viewer.stores.exported import sort_exported
from tests.viewer.stores.mixed import HOSTILE, NOW, SAMPLED, SERVICES
from ztrace_collector.clickhouse import engine as connecting
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import SCHEMA_VERSION, VERSIONS, Layout
from ztrace_viewer.queries.deadline import Deadline, TooLong
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.clickhouse.store import open_clickhouse
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_arrangement, read_tree
from ztrace_viewer.queries.way import FIRST, LATEST, read_error
from ztrace_viewer.web.columns import make_columns

pytestmark = [pytest.mark.scale, pytest.mark.process]


@pytest.fixture
def ask_both(both: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both stores, compares their documents, and returns one."""
    return make_ask(both, run, monkeypatch)


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_stores_answer_alike(ask_both: Ask, question: str) -> None:
    """A command has the same document, text and status from either store."""
    ask_both(*question.split(), "--json")
    if not question.startswith("status"):  # Its text has the size of the store.
        ask_both(*question.split())


def test_names_that_look_like_sql_are_names(ask_both: Ask) -> None:
    """Names and values with quotes, braces and statements are found as they are."""
    assert ask_both("slow", "--method", HOSTILE, "--json")["traces"]
    assert ask_both("find", f"customer={HOSTILE}", "--json")["spans"]
    assert ask_both("stats", "--service", SERVICES[-1], "--json")["methods"]
    assert ask_both("errors", "--text", HOSTILE, "--json") == {"groups": []}
    assert ask_both("map", "--service", SERVICES[-1], "--json")["calls"]


def test_every_tree_is_the_same(both: tuple[Path, str], ask_both: Ask) -> None:
    """Each tree has the same spans, exceptions and missing parents, in rows and in columns."""
    reasons = set()
    with open_file(both[0]) as file, open_clickhouse(read_address(both[1])) as database:
        for summary in list_slowest(file, limit=500, now_ns=NOW)["traces"]:
            trace = bytes.fromhex(summary["trace_id"])
            tree = read_tree(file, trace, NOW)
            assert read_tree(database, trace, NOW) == tree
            columns = [make_columns(trace, *read_arrangement(each, trace, NOW)) for each in (file, database)]
            assert columns[0] == columns[1]
            reasons |= {each["reason"] for each in tree["missing"]}
    assert {"lost", "ended with its process"} <= reasons
    for options in ((), ("--json",), ("--flat", "--json"), ("--span", span_id(1).hex())):
        ask_both("show", trace_id(1_000, NOON).hex(), *options)
    ask_both("show", trace_id(3, NOON).hex())


def test_what_is_slow_is_explained_alike(ask_both: Ask) -> None:
    """The attribute of the slow trees, and the path that takes longer, are found in both stores."""
    assert ask_both("explain", "shop.sell", "--json")["attributes"][0]["value"] == "card"
    one, other = "2026-01-31T13:00..2026-01-31T13:15", "2026-01-31T13:15..2026-01-31T13:30"
    assert ask_both("diff", "--by", "service.version", "--before", "3") == ""  # There is no version 3.
    document = ask_both("diff", "shop.sell", "--before", one, "--after", other, "--json")
    assert document["before"] == document["after"] == {"traces": 15, "minutes": 15}
    assert any(change["sure"] for change in document["paths"])


@pytest.mark.parametrize("form", ["otlp", "jaeger", "chrome", "speedscope"])
def test_exports_have_the_same_spans(both: tuple[Path, str], run: Run, form: str) -> None:
    """Every form has the same spans, processes and exceptions from either store."""
    for options in (("--unfinished",), ("--service", "billing", "--limit", "9")):
        results = [run("export", "--format", form, *options, "--db", source) for source in both]
        assert [result.exit_code for result in results] == [0, 0]
        one, other = (sort_exported(result.stdout, form) for result in results)
        assert one
        assert other == one


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--errors",
        "--slower-than 60ms",
        "--since 2026-01-31T12:20 --until 2026-01-31T12:40",
        "--since 2026-01-31T12:20 --until 2026-01-31T12:40 --unfinished --slower-than 5ms",
        "--service stock --unfinished",
        "--limit 7 --unfinished",
        f"{SAMPLED.hex()} {trace_id(1_000, NOON).hex()}",
    ],
)
def test_exports_have_the_same_trees(
    both: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    """Conditions choose the same trees, also those that are read in pieces."""
    monkeypatch.setattr("ztrace_viewer.queries.pieces.PIECE_SPANS", 4)
    results = [run("export", *options.split(), "--db", source) for source in both]
    one, other = (sort_exported(result.stdout, "otlp") for result in results)
    assert other == one
    assert [result.exit_code for result in results] == [0, 0]
    assert one


def test_sampled_code_is_the_same(ask_both: Ask) -> None:
    """Code of a span, with the span that ran meanwhile, and of methods, in all forms."""
    stacks = ask_both("show", SAMPLED.hex(), "--span", span_id(1).hex(), "--stacks", "--json")["stacks"]
    assert [each["ns"] for each in stacks] == [60_000_000, 11_000_000]
    assert stacks[0]["behind"][0]["name"] == "pay"
    paths = ask_both("profile", "shop.pay", "--json")["paths"]
    stacks = [stack for each in paths for stack in each["stacks"]]
    assert {frame["line"] for stack in stacks for frame in stack["frames"]} >= {1, 7, 20, 21}
    for unknown in ("nobody.nothing", "pay", "charge"):  # No root, that of several, and one below others.
        assert ask_both("profile", unknown) == ""
    for form in ("collapsed", "speedscope", "html"):
        assert ask_both("profile", "--format", form)


def test_every_error_is_the_same(both: tuple[Path, str], ask_both: Ask) -> None:
    """Each group has the same samples and the same way to its origin."""
    with open_file(both[0]) as file, open_clickhouse(read_address(both[1])) as database:
        groups = list_groups(file, now_ns=NOW)["groups"]
        assert len(groups) > 2
        for group in groups:
            for sample in {FIRST, LATEST, group["samples"][len(group["samples"]) // 2]["trace_id"]}:
                way = read_error(file, group["group"], sample, NOW)
                assert read_error(database, group["group"], sample, NOW) == way
    ask_both("error", groups[0]["group"])
    ask_both("error", groups[0]["group"], "--all-frames", "--json")


def test_ids_are_found_by_their_beginning(ask_both: Ask) -> None:
    """Beginnings of ids, ambiguous ones and unknown ones are answered alike."""
    whole = trace_id(1_001, NOON + MINUTE).hex()
    assert ask_both("show", whole[:13], "--json")["trace_id"] == whole
    for wrong in (trace_id(1, NOON).hex()[:12], "ffff", "xyz", "ab"):
        assert ask_both("show", wrong) == ""
        assert ask_both("error", wrong) == ""


def fail(run: Run, *arguments: object) -> str:
    """Run a command that fails with one line; return the line."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    return line


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("command", ["slow", "tail", "open", "web", "mcp"])
def test_an_engine_that_is_away_is_told(run: Run, command: str) -> None:
    """An address at which nothing listens is one line, without the password."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = fail(run, command, "--db", f"clickhouse://ada:secret@127.0.0.1:{port}/ztrace")
    assert line == (
        f"ztrace: cannot reach clickhouse://127.0.0.1:{port}/ztrace: Connection refused;"
        " check the address, and whether the server runs"
    )


@pytest.mark.parametrize("command", ["slow", "tail", "open", "web", "mcp"])
def test_a_database_without_tables_is_told(run: Run, engine: Engine, database: str, command: str) -> None:
    """A database that is missing, or has no tables, is told from one that cannot be reached."""
    url = engine.url(database)
    hint = f"run 'ztrace clickhouse init {url}'"
    assert fail(run, command, "--db", url) == f"ztrace: {url} has no tables of ztrace; {hint}"
    assert "does not exist; run 'ztrace clickhouse init" in fail(run, command, "--db", f"{url}_none")


def test_tables_of_another_version_are_told(run: Run, engine: Engine, database: str) -> None:
    """Tables that a newer ztrace has made are not read."""
    url = engine.url(database)
    initialize(read_address(url), Layout(), lambda line: None)
    engine.query(f"INSERT INTO {VERSIONS} VALUES ({SCHEMA_VERSION + 1}, 'x', now())", database)
    line = fail(run, "find", "pay", "--db", url)
    assert f"has tables of version {SCHEMA_VERSION + 1}, written by a newer ztrace" in line


def test_an_old_engine_is_told(
    run: Run, engine: Engine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine older than those that are supported is one line with the oldest that is."""
    monkeypatch.setattr(connecting, "OLDEST", (99, 1))
    line = fail(run, "errors", "--db", engine.url(database))
    assert line.endswith("which is too old; use 99.1 or newer")


def test_a_search_ends_at_its_deadline(both: tuple[Path, str]) -> None:
    """A question after the deadline is not asked, and one that takes too long is ended by the server."""
    with open_clickhouse(read_address(both[1])) as opened:
        with pytest.raises(TooLong), opened.within(Deadline(0)):
            opened.first_start()
        slow = "SELECT count() FROM numbers(100000000000) WHERE sipHash64(number) = 1"
        with pytest.raises(TooLong), opened.within(Deadline(1)):
            opened.reader.query(slow)
        assert opened.first_start() is not None
