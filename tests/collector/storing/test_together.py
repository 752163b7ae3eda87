"""Small messages of a service are added together, with the same result as one by one."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, is_balanced, make_span, row, rows, span_id
from tests.collector.storing.test_retention import failure
from ztrace.records import ERROR
from ztrace_collector.storing import contents
from ztrace_collector.storing.store import Store

#: Tables and their columns that do not depend on how messages are divided into transactions.
COMPARED = (
    "SELECT trace_id, span_id, parent_id, methods.service, name, kind, instance_id, start_ns, duration_ns,"
    " self_ns, cpu_ns, status, attributes, links, details FROM spans JOIN methods ON methods.id = method"
    " JOIN instances ON instances.id = instance ORDER BY trace_id, span_id, instance_id, attributes",
    "SELECT trace_id, root_span_id, start_ns, end_ns, duration_ns, span_count, error_count, services"
    " FROM traces ORDER BY trace_id",
    "SELECT resolution_s, bucket, service, name, kind, calls, errors, total_ns, self_ns FROM method_figures"
    " JOIN methods ON methods.id = method ORDER BY 1, 2, 3, 4, 5",
    "SELECT instance_id, spans_created, spans_stored, spans_refused, next_sequence FROM publishers"
    " JOIN instances ON instances.id = instance ORDER BY 1",
    "SELECT instance_id, reason, sum(span_count) FROM losses JOIN instances ON instances.id = instance"
    " GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT trace_id, span_id, type, message, service FROM exceptions ORDER BY 1, 2, 3, 4, 5",
    "SELECT fingerprint, count FROM exception_groups ORDER BY 1",
    "SELECT reason, count FROM refusals ORDER BY 1",
    "SELECT name, value FROM totals ORDER BY 1",
)


def make_spans(chance: random.Random, service: str, number: int, bad: float) -> list[Any]:
    """Return some spans of a message: some fail, some have attributes, fewer fields, or are invalid.

    Roots of a trace are of one service, as the first service that has one keeps the trace.
    """
    spans = []
    for place in range(chance.randrange(1, 6)):
        own = 100 * number + place
        trace = chance.randrange(20)
        span = make_span(trace, span_id=span_id(own), name=chance.choice(["pay", "ship"]))
        changes: dict[str, Any] = {
            "parent_id": None if trace % 2 == (service == "shop") else span_id(chance.randrange(4000)),
            "start_ns": EPOCH_NS + chance.randrange(200_000) * MS,
            "attributes": chance.choice([None, {}, {"card": own}]),
            "cpu_ns": chance.choice([None, 7]),
            "links": chance.choice([None, None, ((span.trace_id, span_id(1)),)]),
        }
        if chance.random() < 0.2:
            changes |= {"status": ERROR, "exception": failure(own)}
        if chance.random() < bad:
            changes |= chance.choice([{"kind": 9}, {"span_id": b""}])
        span = span._replace(**changes)
        spans.append(tuple(span)[: chance.choice([13, 14, 14])] if chance.random() < 0.2 else span)
    return spans


def send(path: Path, seed: int, bad: float, size: int) -> list[list[tuple[Any, ...]]]:
    """Store the messages of a seed, so many in a transaction, and return what is stored."""
    chance = random.Random(seed)
    senders = [Sender(number, chance.choice(["shop", "bank"])) for number in range(5)]
    messages = []
    for number in range(60):
        sender = chance.choice(senders)
        messages.append(sender.data(*make_spans(chance, sender.service, number, bad)))
        if chance.random() < 0.1:
            sender.created += 2
            messages.append(sender.data(body=b"\xc1", span_count=2))
    with Store(path, clock_ns=lambda: EPOCH_NS) as store:
        for first in range(0, len(messages), size):
            store.store(messages[first : first + size])
        assert store.span_count == row(path, "SELECT count(*) AS n FROM spans")["n"]
    assert all(is_balanced(each) for each in rows(path, "SELECT * FROM publishers"))
    return [[tuple(each.values()) for each in rows(path, query)] for query in COMPARED]


@pytest.mark.parametrize(("seed", "bad", "size"), [(1, 0.0, 7), (2, 0.0, 100), (3, 0.02, 7), (4, 0.02, 100)])
def test_the_division_into_transactions_changes_nothing(
    tmp_path: Path, seed: int, bad: float, size: int
) -> None:
    """Messages of several publishers, some invalid, leave the same tables together as one by one."""
    assert send(tmp_path / "many.db", seed, bad, size) == send(tmp_path / "single.db", seed, bad, 1)


def test_spans_of_a_publisher_stay_in_order(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of each publisher have ids in the order of its messages, also when others send between them."""
    monkeypatch.setattr(contents, "TOGETHER", 10)
    senders = [Sender(0), Sender(1), Sender(2, "bank")]
    messages = [
        senders[number % 3].data(*[make_span(span_id=span_id(3 * number + place)) for place in range(3)])
        for number in range(30)
    ]
    store.store(messages)
    for number in range(3):
        found = rows(path, "SELECT span_id FROM spans WHERE instance = ? ORDER BY id", number + 1)
        ids = [each["span_id"] for each in found]
        assert len(ids) == 30
        assert ids == sorted(ids)


def test_a_refused_span_costs_its_neighbours_nothing(store: Store, path: Path) -> None:
    """Of messages added together, the span that is invalid is refused and lost for its publisher alone."""
    good, bad = Sender(0), Sender(1)
    store.store([good.data(make_span(1), make_span(2)), bad.data(make_span(3), make_span(4, kind=9))])
    accounts = rows(path, "SELECT spans_stored, spans_refused FROM publishers ORDER BY instance")
    assert [tuple(each.values()) for each in accounts] == [(2, 0), (1, 1)]
    assert row(path, "SELECT instance, reason, span_count FROM losses") == {
        "instance": 2,
        "reason": "refused",
        "span_count": 1,
    }
    assert row(path, "SELECT value FROM totals WHERE name = 'spans'")["value"] == 3
