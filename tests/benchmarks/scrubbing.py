"""Cost of scrubbing: per span of a batch relative to encoding alone, and by the length of hostile texts.

    python -m tests.benchmarks.scrubbing

- batches: the thread's CPU time per span, in batches of 2048, with and without the rules.
- hostile texts: time for a text of 4,096 characters and for one ten times as long. A ratio around 10 means
linear
  growth, around 100 quadratic. `tests/ztrace/scrubbing/test_scrubbing.py` reads the same texts.
"""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from ztrace.publishing.encoding import encode
from ztrace.records import Record
from ztrace.scrubbing.rules import Rules

#: Spans per batch, batches of a kind, and rounds.
SPANS, BATCHES, ROUNDS = 2048, 8, 10

#: Pieces repeated to make texts on which a backtracking pattern would backtrack far.
HOSTILE = (
    "password=",
    "password='",
    "password='\\",
    'password "',
    "auth=(",
    "auth=[{",
    "auth={'",
    "token=a,b ",
    "api key: ",
    'cookie: "   ',
    "<token>",
    "<token a='",
    "<token x='y'>",
    "<token><![CDATA[",
    "</token><token>",
    "key='token' ",
    "name: token value",
    "token:\n ",
    "token=\nauth=a,",
    "token: |\n x\n",
    "token: |\n",
    'auth: Digest a="b", ',
    "digest a=b,",
    'auth: Digest a="',
    "get('token', ",
    "('token', '",
    "('token','a')",
    "[[[[",
    "token = x or ",
    'token = "a" + ',
    'token = "a" if x else "b" ',
    "a.a.",
    "a-a-",
    "%3D",
    "--a",
    "://",
    "://a:",
    "://a:b@",
    "@:/ ",
    "eyJ",
    "-eyJ",
    "eyJabcdefghijklmnop.",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY",
    "bearer ",
    "Basic a",
    "sk-",
    "sk-a",
    "xoxb-",
    "SG.",
    "Aa",
    "\\",
    '\\"',
    ",a",
    " ",
)

#: Attributes of each kind of batch beside the usual ones.
EXTRAS: dict[str, Callable[[int], dict[str, Any]]] = {
    "usual attributes": lambda number: {},
    "a text of its own": lambda number: {"order": os.urandom(18).hex()},
    "a list": lambda number: {"items": ["a", "b", number]},
    "a secret in one of 100": lambda number: {} if number % 100 else {"url": "amqp://bob:hunter2@mq/x"},
    "a secret in each": lambda number: {"session_id": os.urandom(8).hex()},
}


def main() -> None:
    """Measure batches and hostile texts, and print the tables."""
    print(f"{'CPU per span':24} {'without':>10} {'with':>10} {'ratio':>7}")
    for label, extra in EXTRAS.items():
        without, with_rules = measure_batches(extra)
        print(f"{label:24} {without:8.2f}µs {with_rules:8.2f}µs {with_rules / without:7.2f}")
    print(f"\n{'hostile text of':24} {'4,096':>10} {'40,960':>10} {'ratio':>7}")
    rules = Rules()
    for atom in HOSTILE:
        short, long = (measure_text(rules, atom, length) for length in (4096, 40_960))
        print(f"{atom!r:24} {short * 1e3:8.2f}ms {long * 1e3:8.2f}ms {long / short:7.1f}")


def make_record(number: int, extra: dict[str, Any]) -> Record:
    """Return a record as the zerorpc middleware makes it."""
    attributes = {
        "rpc.system.name": "zerorpc",
        "server.address": "tcp://127.0.0.1:4242",
        "rpc.method": "charge",
        "zerorpc.size": 120,
        **extra,
    }
    return (
        os.urandom(16),
        os.urandom(8),
        None,
        1,
        "charge",
        number,
        10,
        10,
        None,
        0,
        attributes,
        None,
        None,
        None,
    )


def measure_batches(extra: Callable[[int], dict[str, Any]]) -> tuple[float, float]:
    """Return µs per span without and with rules, measured alternately."""
    batches = [[make_record(number, extra(number)) for number in range(SPANS)] for _ in range(BATCHES)]
    figures: list[tuple[float, float]] = []
    rules = Rules()
    for _ in range(ROUNDS):
        for batch in batches:
            pair = []
            for chosen in (None, rules):
                began_ns = time.thread_time_ns()
                for _ in encode(batch, chosen):
                    pass
                pair.append((time.thread_time_ns() - began_ns) / SPANS / 1000)
            figures.append((pair[0], pair[1]))
    return statistics.median(one for one, _ in figures), statistics.median(two for _, two in figures)


def measure_text(rules: Rules, atom: str, length: int) -> float:
    """Return the seconds to scrub a repeated piece, as a message and as a line of source."""
    text = "token=:@ " + atom * (length // len(atom))
    took_s = []
    for number in range(3):
        began_s = time.perf_counter()
        rules.scrub(f"{number} {text}")
        rules.scrub_code(f"{number} {text}")
        took_s.append(time.perf_counter() - began_s)
    return min(took_s)


if __name__ == "__main__":
    main()
