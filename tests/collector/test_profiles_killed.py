"""Profiles through a collector that is killed: acknowledged samples are there, and none is there twice."""

from pathlib import Path

import pytest

from tests.collector.messages import is_balanced, make_profile, make_span, row
from tests.collector.peers import Connect
from tests.collector.test_service import process

pytestmark = pytest.mark.process

#: Profiles sent to each life of the collector.
SENT = 40


def test_a_killed_collector_loses_no_acknowledged_sample(path: Path, connect: Connect) -> None:
    """After SIGKILL at any moment, publishers send the rest again, and each sample is stored once."""
    with process(path) as (first, endpoint):
        peer = connect(endpoint)
        peer.wait_for_welcome()
        sent = []
        for number in range(SENT):
            sent.append(peer.sender.profile(make_profile(samples=number)))
            sent.append(peer.sender.data(make_span(number)))
        peer.send(*sent)
        peer.wait_for_ack(SENT // 2)
        first.kill()
        first.wait()
    acknowledged = peer.acknowledged
    kept = row(path, "SELECT samples_stored, next_sequence FROM publishers")
    assert kept["next_sequence"] >= acknowledged
    with process(path) as (_, endpoint):
        again = connect(endpoint)
        again.wait_for_welcome()
        again.sender = peer.sender
        again.send(*sent[acknowledged:])
        again.wait_for_ack(2 * SENT)
        again.send(peer.sender.bye())
        again.wait_for_ack(2 * SENT + 1)
    publisher = row(path, "SELECT * FROM publishers")
    assert is_balanced(publisher)
    assert publisher["samples_stored"] == sum(range(SENT))
    assert publisher["samples_lost"] == 0
    assert row(path, "SELECT sum(run_ns + wait_ns) AS ns FROM stack_hours") == {"ns": SENT * 40_000_000}
