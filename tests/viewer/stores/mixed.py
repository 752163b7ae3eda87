"""Contents of a file with some of everything that a store answers about."""

import random
from pathlib import Path

from tests.viewer.stored import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    Sampled,
    checkout,
    header,
    message,
    open_message,
    raised,
    span,
    store,
    trace_id,
    travelled,
)
from ztrace import records, wire
from ztrace.records import RUN, WAIT, WAIT_BUSY
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store

#: Present time of the commands.
NOW = NOON + 2 * HOUR
SERVICES = ["shop", "billing", "stock", "Ünïcode \"quoted\" \\ 'service'"]
HOSTILE = "it's {a:String} \\' -- \n ; DROP TABLE spans"

#: Trace of which a span was sampled by itself.
SAMPLED = trace_id(3_000, NOON)


def make_random_trees(seed: int) -> list[list[bytes]]:
    """Return messages with random trees of an hour, some with errors, orphans and unfinished spans."""
    chance = random.Random(seed)
    messages = []
    for number in range(40):
        trace, at_ns = trace_id(number, NOON), NOON + chance.randrange(HOUR)
        spans: dict[str, list[records.Span]] = {}
        origin = None
        count = chance.randrange(1, 9)
        for each in range(1, count + 1):
            parent = None if each == 1 else chance.choice([*range(1, each), 99 if number % 9 == 0 else 1])
            exception = None
            if origin is not None and chance.random() < 0.5:
                exception = travelled("app.Lost", "no parcel 17", records.PASSED, (trace, origin))
            elif chance.random() < 0.15:
                origin, exception = each, raised(chance.choice(["app.Lost", "KeyError"]), f"no parcel {each}")
            name = chance.choice(["pay", "pack", "send", HOSTILE])
            made = span(
                trace,
                each,
                parent,
                name=name,
                kind=chance.choice(["server", "client", "internal", "producer", "consumer"]),
                start_ms=each + chance.random(),
                duration_ms=None if number % 11 == 3 and each == 1 else chance.random() * 50,
                self_ms=chance.random(),
                at_ns=at_ns,
                attributes={"customer": chance.choice(["Ada", "Bob", HOSTILE]), "n": each},
                exception=exception,
            )
            spans.setdefault(chance.choice(SERVICES), []).append(made)
        for service, batch in spans.items():
            publisher = 10_000 + 10 * number + SERVICES.index(service)
            ended = [each for each in batch if each.status != records.UNFINISHED]
            running = [each for each in batch if each.status == records.UNFINISHED]
            # More spans were created than arrived: some are lost.
            told = {"created": len(ended) + number % 3, "dropped": number % 3}
            messages.append(message(service, ended, publisher, **told))
            if running:
                created = len(ended) + number % 3
                told = {"sequence": 1, "created": created, "dropped": number % 3}
                messages.append(open_message(service, running, publisher, **told))
    return messages


def make_sale(number: int) -> dict[str, list[records.Span]]:
    """Return a tree of one of thirty minutes; later ones, and those paid by card, take longer."""
    at_ns = NOON + HOUR + number * MINUTE
    trace, card, late = trace_id(4_000 + number, at_ns), number % 5 == 0, number >= 15
    paid_ms = 20 + 40 * card + 30 * late + number % 3
    sell = span(trace, 1, name="sell", duration_ms=50 + paid_ms, at_ns=at_ns)
    ask = span(trace, 2, 1, name="charge", kind="client", start_ms=5, duration_ms=10 + paid_ms, at_ns=at_ns)
    paid = {"paid": "card" if card else "cash"}
    charge = span(trace, 3, 2, name="charge", start_ms=9, duration_ms=paid_ms, at_ns=at_ns, attributes=paid)
    return {"shop": [sell, ask], "billing": [charge]}


def make_samples(place: int) -> Sampled:
    """Return samples of a process of the shop, of another hour for each place."""
    sampled = Sampled("shop", at_ns=NOON + place * HOUR + MINUTE)
    sampled.add("pay", "main:1 pay:20 wait:7", WAIT, 60 + place)
    sampled.add("pay", "main:1 pay:21", RUN, 30)
    sampled.add("pack", "main:1 pay:20 wait:7", WAIT_BUSY, 10)
    sampled.add("never-called", "main:1 pay:21", RUN, 10)
    runs = (("main:1 load:26", WAIT_BUSY, 30, 2), ("main:1 render:32", RUN, 5 + place, 0))
    sampled.add_span(SAMPLED, 1, *runs)
    sampled.add_span(SAMPLED, 2, name="pay")
    return sampled


def fill(path: Path) -> Path:
    """Store trees, errors, losses, samples and unfinished spans in a file."""
    for number in range(3):
        at_ns = NOON + number * MINUTE
        store(path, checkout(trace_id(1_000 + number, at_ns), at_ns, 1 + number / 7), at_ns=at_ns)
    with Store(path, clock_ns=lambda: NOON + HOUR) as opened:
        opened.store(make_random_trees(1))
        opened.store([message("shop", [span(SAMPLED, each, name="pay") for each in (1, 2)], 80, created=2)])
        bye = header("shop", [], 10_000, kind=wire.BYE, sequence=1, floor=1, created=1, retired=1)
        opened.store([[wire.TOPIC, wire.pack_header(bye), wire.pack_stretch(NOON, NOON + 3 * SECOND)]])
        sales = [each for number in range(30) for each in make_sale(number).items()]
        opened.store(
            [
                message(*each, 5_000 + place, service_version="12"[place >= 30])
                for place, each in enumerate(sales)
            ]
        )
        list(settle_all(opened, clock_ns=lambda: NOW))
        opened.store([make_samples(place).message(90 + place) for place in range(2)])
    # These spans are not counted by path.
    late_ns = NOON + 4 * MINUTE
    store(path, checkout(trace_id(2_000, late_ns), late_ns), at_ns=NOON + HOUR)
    return path
