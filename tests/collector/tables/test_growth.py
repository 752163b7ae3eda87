"""Pages that storing changes in a file that has much already.

One idea: a page that a transaction changes is written to the log as a whole, so rows whose keys are scattered
over a large index cost a page each.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector.messages import EPOCH_NS
from ztrace_collector.layout import HOUR_NS
from ztrace_collector.storing.store import Store

#: Rows stored before, of one hour, and rows of a transaction.
MANY, FEW = 40_000, 500
#: Bytes of the log for a row: traces take some 1,600, since failed ones are in two indexes, exceptions 400.
TRACE_BYTES, EXCEPTION_BYTES = 2_500, 1_000

TRACE = """
INSERT INTO traces (id, trace_id, root_method, start_ns, end_ns, duration_ns, span_count, error_count,
    services, hour) VALUES (:id, :trace_id, 1, :at_ns, :at_ns, :random, 1, 1, '[]', :hour)
"""
EXCEPTION = """
INSERT INTO exceptions (trace_id, span_id, origin_trace_id, origin_span_id, exception_group, how, type,
    message, frames, causes, at_ns, notes, members, is_root, service, kind, instance, derived)
VALUES (:trace_id, :span_id, :trace_id, :span_id, 1, 'raised', '', '', '[]', '[]', :at_ns, '[]', '[]', 0, '',
    '', 1, 1)
"""


def insert(store: Store, statement: str, ids: range, rng: random.Random) -> None:
    """Insert rows in one transaction, with random durations and ids of spans."""
    with store.transaction() as db:
        db.executemany(statement, make_rows(ids, rng))


def make_rows(ids: range, rng: random.Random) -> Iterator[dict[str, object]]:
    """Yield the values of rows."""
    for each in ids:
        yield {
            "id": each,
            "trace_id": each.to_bytes(16, "big"),
            "span_id": rng.randbytes(8),
            "at_ns": EPOCH_NS + each,
            "hour": EPOCH_NS // HOUR_NS,
            "random": rng.randrange(10**9),
        }


@pytest.mark.parametrize(
    ("statement", "most"),
    [(TRACE, TRACE_BYTES), (EXCEPTION, EXCEPTION_BYTES)],
    ids=["traces", "exceptions"],
)
def test_a_transaction_changes_few_pages_of_a_large_hour(
    store: Store, path: Path, statement: str, most: int
) -> None:
    """The rows of a transaction lie close together in every index, however many rows their hour has."""
    rng = random.Random(1)
    insert(store, statement, range(1, MANY), rng)
    store.checkpoint()
    insert(store, statement, range(MANY, MANY + FEW), rng)
    assert 0 < Path(f"{path}-wal").stat().st_size / FEW < most
