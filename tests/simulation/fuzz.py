"""Fuzzer of all code that parses data from the wire.

    python -m tests.simulation.fuzz --minutes 1           from a new seed, which is printed
    python -m tests.simulation.fuzz --minutes 1 --seed 7  from a given seed

One idea: start from messages as publishers send them and break each one slightly, so that they pass the first
check. After each message, every span must be stored or counted.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgpack

from tests.collector.messages import EPOCH_NS, Sender, make_open, make_span, pack_body, span_id, trace_id
from ztrace.errors import WireError
from ztrace.records import ERROR
from ztrace.wire import BYE, CRASH, DATA, pack_acks, pack_stretch, unpack_acks, unpack_stretch
from ztrace_collector.checking.messages import read_message
from ztrace_collector.storing.store import Store

#: Messages per database; a small database keeps the checks cheap.
ROUND = 250
#: Type bytes of long msgpack values, with a length that exceeds the message.
_LIARS = tuple(
    first + b"\xff" * 4 for first in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf", b"\xdc", b"\xde", b"\xda")
)
#: Upper limit at which counts saturate.
_MOST = (1 << 63) - 1
_NUMBERS = (0, 1, -1, 2, 5, 255, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class Wrong(AssertionError):
    """Lost span, or malformed data that was accepted."""


class Fuzzer:
    """Generator of broken messages that knows their expected results."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._number = 0
        #: Number of batches accepted, whole or in parts, as a measure of how deep the fuzzer reaches.
        self.accepted = 0

    def fuzz_store(self) -> int:
        """Store a round of broken messages among valid ones, with a check after each.

        Returns:
            The number of messages.

        Raises:
            Wrong: a message was neither stored nor counted, or affected others.
        """
        good, bad = Sender(0), Sender(1)
        with (
            tempfile.TemporaryDirectory(prefix="ztrace-") as folder,
            Store(Path(folder) / "traces.db", clock_ns=lambda: EPOCH_NS) as store,
        ):
            store._db.execute("PRAGMA synchronous = OFF")
            for number in range(ROUND):
                if bad.sequence > 1 << 60 or self._dice.random() < 0.5:
                    bad = Sender(1 + number)
                frames = self._break(self._make_message(bad))
                self._store_one(store, frames)
                # The next message must pass the check of its sequence number, whatever this one did.
                bad.sequence = bad.floor = _Counts(store, bad.incarnation).next
                if number % 10 == 0:
                    stored = store.store([good.data(make_span(10_000 + number))]).acknowledgements
                    if stored.get(good.incarnation) != good.sequence and not _is_from(frames, good):
                        raise Wrong(f"a good message is not acknowledged: {stored}")
            _check_tables(store)
        return ROUND

    def fuzz_small(self) -> int:
        """Break and parse an acknowledgement and a time range.

        Raises:
            Wrong: the result is outside of what they may contain.
        """
        acks = pack_acks({self._dice.randbytes(16): self._dice.choice(_NUMBERS) for _ in range(3)})
        try:
            read = unpack_acks(self._break_bytes(acks))
        except WireError:
            read = {}
        if any(type(key) is not bytes or type(value) is not int for key, value in read.items()):
            raise Wrong(f"acknowledged: {read}")
        stretch = unpack_stretch(self._break_bytes(pack_stretch(EPOCH_NS, EPOCH_NS + 1)))
        if stretch is not None and not 0 <= stretch[0] <= stretch[1] < 1 << 63:
            raise Wrong(f"stretch {stretch}")
        return 2

    def _store_one(self, store: Store, frames: Sequence[bytes]) -> None:
        """Store a message in its own transaction, and check that no span is lost uncounted."""
        try:
            header = read_message(frames)[0]
        except WireError:
            header = None
        incarnation = b"" if header is None else header.incarnation
        before = _Counts(store, incarnation)
        acknowledged = store.store([frames]).acknowledgements
        after = _Counts(store, incarnation)
        stored, refused = after.spans - before.spans, after.refused - before.refused
        noted = after.refusals - before.refusals
        if header is None or before.service not in (None, header.service):  # No valid header or foreign.
            if (noted, stored, refused, acknowledged) != (1, 0, 0, {}):
                raise Wrong(f"not just refused: {noted} {stored} {acknowledged} {frames!r}")
            return
        if acknowledged != {incarnation: after.next} or after.next < max(header.floor, before.next):
            raise Wrong(f"acknowledged {acknowledged} after {before.next}: {header}")
        accepted = header.kind == DATA and header.sequence == max(before.next, header.floor)
        missing = header.span_count - stored if accepted else 0
        if (stored and not accepted) or refused != min(missing, _MOST - before.refused):
            raise Wrong(f"{stored} stored and {refused} refused of {missing}: {header}")
        if refused and not noted:
            raise Wrong(f"{refused} spans refused without a reason: {header}")
        self.accepted += accepted

    def _make_message(self, sender: Sender) -> list[bytes]:
        """Return a valid message."""
        dice = self._dice
        self._number += 1
        kind = dice.randrange(10)
        if kind == 0:
            return sender.beat()
        if kind == 1:
            return sender.tombstone(dice.randint(1, 3), 5, pack_stretch(EPOCH_NS, EPOCH_NS + 5))
        if kind == 2:
            return sender.open(*(make_open(self._number * 10 + n) for n in range(dice.randint(1, 3))))
        if kind == 3:
            return sender.bye(dice.choice((BYE, CRASH)), pack_stretch(EPOCH_NS, EPOCH_NS))
        return sender.data(*(self._make_span(self._number * 10 + n) for n in range(dice.randint(1, 4))))

    def _make_span(self, number: int) -> Any:
        frames = [
            ["/app/shop.py", 12, "charge", "shop", "raise Declined(card)", True, 1, 2, {"card": "visa"}]
        ]
        cause = ["OSError", "gone", frames, [], "wrapped", None, None, ["a note"], []]
        group = ["shop.Declined", "no", frames, [cause], "raised", trace_id(number), span_id(number)]
        failed = [*group, ["a note"], [cause]]
        return make_span(
            number,
            parent_id=self._dice.choice((None, span_id(number + 1))),
            attributes={"card": "visa", "amount": 3, "items": [1, 2.5, None, True, b"x"]},
            links=[[trace_id(1), span_id(1)]],
            status=ERROR,
            exception=self._dice.choice((None, failed)),
        )

    def _break(self, frames: list[bytes]) -> list[bytes]:
        """Return the message broken in one way, or unchanged."""
        dice = self._dice
        how = dice.randrange(8)
        frames = list(frames)
        if how == 0:
            return frames
        if how == 1:
            frames.insert(dice.randrange(4), dice.randbytes(dice.randrange(40)))
        elif how == 2:
            del frames[dice.randrange(3)]
        elif how == 3:
            frames[1] = self._pack(self._break_value(msgpack.unpackb(frames[1])))
        elif how in (4, 5) and frames[2]:
            body = msgpack.unpackb(frames[2], strict_map_key=False)
            frames[2] = self._pack(self._break_value(body))
        else:
            place = dice.choice((0, 1, 1, 2, 2, 2, 2))
            frames[place] = self._break_bytes(frames[place])
        return frames

    def _break_value(self, value: Any) -> Any:
        """Return the value with one item, at any depth, replaced."""
        dice = self._dice
        if isinstance(value, list) and value and dice.random() < 0.9:
            place = dice.randrange(len(value))
            return [*value[:place], self._break_value(value[place]), *value[place + 1 :]]
        if isinstance(value, dict) and value and dice.random() < 0.8:
            key = dice.choice(list(value))
            return value | {key: self._break_value(value[key])}
        return self._draw()

    def _draw(self, depth: int = 0) -> Any:
        dice = self._dice
        makers: list[Callable[[], Any]] = [
            lambda: dice.choice(_NUMBERS),
            lambda: dice.choice((None, True, False)),
            lambda: dice.choice((0.5, float("nan"), float("inf"))),
            lambda: dice.randbytes(dice.choice((0, 8, 16, 40))),
            lambda: "".join(map(chr, dice.choices(range(1, 0xD000), k=dice.choice((0, 3, 300))))),
            lambda: msgpack.ExtType(dice.randrange(128), dice.randbytes(4)),
            lambda: msgpack.Timestamp(5, 7),
        ]
        if depth < 4:
            makers.append(lambda: [self._draw(depth + 1) for _ in range(dice.randrange(5))])
            makers.append(lambda: {self._draw_key(): self._draw(depth + 1) for _ in range(dice.randrange(4))})
        return dice.choice(makers)()

    def _draw_key(self) -> Any:
        return self._dice.choice(("key", "", b"key", 7, None, 1.5, "k" * 300))

    def _pack(self, value: Any) -> bytes:
        try:
            return pack_body(value)
        except (OverflowError, ValueError):
            return b"\xc0"

    def _break_bytes(self, data: bytes) -> bytes:
        dice = self._dice
        broken = bytearray(data)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            place = dice.randrange(len(broken) + 1)
            how = dice.randrange(6)
            if how == 0:
                del broken[place:]
            elif how == 1:
                broken[place:place] = dice.randbytes(dice.randrange(9))
            elif how == 2:
                broken[place:place] = dice.choice(_LIARS)
            elif how == 3:
                end = dice.randrange(len(broken) + 1)
                broken[place:place] = broken[min(place, end) : max(place, end)][:200]
            elif broken:
                broken[place % len(broken)] ^= 1 << dice.randrange(8)
        return bytes(broken)


class _Counts:
    """Counts in a database, corrected spans among the refusals, and the account of one incarnation."""

    def __init__(self, store: Store, incarnation: bytes) -> None:
        execute = store._db.execute
        self.refusals, self.spans = execute(
            "SELECT (SELECT coalesce(sum(count), 0) FROM refusals), (SELECT count(*) FROM spans)"
        ).fetchone()
        row = execute(
            "SELECT spans_refused, next_sequence, service FROM publishers"
            " JOIN instances ON instances.id = instance WHERE instance_id = ?",
            (incarnation.hex(),),
        ).fetchone()
        self.refused: int = 0 if row is None else row[0]
        self.next: int = 0 if row is None else row[1]
        self.service: str | None = None if row is None else row[2]


def _is_from(frames: Sequence[bytes], sender: Sender) -> bool:
    """Return whether a broken message names the incarnation of the valid sender."""
    return any(sender.incarnation in frame for frame in frames)


def _check_tables(store: Store) -> None:
    """Check that the tables are consistent with each other."""
    execute = store._db.execute
    (verdict,) = execute("PRAGMA integrity_check").fetchone()
    (spans,) = execute("SELECT count(*) FROM spans").fetchone()
    sums = {
        "totals": "SELECT value FROM totals WHERE name = 'spans'",
        "publishers": "SELECT sum(spans_stored) FROM publishers",
        "traces": "SELECT sum(span_count) FROM traces",
        "figures": "SELECT sum(calls) FROM method_figures WHERE resolution_s = 60",
    }
    differing = {name: total for name, sql in sums.items() if (total := execute(sql).fetchone()[0]) != spans}
    if verdict != "ok" or differing:
        raise Wrong(f"{verdict}; {spans} spans, and {differing}")


def main() -> int:
    """Run the command line; an error propagates after its seed is printed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.fuzz", description="Fuzz what reads the wire."
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, help="the first seed (default: the time)")
    arguments = parser.parse_args()
    seed = first = int(time.time()) if arguments.seed is None else arguments.seed
    count = accepted = 0
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < 60 * arguments.minutes:
        fuzzer = Fuzzer(seed)
        try:
            count += fuzzer.fuzz_store()
            accepted += fuzzer.accepted
            count += sum(fuzzer.fuzz_small() for _ in range(ROUND))
        except Exception:
            print(f"replay with: python -m tests.simulation.fuzz --minutes 0.01 --seed {seed}")
            raise
        seed += 1
    print(
        f"{count:,} messages from seed {first} to {seed - 1}, {accepted:,} of them batches:"
        " all stored or counted"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
