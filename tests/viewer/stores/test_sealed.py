"""The same documents from a file before and after its traces are sealed."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.collector.otlp.requests import read_all
from tests.collector.sealed import seal_file
from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, NOON, span_id, trace_id
from tests.viewer.stores.asked import QUESTIONS, Ask, make_ask
from tests.viewer.stores.mixed import HOSTILE, NOW, SAMPLED, SERVICES, fill
from ztrace_viewer.queries.following import Follower
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.conditions import SpanFilter
from ztrace_viewer.queries.stores.sqlite.screening import leave_out
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_arrangement, read_tree
from ztrace_viewer.queries.way import FIRST, LATEST, read_error
from ztrace_viewer.web.columns import make_columns


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a file, and a copy in which most traces are sealed."""
    folder = tmp_path_factory.mktemp("sealed")
    path, sealed = folder / "rows.db", folder / "sealed.db"
    fill(path)
    shutil.copy(path, sealed)
    assert seal_file(sealed, NOW) > 60
    return path, sealed


@pytest.fixture
def ask_both(both: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both files, compares what they answer, and returns one answer."""
    return make_ask(both, run, monkeypatch)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_sealed_file_answers_alike(ask_both: Ask, question: str) -> None:
    """A command has the same document, text and status before and after sealing."""
    ask_both(*question.split(), "--json")
    if not question.startswith("status"):  # Its text has the size of the file.
        ask_both(*question.split())


def test_the_questions_reach_sealed_spans(both: tuple[Path, Path]) -> None:
    """Of the copy, what is unfinished or not counted by path stays in rows, and everything else is sealed."""
    with closing(sqlite3.connect(both[1])) as db:
        left = {trace for (trace,) in db.execute("SELECT DISTINCT trace_id FROM spans")}
        opened = {trace for (trace,) in db.execute("SELECT trace_id FROM unfinished_spans")}
    assert trace_id(2_000, NOON + 4 * 60 * 10**9) in left
    assert len(left - opened) == 1


def test_searches_find_sealed_spans(ask_both: Ask) -> None:
    """Attributes, names with quotes, and failures are found in sealed spans."""
    assert ask_both("find", f"customer={HOSTILE}", "--json")["spans"]
    assert ask_both("find", "--errors", "--service", SERVICES[-1], "--limit", "1000", "--json")["spans"]
    assert ask_both("slow", "--method", HOSTILE, "--json")["traces"]


def test_searches_leave_out_what_cannot_match(both: tuple[Path, Path]) -> None:
    """Any conditions let the same spans through, and most traces without one are left out before."""
    chance, left_out = random.Random(7), 0
    with open_file(both[0]) as file, open_file(both[1]) as sealed:
        traces = [trace for (trace,) in file.db.execute("SELECT trace_id FROM traces")]
        methods = list(file.methods())
        for _ in range(120):
            wanted = SpanFilter(
                methods=chance.choice([None, chance.sample(methods, 3)]),
                min_ns=chance.choice([None, chance.randrange(60_000_000)]),
                max_ns=chance.choice([None, chance.randrange(60_000_000)]),
                failed=chance.choice([None, None, True, False]),
            )
            if chance.random() < 0.5:
                key, value = chance.choice([("n", "3"), ("customer", "Ada"), ("n", "99"), ("paid", "card")])
                wanted.add_tag(key, key, value, or_failed=chance.random() < 0.2)
            if chance.random() < 0.3:
                wanted.add_text(chance.choice(["Bob", "DROP", "nothing"]), chance.sample(methods, 2))
            spans = [*file.matching_spans(traces, wanted)]
            assert [*sealed.matching_spans(traces, wanted)] == spans
            assert sealed.matching_traces(traces, wanted) == {each.trace_id for each in spans}
            left = leave_out(sealed.db, traces, wanted)
            assert {each.trace_id for each in spans} <= {*left}
            left_out += len(traces) - len(left)
    assert left_out > 120 * len(traces) / 3


def test_every_sealed_tree_is_the_same(both: tuple[Path, Path], ask_both: Ask) -> None:
    """Each tree has the same spans, exceptions and missing parents, in rows and in columns."""
    with open_file(both[0]) as file, open_file(both[1]) as sealed:
        for summary in list_slowest(file, limit=500, now_ns=NOW)["traces"]:
            trace = bytes.fromhex(summary["trace_id"])
            assert read_tree(sealed, trace, NOW) == read_tree(file, trace, NOW)
            columns = [make_columns(trace, *read_arrangement(each, trace, NOW)) for each in (file, sealed)]
            assert columns[0] == columns[1]
            assert sealed.count_by_service([trace]) == file.count_by_service([trace])
            matching = [[*each.matching_stored([trace], SpanFilter(), ())] for each in (file, sealed)]
            assert matching[0] == matching[1]
    for options in ((), ("--json",), ("--flat", "--json"), ("--span", span_id(1).hex())):
        ask_both("show", trace_id(1_000, NOON).hex(), *options)
    ask_both("show", SAMPLED.hex(), "--span", span_id(1).hex(), "--stacks", "--json")


def test_every_error_of_a_sealed_trace_is_the_same(both: tuple[Path, Path]) -> None:
    """Each group has the same way to its origin, and errors are told again as they arrived."""
    with open_file(both[0]) as file, open_file(both[1]) as sealed:
        for group in list_groups(file, now_ns=NOW)["groups"]:
            for sample in (FIRST, LATEST):
                way = read_error(file, group["group"], sample, NOW)
                assert read_error(sealed, group["group"], sample, NOW) == way
    events = []
    for path in both:
        with open_file(path, snapshot=False) as store:
            follower = Follower(store, Selection(since_ns=NOON - HOUR))
            events.append([*follower.look(), *follower.look()])
    assert {each["event"] for each in events[0]} == {"error", "trace"}
    assert events[1] == events[0]


@pytest.mark.parametrize("form", ["otlp", "jaeger", "chrome", "speedscope"])
def test_exports_of_sealed_traces_are_the_same(
    both: tuple[Path, Path], run: Run, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Every form has the same text before and after, also of trees that are read in pieces."""
    monkeypatch.setattr("ztrace_viewer.queries.pieces.PIECE_SPANS", 4)
    for options in ("--unfinished", "--service billing --limit 9", "--errors"):
        one, other = (run("export", "--format", form, *options.split(), "--db", source) for source in both)
        assert one.exit_code == other.exit_code == 0
        assert one.stdout
        assert other.stdout == one.stdout


def test_what_is_sent_on_is_the_same(both: tuple[Path, Path]) -> None:
    """Spans that are read by their ids have the same order, values and exceptions."""
    rows, sealed = map(read_all, both)
    assert sealed == rows
    assert [each.id for each in rows] == list(range(1, len(rows) + 1))
    assert any(each.exception for each in rows)


def test_a_damaged_trace_is_told(both: tuple[Path, Path], run: Run, tmp_path: Path) -> None:
    """Commands name a damaged trace, and answer from all others."""
    trace, path = trace_id(1_000, NOON), tmp_path / "damaged.db"
    shutil.copy(both[1], path)
    with closing(sqlite3.connect(path)) as db, db:
        changed = db.execute(
            "UPDATE sealed_traces SET spans = CAST(x'00' || spans AS BLOB)"
            " WHERE trace = (SELECT id FROM traces WHERE trace_id = ?)",
            (trace,),
        ).rowcount
    assert changed == 1
    left_out = f"ztrace: the sealed spans of trace {trace.hex()} are damaged and left out"
    shown = run("show", trace.hex(), "--db", path)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.splitlines() == [
        left_out,
        f"ztrace: trace {trace.hex()} cannot be shown: its spans are damaged; look in a copy of the file",
    ]
    for command in ("find", "export --format jaeger", "slow", "errors", "map", "status"):
        whole, rest = (run(*command.split(), "--db", source) for source in (both[1], path))
        assert (rest.exit_code, bool(rest.stdout)) == (whole.exit_code, True)
        assert rest.stderr.splitlines() in (whole.stderr.splitlines(), [left_out, *whole.stderr.splitlines()])
