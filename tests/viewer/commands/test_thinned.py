"""Answers on a database of which an hour has been thinned."""

import json
import random
from functools import partial
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, NOON, message, raised, span
from ztrace.records import Span
from ztrace_collector.otlp.mapping.outgoing import Builder
from ztrace_collector.otlp.mapping.reading import read_process, read_traces
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_collector.storing.thinning import Thinner
from ztrace_collector.tables.thresholds import threshold_of, write_threshold
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.samples import list_trees
from ztrace_viewer.queries.selection import EVERYTHING
from ztrace_viewer.queries.stores.sqlite.store import open_file

#: Trees of the thinned hour.
TREES = 400
#: Time of a tree after the thinned hour.
LATER = NOON + 2 * HOUR


def make_id(number: int) -> bytes:
    """Return a trace id with a random end that the number decides."""
    return (NOON // 10**6).to_bytes(6, "big") + random.Random(number).randbytes(10)


def tree(number: int, at_ns: int = NOON) -> list[Span]:
    """Return a tree of one span; the last of all fails, and each card is one of four."""
    fails = number == TREES - 1
    error = raised("shop.Declined", "no card") if fails else None
    made = span(make_id(number), number + 1, name="pay", duration_ms=number % 50 + 1, exception=error)
    return [made._replace(start_ns=at_ns, attributes={"card": number % 4})]


def thin(store: Store, clock: list[int]) -> None:
    """Let hours pass, and thin what is over."""
    for _ in settle_all(store, clock_ns=lambda: clock[0]):
        pass
    clock[0] += 2 * HOUR
    thinner = Thinner(0.05, clock_s=lambda: 0.0)
    while thinner.wait_s() == 0:
        thinner.step(store)


@pytest.fixture(scope="module")
def thinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with an hour that was thinned, and a later tree."""
    path, clock = tmp_path_factory.mktemp("thinned") / "ztrace.db", [NOON]
    with Store(path, clock_ns=lambda: clock[0]) as store:
        store.store([message("shop", [each for number in range(TREES) for each in tree(number)])])
        thin(store, clock)
        store.store([message("shop", tree(TREES, LATER), 2)])
    return path


@pytest.fixture(scope="module")
def kept(thinned: Path) -> dict[bytes, int | None]:
    """Return the stored traces with their thresholds."""
    with open_database(thinned) as db:
        return dict(db.execute("SELECT trace_id, threshold FROM traces"))


@pytest.fixture
def gone(kept: dict[bytes, int | None]) -> str:
    """Return the id of a thinned trace."""
    return next(make_id(number).hex() for number in range(TREES) if make_id(number) not in kept)


def test_a_thinned_trace_is_told_in_one_line(run: Run, thinned: Path, gone: str) -> None:
    """``show`` says that a trace was thinned, by its id or the beginning of it, and exits with 1."""
    for given in (gone, gone[:28]):
        result = run("show", given, "--db", thinned)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert f"trace {gone} was thinned" in line
    unknown = run("show", "ffffffff", "--db", thinned)
    assert "no trace begins with ffffffff" in unknown.stderr


def test_the_rest_of_a_thinned_trace_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    """A span that comes after its tree was thinned is shown with that reason."""
    path, clock = tmp_path / "ztrace.db", [NOON]
    with Store(path, clock_ns=lambda: clock[0]) as store:
        store.store([message("shop", [each for number in range(60) for each in tree(number)])])
        thin(store, clock)
        ids = {trace for (trace,) in store.read("SELECT trace_id FROM traces")}
        number = next(number for number in range(60) if make_id(number) not in ids)
        late = span(make_id(number), 999, number + 1, name="mail", at_ns=clock[0])
        store.store([message("shop", [late], 2)])
    document = json.loads(run("show", make_id(number).hex(), "--db", path, "--json").stdout)
    assert [each["reason"] for each in document["missing"]] == ["thinned"]
    shown = run("show", make_id(number).hex(), "--db", path).stdout
    assert "? parent thinned, with all of this tree that came before" in shown


def test_status_counts_what_was_thinned(run: Run, thinned: Path, kept: dict[bytes, int | None]) -> None:
    """Thinned spans are part of the stored ones in accounts, and counted apart in the totals."""
    status = json.loads(run("status", "--db", thinned, "--json").stdout)
    count = TREES + 1 - len(kept)
    assert (status["spans_thinned"], status["traces_thinned"]) == (count, count)
    assert (status["spans_stored"], status["spans_lost"], status["spans_waiting"]) == (len(kept), 0, 0)
    assert sum(each["spans_stored"] for each in status["publishers"]) == status["spans_created"] == TREES + 1
    drawn = run("status", "--db", thinned).stdout
    assert f"{count} spans in {count} traces, which all figures still count" in drawn


def test_stats_and_errors_are_of_all(run: Run, thinned: Path) -> None:
    """Calls, errors and groups are those of all traces."""
    (method,) = json.loads(run("stats", "--db", thinned, "--json").stdout)["methods"]
    assert (method["calls"], method["errors"]) == (TREES + 1, 1)
    (group,) = json.loads(run("errors", "--db", thinned, "--json").stdout)["groups"]
    assert group["count"] == 1
    assert run("show", group["trace_id"], "--db", thinned).exit_code == 0


def test_answers_from_spans_say_that_some_are_missing(run: Run, thinned: Path) -> None:
    """``find``, ``explain`` and ``diff --slow`` say until when traces are thinned, if they reach that far."""
    for command in (("find", "pay"), ("explain", "shop.pay"), ("diff", "shop.pay", "--slow")):
        assert json.loads(run(*command, "--db", thinned, "--json").stdout)["thinned_until_ns"] == NOON
        assert "of what is kept: traces up to 2026-01-31" in run(*command, "--db", thinned).stdout
    later = run("find", "pay", "--since", "2026-01-31T12:30:00Z", "--db", thinned, "--json")
    assert json.loads(later.stdout)["thinned_until_ns"] is None
    nothing = run("find", "nowhere", "--db", thinned)
    assert nothing.exit_code == 1
    assert "are thinned" in nothing.stderr


def test_kept_trees_weigh_as_much_as_all(thinned: Path, kept: dict[bytes, int | None]) -> None:
    """The trees that ``explain`` compares weigh what their share stands for, and others 1."""
    with open_file(thinned) as store:
        paths = Paths(store)
        methods = {paths.method(top) for top in paths.find_roots("shop.pay")}
        trees = list_trees(store, methods, EVERYTHING)
    weights = {tree.trace_id: tree.weight for tree in trees}
    assert weights.keys() == kept.keys()
    for trace, threshold in kept.items():
        assert weights[trace] == pytest.approx(1 if threshold is None else 20)


def test_exports_have_the_threshold(
    run: Run, thinned: Path, kept: dict[bytes, int | None], tmp_path: Path
) -> None:
    """An exported span of the share has OpenTelemetry's threshold in tracestate, and the others have none."""
    target = tmp_path / "kept.jsonl"
    result = run("export", "--db", thinned, "--output", target)
    sampled = sum(threshold is not None for threshold in kept.values())
    assert f"{sampled} trees of thinned times: tracestate (ot=th) has the weight of each" in result.stderr
    again = tmp_path / "again.db"
    assert run("import", target, "--db", again).exit_code == 0
    with open_database(again) as db:
        for trace, threshold in kept.items():
            (stored,) = read_traces(db, [trace])
            made = (
                Builder(partial(read_process, db)).request([stored]).resource_spans[0].scope_spans[0].spans[0]
            )
            assert made.trace_state == ("" if threshold is None else "ot=th:f3333333333333")


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        ("", 0.5, "ot=th:8"),
        ("", 0.05, "ot=th:f3333333333333"),
        ("a=1,b=2", 0.25, "ot=th:c,a=1,b=2"),
        ("a=1, ot=rv:12345678901234;th:4", 0.25, "ot=th:c;rv:12345678901234,a=1"),
        ("ot=th:f,a=1", 0.25, "ot=th:f,a=1"),
        ("ot=th:rubbish", 0.5, "ot=th:8"),
    ],
)
def test_thresholds_join_a_tracestate(before: str, share: float, after: str) -> None:
    """A threshold joins what tracestate has; of two thresholds, the one that keeps less counts."""
    assert write_threshold(before, threshold_of(share)) == after


def test_a_tree_is_pinned_and_unpinned(run: Run, tmp_path: Path) -> None:
    """``show --pin`` and ``--unpin`` change the tree's row and say so; both together are an error."""
    path = tmp_path / "ztrace.db"
    with Store(path, clock_ns=lambda: NOON) as store:
        store.store([message("shop", tree(0))])
    for option, pinned in (("--pin", 1), ("--unpin", 0)):
        result = run("show", make_id(0).hex()[:20], option, "--db", path)
        assert result.exit_code == 0
        assert "pinned" in result.stdout
        with open_database(path) as db:
            assert db.execute("SELECT pinned FROM traces").fetchone() == (pinned,)
    document = json.loads(run("show", make_id(0).hex(), "--pin", "--json", "--db", path).stdout)
    assert document == {"trace_id": make_id(0).hex(), "pinned": True}
    both = run("show", make_id(0).hex(), "--pin", "--unpin", "--db", path)
    assert (both.exit_code, len(both.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("0", "out of bounds"),
        ("0.001%", "out of bounds"),
        ("100%", "out of bounds"),
        ("1", "out of bounds"),
        ("5", "out of bounds"),
        ("-5%", "is not a share"),
        ("%", "is not a share"),
        ("nan", "is not a share"),
        ("some", "is not a share"),
    ],
)
def test_other_shares_are_refused_in_one_line(run: Run, tmp_path: Path, given: str, told: str) -> None:
    """``--thin`` rejects what is no share, or out of bounds, and creates no file."""
    for command in ("up", "collect"):
        result = run(command, f"--thin={given}", "--db", tmp_path / "ztrace.db")
        assert result.exit_code == 2
        assert told in result.stderr.splitlines()[-1]
    assert not (tmp_path / "ztrace.db").exists()
