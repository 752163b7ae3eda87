"""CPU time of storing a span by the size of its message, beside bare inserts of the same rows.

Run by hand: ``python -m tests.benchmarks.messages``. The spans are those of `tests.benchmarks.collector`; a
transaction has as many messages as a collector gathers, and no socket takes part. Sizes alternate in one run.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import msgpack

from tests.benchmarks.collector import (
    BATCH_SPANS,
    ROUND_SPANS,
    Bare,
    Template,
    make_templates,
    moved_on,
    rows_of,
)
from ztrace.wire import DATA, TOPIC, Header, pack_header
from ztrace_collector.receiving.receiver import MAX_BYTES, MAX_MESSAGES
from ztrace_collector.storing.store import Store

SIZES = (BATCH_SPANS, 64, 8)
TURNS = 3


class Sending:
    """Publishers of a file, one of each service."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[bytes, int, int]] = {}

    def pack(self, template: Template, number: int, size: int) -> list[list[bytes]]:
        """Return a template as messages of so many spans."""
        body = moved_on(template.body, number)
        spans = msgpack.unpackb(body)
        bodies = [msgpack.packb(spans[first : first + size]) for first in range(0, len(spans), size)]
        messages = []
        for part in [body] if size == BATCH_SPANS else bodies:
            incarnation, sequence, created = self._sent.get(template.service, (os.urandom(16), 0, 0))
            self._sent[template.service] = incarnation, sequence + 1, created + size
            header = Header(
                DATA, incarnation, sequence, sequence, 1, size, created + size, 0, created, {},
                template.service, "bench", 1, 1,
            )  # fmt: skip
            messages.append([TOPIC, pack_header(header), part])
        return messages


def gather(messages: list[list[bytes]]) -> list[list[list[bytes]]]:
    """Return messages in transactions, as a busy collector gathers them."""
    parts: list[list[list[bytes]]] = [[]]
    byte_count = 0
    for message in messages:
        if len(parts[-1]) >= MAX_MESSAGES or byte_count >= MAX_BYTES:
            parts.append([])
            byte_count = 0
        parts[-1].append(message)
        byte_count += sum(map(len, message))
    return parts


def main() -> None:
    """Run the benchmark, and print the table."""
    templates = make_templates(1)
    figures: dict[str, list[float]] = {}
    for _turn in range(TURNS):
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "store.db") as store:
                sending = Sending()
                messages = [each for template in templates for each in sending.pack(template, 0, size)]
                transactions = gather(messages)
                begin_s = time.process_time()
                for each in transactions:
                    store.store(each)
                taken_s = time.process_time() - begin_s
                assert store.span_count == ROUND_SPANS
            figures.setdefault(f"{size} spans a message", []).append(1e6 * taken_s / ROUND_SPANS)
        with tempfile.TemporaryDirectory() as folder:
            bare = Bare(Path(folder) / "bare.db")
            rows = rows_of(templates, 0)
            begin_s = time.process_time()
            bare.insert(rows)
            figures.setdefault("bare executemany", []).append(
                1e6 * (time.process_time() - begin_s) / ROUND_SPANS
            )
            bare.db.close()
    for name, values in figures.items():
        print(f"{name:24}{statistics.median(values):8.2f} µs CPU a span")


if __name__ == "__main__":
    main()
