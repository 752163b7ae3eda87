"""Sealing of a store for tests: everything that has arrived is sealed once some hours have passed."""

from pathlib import Path

from tests.collector.storing.test_retention import Clock
from ztrace_collector.storing.sealing import Sealer
from ztrace_collector.storing.store import Store


def seal(store: Store, clock: Clock, sealer: Sealer | None = None) -> Sealer:
    """Let three hours pass, and seal what can be sealed; trees have to be settled before."""
    clock.pass_by(3 * 3600)
    sealer = sealer or Sealer(clock_s=clock.steady)
    while sealer.wait_s() == 0:
        sealer.step(store)
    return sealer


def seal_file(path: Path, now_ns: int) -> int:
    """Seal what can be sealed of a file, and return the number of sealed traces."""
    clock = Clock(now_ns)
    with Store(path, clock_ns=clock.wall) as store:
        seal(store, clock)
        ((count,),) = store.read("SELECT count(*) FROM sealed_traces")
    return int(count)
