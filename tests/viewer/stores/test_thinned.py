"""The same answers from a file and from ClickHouse, both of which have been thinned."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.viewer.commands.test_thinned import make_id, thin, tree
from tests.viewer.conftest import Run
from tests.viewer.stored import HOUR, NOON, message, raised, span
from tests.viewer.stores.exported import sort_exported
from tests.viewer.stores.filling import copy_to_clickhouse
from ztrace_collector.clickhouse.address import read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.journals import announce
from ztrace_collector.clickhouse.thinning import Thinner
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.database import open_database
from ztrace_viewer.queries.paths import Paths
from ztrace_viewer.queries.samples import list_trees
from ztrace_viewer.queries.selection import EVERYTHING
from ztrace_viewer.queries.stores.opening import open_store

pytestmark = [pytest.mark.scale, pytest.mark.process]

#: Trees of the hour that is thinned, in the order of their ids: the first ones are the same in both stores.
NUMBERS = sorted(range(300), key=make_id)
DAY = 24 * HOUR

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def both(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield a file and a database with the same trees, of which an hour and a day have been thinned."""
    path = tmp_path_factory.mktemp("thinned") / "ztrace.db"
    url, clock = engine.url("thinned"), [NOON]
    later = [
        span(make_id(NUMBERS[each]), 5_000 + each, NUMBERS[each] + 1, name="mail", at_ns=NOON + DAY)
        for each in range(60)
    ]
    failed = span(
        make_id(5_000), 9_000, name="pay", at_ns=NOON + DAY, exception=raised("shop.Declined", "no")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: clock[0])
        # Durations differ, since of equal ones each store has others as the slowest.
        spans = [tree(each)[0] for each in NUMBERS]
        made = [
            each._replace(duration_ns=(each.duration_ns or 0) + place) for place, each in enumerate(spans)
        ]
        with Store(path, clock_ns=lambda: clock[0]) as store:
            store.store([message("shop", made)])
            list(settle_all(store, clock_ns=lambda: clock[0]))
        copy_to_clickhouse(path, url)
        with Store(path, clock_ns=lambda: clock[0]) as store:
            thin(store, clock)
        clock[0] = NOON + DAY
        # What comes a day later comes by way of another collector.
        other = path.with_name("other.db")
        for each in (path, other):
            with Store(each, clock_ns=lambda: clock[0]) as store:
                store.store([message("shop", [*later, failed], 2)])
        copy_to_clickhouse(other, url, journal="1" * 32)
    address = read_address(url, {})
    with open_engine(address) as client:
        announce(client, "0" * 32, (NOON + DAY) // 10**6)
        thinner = Thinner(client, 0.05)
        while thinner.step():
            pass
    yield path, url
    engine.query("DROP DATABASE thinned")


@pytest.fixture
def ask_both(both: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both, compares what they say, and returns it."""
    monkeypatch.setattr(time, "time_ns", lambda: NOON + 2 * DAY)
    # A search that ends at its deadline tells how far it came, which depends on the machine.
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 60)

    def ask(*arguments: object) -> Any:
        results = [run(*arguments, "--db", source) for source in both]
        told = [(each.exit_code, each.stdout, each.stderr) for each in results]
        assert told[1] == told[0]
        return told[0]

    return ask


@pytest.fixture
def kept(both: tuple[Path, str]) -> dict[bytes, int | None]:
    """Return the traces that the file has, with their thresholds."""
    with open_database(both[0]) as db:
        return dict(db.execute("SELECT trace_id, threshold FROM traces"))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("slow --limit 500", ""),
        ("find pay --limit 500", "of what is kept: traces up to 2026-01-31"),
        ("find pay --since 2026-02-01T12:30:00Z", ""),
        ("find nowhere", "are thinned"),
        ("explain shop.pay", "of what is kept: traces up to 2026-01-31"),
        ("diff shop.pay --slow", "of what is kept: traces up to 2026-01-31"),
        ("stats", ""),
        ("errors", ""),
    ],
)
def test_answers_are_the_same_and_say_what_is_missing(ask_both: Ask, command: str, told: str) -> None:
    """Lists have what is kept, figures are of all, and answers from spans say until when they are thinned."""
    _, out, err = ask_both(*command.split())
    assert told in out + err
    ask_both(*command.split(), "--json")


def test_status_counts_what_was_thinned(both: tuple[Path, str], run: Run) -> None:
    """Both have the same sums, and accounts that still count what was thinned."""
    documents = [json.loads(run("status", "--db", source, "--json").stdout) for source in both]
    names = (
        "spans_stored",
        "spans_thinned",
        "traces_stored",
        "traces_thinned",
        "spans_created",
        "spans_lost",
    )
    sums = [[document[name] for name in names] for document in documents]
    assert sums[0] == sums[1]
    assert sums[0][1] > 200
    text = run("status", "--db", both[1]).stdout
    assert f"{sums[0][1]} spans in {sums[0][3]} traces, which all figures still count" in text


def test_a_thinned_trace_is_told(ask_both: Ask, kept: dict[bytes, int | None]) -> None:
    """``show`` says that a trace was thinned, and of a later span that its parent was."""
    gone = next(make_id(number) for number in NUMBERS[60:] if make_id(number) not in kept)
    status, _, err = ask_both("show", gone.hex()[:28])
    assert (status, f"trace {gone.hex()} was thinned" in err) == (1, True)
    reasons = set()
    for number in NUMBERS[20:26]:
        _, out, _ = ask_both("show", make_id(number).hex(), "--json")
        reasons |= {each["reason"] for each in json.loads(out)["missing"]}
    assert reasons == {"thinned"}
    ask_both("show", make_id(NUMBERS[20]).hex())


def test_kept_trees_weigh_the_same(both: tuple[Path, str], kept: dict[bytes, int | None]) -> None:
    """Trees of the share have its weight in both stores, and the others 1."""
    weights = []
    for source in (both[0], read_address(both[1], {})):
        with open_store(source) as store:
            paths = Paths(store)
            methods = {paths.method(top) for top in paths.find_roots("shop.pay")}
            weights.append({each.trace_id: each.weight for each in list_trees(store, methods, EVERYTHING)})
    assert weights[0] == weights[1]
    assert {round(weight, 6) for weight in weights[0].values()} == {1, 20}


def test_exports_have_the_thresholds(both: tuple[Path, str], run: Run) -> None:
    """Exported spans have the same thresholds in ``tracestate``, and the command counts them."""
    results = [run("export", "--db", source) for source in both]
    assert "trees of thinned times" in results[0].stderr
    assert results[1].stderr.split(":")[1:] == results[0].stderr.split(":")[1:]
    one, other = (sort_exported(result.stdout, "otlp") for result in results)
    assert one == other
    assert any("ot=th:f3333333333333" in each for each in one)


def test_parquet_has_the_weights(both: tuple[Path, str], run: Run, tmp_path: Path) -> None:
    """The column ``weight`` is the same, and adds up to all trees but for chance."""
    import duckdb

    sums = []
    for place, source in enumerate(both):
        target = tmp_path / f"{place}.parquet"
        assert run("export", "--db", source, "--output", target).exit_code == 0
        with closing(duckdb.connect()) as db:
            sums.append(db.execute(f"SELECT count(*), sum(weight) FROM '{target}'").fetchone())
    assert sums[0] == sums[1]
