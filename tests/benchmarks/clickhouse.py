"""CPU and bytes of a span in ClickHouse, against those in the collector's SQLite file.

Run by hand, with the extra ``scale``: ``python -m tests.benchmarks.clickhouse [--spans N]``. The call
trees of ``tests.benchmarks.collector`` are stored in a journal, 131,072 spans at a time, and each time
delivered to an engine, so both take turns on the same machine. The engine is ClickHouse in a process of
its own, over HTTP; its CPU counts with all its threads, merges included. Reading and encoding the
journal's rows counts for ClickHouse. Answers are asked for over a connection that is kept.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

from tests.benchmarks.collector import BATCH_SPANS, SERVICES, Template, make_templates, moved_on
from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Shop
from ztrace.wire import DATA, TOPIC, Header, pack_header
from ztrace_collector.clickhouse.address import ClickHouseAddress, read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.settling.settler import settle_all
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.settling.settler import settle_all as settle_file
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, Pool
from ztrace_viewer.queries.traces import list_slowest, read_tree

if TYPE_CHECKING:
    from clickhouse_connect.driver.query import QueryResult

#: Batches in a transaction of the journal, as the collector gathers them.
GATHERED = 10
#: Rounds of 4.3 seconds from one round to the next, so that ten million spans began within a day.
_STEP = 264
#: Times that each answer is asked for.
_TIMES = 10
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the benchmark, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=524_288, help="spans to store, in rounds of 131,072")
    parser.add_argument("--no-settling", action="store_true", help="leave out counting by path")
    options = parser.parse_args()
    templates = make_templates(1)
    round_spans = len(templates) * BATCH_SPANS
    rounds = max(1, options.spans // round_spans)
    spans = rounds * round_spans
    with (
        tempfile.TemporaryDirectory(prefix="ztrace-clickhouse-") as name,
        Engine(Path(name) / "ch") as engine,
    ):
        address = read_address(engine.url("bench"), {})
        initialize(address, Layout(), lambda line: None)
        path = Path(name) / "journal.db"
        with Store(path) as store:
            shop = Shop(path, store, address)
            own_s = sqlite_s = 0.0
            before_s = engine_cpu_s(engine)
            for number in range(rounds):
                sqlite_s += cpu_of(partial(fill, store, templates, number))
                own_s += cpu_of(shop.deliver)
            engine_s = engine_cpu_s(engine) - before_s
            settling_s = own_settling_s = engine_settling_s = 0.0
            if not options.no_settling:
                settling_s = cpu_of(partial(settle_journal, store))
                before_s = engine_cpu_s(engine)
                with open_engine(address) as client:
                    own_settling_s = cpu_of(partial(settle_all, client))
                engine_settling_s = engine_cpu_s(engine) - before_s
        file_bytes = sum(each.stat().st_size for each in path.parent.glob("journal.db*"))
        stored = int(engine.query("SELECT count() FROM spans", "bench"))
        assert stored == spans, f"{stored:,} spans instead of {spans:,}"
        print(f"{spans:,} spans, {engine.query('SELECT version()').strip()}\n")
        print(f"{'CPU per span, µs':32}{'SQLite':>10}{'ClickHouse':>12}{'ratio':>8}")
        both = own_s + engine_s
        print(
            f"{'storing':32}{1e6 * sqlite_s / spans:>10.2f}{1e6 * both / spans:>12.2f}{both / sqlite_s:>8.2f}"
        )
        print(f"{'  reading, encoding, sending':42}{1e6 * own_s / spans:>12.2f}")
        print(f"{'  the engine':42}{1e6 * engine_s / spans:>12.2f}")
        if settling_s:
            both = own_settling_s + engine_settling_s
            print(f"{'settling':32}{1e6 * settling_s / spans:>10.2f}{1e6 * both / spans:>12.2f}", end="")
            print(f"{both / settling_s:>8.2f}")
            print(f"{'  reading, counting, sending':42}{1e6 * own_settling_s / spans:>12.2f}")
            print(f"{'  the engine':42}{1e6 * engine_settling_s / spans:>12.2f}")
        print(f"\n{'peak memory, MB':32}{peak_mb(os.getpid()):>10.0f}{peak_mb(engine.pid):>12.0f}\n")
        print(f"{'bytes per span':32}{file_bytes / spans:>10.1f}{on_disk(engine) / spans:>12.1f}")
        for line in engine.query(
            f"SELECT table, round(sum(bytes_on_disk) / {spans}, 2) AS each FROM system.parts"
            " WHERE active AND database = 'bench' GROUP BY table HAVING each >= 0.1 ORDER BY each DESC"
        ).splitlines():
            table, each = line.split("\t")
            print(f"{'  ' + table:42}{float(each):>12.1f}")
        print(f"\n{'answers':32}{'ms':>10}{'in engine':>12}{'engine CPU':>12}{'questions':>12}")
        for answer, cost in ask(engine, address):
            print(f"{'  ' + answer:32}{cost.whole_ms:>10.1f}{cost.inside_ms:>12.1f}", end="")
            print(f"{cost.cpu_ms:>12.1f}{cost.questions:>12}")


class Cost(NamedTuple):
    """Cost of an answer: time until its document is there, and of its questions within the engine."""

    whole_ms: float
    inside_ms: float
    cpu_ms: float
    questions: int


def ask(engine: Engine, address: ClickHouseAddress) -> Iterator[tuple[str, Cost]]:
    """Yield the least cost of each answer over a connection that is open."""
    pool = Pool(address)
    with pool.open() as opened:
        slowest = bytes.fromhex(list_slowest(opened)["traces"][0]["trace_id"])
        client = opened.reader.client
        last_ns = int(engine.query("SELECT max(start_ns) FROM roots", "bench"))
    asked: list[Mapping[str, str]] = []
    query = client.query

    def count(*arguments: Any, **named: Any) -> "QueryResult":
        result = query(*arguments, **named)
        asked.append(result.summary)
        return result

    hour = Selection(last_ns - HOUR_NS, None)
    answers: dict[str, Callable[[ClickHouseStore], object]] = {
        "slow": list_slowest,
        "slow, the last hour": lambda store: list_slowest(store, hour),
        "errors": lambda store: list_groups(store, limit=20),
        "show": lambda store: read_tree(store, slowest),
        "stats": list_methods,
    }
    with patch.object(client, "query", count):
        for name, answer in answers.items():
            costs = []
            for _ in range(_TIMES):
                asked.clear()
                with pool.open() as opened:
                    began_s = time.perf_counter()
                    answer(opened)
                    whole_ms = 1e3 * (time.perf_counter() - began_s)
                sums = [sum(int(each[key]) for each in asked) / 1e6 for key in ("elapsed_ns", "cpu_ns")]
                costs.append(Cost(whole_ms, sums[0], sums[1], len(asked)))
            yield name, Cost(*map(min, zip(*costs, strict=True)))
    pool.close()


def fill(store: Store, templates: list[Template], number: int) -> None:
    """Store a round of batches in the journal."""
    waiting = []
    for place, template in enumerate(templates):
        sequence = sum(each.service == template.service for each in templates[:place])
        whole = number * sum(each.service == template.service for each in templates) + sequence
        header = Header(
            DATA, bytes([1 + SERVICES.index(template.service)]) * 16, whole, whole, 1, BATCH_SPANS,
            BATCH_SPANS * (whole + 1), 0, BATCH_SPANS * whole, {}, template.service, "bench", 1, 0,
        )  # fmt: skip
        waiting.append([TOPIC, pack_header(header), moved_on(template.body, number * _STEP)])
        if len(waiting) == GATHERED or place == len(templates) - 1:
            store.store(waiting)
            waiting = []


def settle_journal(store: Store) -> None:
    """Count the trees of the journal by path."""
    for _ in settle_file(store):
        pass


def cpu_of(action: Callable[[], None]) -> float:
    """Return the CPU seconds that this process takes for an action."""
    before_s = time.process_time()
    action()
    return time.process_time() - before_s


def peak_mb(pid: int) -> float:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def engine_cpu_s(engine: Engine) -> float:
    """Return the CPU seconds that the engine has taken."""
    fields = Path(f"/proc/{engine.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def on_disk(engine: Engine) -> int:
    """Return the bytes of the engine's tables."""
    query = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'bench'"
    return int(engine.query(query))


if __name__ == "__main__":
    main()
