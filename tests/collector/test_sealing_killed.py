"""A real collector that seals old traces, is killed meanwhile, and continues."""

from pathlib import Path

import pytest

from tests.collector.messages import Sender, make_span, span_id
from tests.collector.peers import Connect
from tests.collector.storing.test_retention import Clock, count
from tests.collector.storing.test_sealing import contents, fill
from tests.collector.test_service import process
from tests.ztrace.waiting import wait_for
from ztrace_collector.storing.store import Store

pytestmark = pytest.mark.process

#: Enough for some steps.
TRACES = 2_000


def test_a_kill_while_sealing_leaves_every_trace_whole(path: Path, connect: Connect) -> None:
    """A collector that is killed while it seals loses no span, and the next one continues and stores more."""
    with Store(path) as store:
        fill(store, Clock(), TRACES)
        with store.transaction() as db:
            db.execute("UPDATE arrivals SET hour = hour - 5")
    before, sealed = contents(path), 0

    def has_sealed() -> bool:
        return count(path, "sealed_traces") > sealed

    for _ in range(2):
        if sealed < TRACES:
            with process(path) as (collector, _):
                wait_for(has_sealed)
                collector.kill()
                collector.wait()
        assert contents(path) == before
        sealed = count(path, "sealed_traces")
        assert count(path, "spans") == 2 * (TRACES - sealed)
    with process(path) as (_, endpoint):
        peer = connect(endpoint)
        peer.sender = Sender(7)
        peer.wait_for_welcome()
        wait_for(lambda: count(path, "spans") == 0)
        peer.send(peer.sender.data(make_span(5, span_id=span_id(9_999_999))))
        peer.wait_for_ack(1)
        assert count(path, "spans") == 3
    assert count(path, "sealed_traces") == TRACES - 1
    assert len(contents(path)["spans"]) == 2 * TRACES + 1
