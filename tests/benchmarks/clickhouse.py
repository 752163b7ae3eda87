"""CPU and bytes of a span in ClickHouse, against those in the collector's SQLite file.

Run by hand, with the extra ``scale``: ``python -m tests.benchmarks.clickhouse [--spans N]``. The call
trees of ``tests.benchmarks.collector`` are stored in a journal, 131,072 spans at a time, and each time
delivered to an engine, so both take turns on the same machine. The engine is ClickHouse in a process of
its own, over HTTP; its CPU counts with all its threads, merges included. Reading and encoding the
journal's rows counts for ClickHouse.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.collector import BATCH_SPANS, SERVICES, Template, make_templates, moved_on
from tests.clickhouse import Engine
from tests.collector.clickhouse.delivering import Shop
from ztrace.wire import DATA, TOPIC, Header, pack_header
from ztrace_collector.clickhouse.address import ClickHouseAddress, read_address
from ztrace_collector.clickhouse.engine import open_engine
from ztrace_collector.clickhouse.initializing import initialize
from ztrace_collector.clickhouse.schema import Layout
from ztrace_collector.clickhouse.settling.settler import settle_all
from ztrace_collector.settling.settler import settle_all as settle_file
from ztrace_collector.storing.store import Store
from ztrace_viewer.queries.figures import list_methods
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.clickhouse.store import ClickHouseStore, open_clickhouse
from ztrace_viewer.queries.traces import list_slowest, read_tree

#: Batches in a transaction of the journal, as the collector gathers them.
GATHERED = 10
#: Times that each answer is asked for.
_TIMES = 10
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the benchmark, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--spans", type=int, default=524_288, help="spans to store, in rounds of 131,072")
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
        both = own_settling_s + engine_settling_s
        print(f"{'settling':32}{1e6 * settling_s / spans:>10.2f}{1e6 * both / spans:>12.2f}", end="")
        print(f"{both / settling_s:>8.2f}")
        print(f"{'  reading, counting, sending':42}{1e6 * own_settling_s / spans:>12.2f}")
        print(f"{'  the engine':42}{1e6 * engine_settling_s / spans:>12.2f}\n")
        print(f"{'bytes per span':32}{file_bytes / spans:>10.1f}{on_disk(engine) / spans:>12.1f}")
        for line in engine.query(
            f"SELECT table, round(sum(bytes_on_disk) / {spans}, 2) AS each FROM system.parts"
            " WHERE active AND database = 'bench' GROUP BY table HAVING each >= 0.1 ORDER BY each DESC"
        ).splitlines():
            table, each = line.split("\t")
            print(f"{'  ' + table:42}{float(each):>12.1f}")
        print(f"\n{'answers':32}{'ms':>10}{'engine CPU':>12}")
        for name, took_s, engine_s in ask(engine, address):
            print(f"{'  ' + name:32}{1e3 * took_s:>10.0f}{1e3 * engine_s:>9.0f} ms")


def ask(engine: Engine, address: ClickHouseAddress) -> Iterator[tuple[str, float, float]]:
    """Yield the shortest time of each answer over a connection that is open, and the engine's CPU for it."""
    with open_clickhouse(address) as opened:
        slowest = bytes.fromhex(list_slowest(opened)["traces"][0]["trace_id"])
    answers: dict[str, Callable[[ClickHouseStore], object]] = {
        "slow": list_slowest,
        "errors": lambda store: list_groups(store, limit=20),
        "show": lambda store: read_tree(store, slowest),
        "stats": list_methods,
    }
    for name, answer in answers.items():
        took_s, engine_s = [], []
        for _ in range(_TIMES):
            with open_clickhouse(address) as opened:
                before_s, began_s = engine_cpu_s(engine), time.perf_counter()
                answer(opened)
                took_s.append(time.perf_counter() - began_s)
                engine_s.append(engine_cpu_s(engine) - before_s)
        yield name, min(took_s), sum(engine_s) / _TIMES


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
        waiting.append([TOPIC, pack_header(header), moved_on(template.body, number)])
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
