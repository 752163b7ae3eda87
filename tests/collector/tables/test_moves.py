"""Accounts of publishers that move between collectors and return."""

import random
from itertools import accumulate
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, Sender, make_span, refusals, row, rows
from ztrace.wire import BEAT, BYE, DATA, REFUSED, Header
from ztrace_collector.layout import NEVER_RECEIVED, NOT_DELIVERED
from ztrace_collector.storing.store import Store
from ztrace_collector.tables import publishers
from ztrace_collector.tables.accounts import ENDED, Account
from ztrace_collector.tables.sampled import Sampled

#: Collectors of the moving publisher.
COUNT = 3


def receive(account: Account, header: Header) -> bool:
    """Receive a message whose spans are all accepted; return whether it is stored."""
    accepted, _ = account.receive(header, EPOCH_NS)
    if accepted:
        account.count(header.span_count, 0)
    return accepted


def make_account(**values: Any) -> Account:
    """Return an account of a publisher that nothing was received from."""
    given: dict[str, Any] = {"instance": 1, "service": "billing", "new": True, **values}
    return Account(first_seen_ns=EPOCH_NS, last_seen_ns=EPOCH_NS, **given)


def test_what_another_collector_acknowledged_is_not_lost() -> None:
    """Spans stored elsewhere between two stays of a publisher are no loss, and start a new range."""
    account = make_account()
    sender = Sender()
    assert receive(account, sender.header(DATA, span_count=3, created=3))
    # Batches 0 to 3 hold 3 spans each; the last three of them are acknowledged by the other collector.
    returned = sender.header(
        DATA, sequence=4, floor=4, retired=12, created=14, span_count=2, acknowledged_elsewhere=9
    )
    assert receive(account, returned)
    assert (account.stored, account.elsewhere, account.lost[NEVER_RECEIVED]) == (5, 9, 0)
    assert (account.past_ranges, account.first_sequence, account.next_sequence) == ([(0, 1)], 4, 5)


def test_what_a_collector_acknowledged_and_lost_is_lost() -> None:
    """Spans that this collector acknowledged and has lost since are not taken for another's."""
    account = make_account(new=False, next_sequence=1, stored=3)
    # Batches 1 and 2 were acknowledged here, and are gone with a disk; batch 3 was stored elsewhere.
    header = Sender().header(BEAT, sequence=4, floor=4, retired=12, created=12, acknowledged_elsewhere=3)
    receive(account, header)
    assert (account.elsewhere, account.lost[NEVER_RECEIVED]) == (3, 6)
    # The same report counts once: a later gap is a loss.
    receive(account, header._replace(sequence=5, floor=5, retired=14, created=14))
    assert (account.elsewhere, account.lost[NEVER_RECEIVED]) == (3, 8)


def test_a_publisher_that_gives_up_after_its_return_has_lost_the_rest() -> None:
    """A goodbye after a return tells apart what was stored elsewhere and what was given up."""
    account = make_account(new=False, next_sequence=1, stored=3)
    header = Sender().header(
        BYE, sequence=6, floor=6, retired=9, created=15, acknowledged_elsewhere=6, collectors=2
    )
    receive(account, header)
    assert (account.stored, account.elsewhere, account.lost[NOT_DELIVERED]) == (3, 6, 6)
    assert account.state == ENDED


def test_samples_delivered_elsewhere_are_not_lost() -> None:
    """The first profile after a return shows which samples were elsewhere; later gaps are losses."""
    sampled = Sampled()
    sampled.hear(10)
    sampled.take(0, 10)
    sampled.hear(50)
    sampled.begin(50)
    assert sampled.elsewhere == 40
    sampled.take(30, 20)
    assert (sampled.stored, sampled.elsewhere, sampled.lost) == (30, 20, 0)
    sampled.take(55, 5)
    assert (sampled.stored, sampled.elsewhere, sampled.lost) == (35, 20, 5)


class Mover:
    """Correct publisher with several collectors: its batches, and what each collector has acknowledged."""

    def __init__(self, spans: list[int]) -> None:
        self.spans = spans
        self.before = [0, *accumulate(spans)]
        self.floor = self.sequence = self.here = 0
        self.acknowledged = [0] * COUNT

    def header(self, kind: int, sequence: int) -> Header:
        """Return the header of a batch, of a beat or of the goodbye, to the present collector."""
        retired = self.before[self.floor]
        count = self.spans[sequence] if kind == DATA else 0
        return Sender().header(
            kind,
            sequence=sequence,
            floor=self.floor,
            span_count=count,
            created=self.before[min(self.sequence, len(self.spans))],
            retired=retired,
            acknowledged_elsewhere=retired - self.acknowledged[self.here],
            collectors=COUNT,
        )

    def acknowledge(self, next_sequence: int) -> None:
        """Retire the batches below a number."""
        if next_sequence > self.floor:
            self.acknowledged[self.here] += self.before[next_sequence] - self.before[self.floor]
            self.floor = next_sequence


@given(st.lists(st.integers(1, 9), min_size=1, max_size=25), st.integers(0, 2**32))
def test_each_collector_accounts_for_every_span_below_its_number(spans: list[int], seed: int) -> None:
    """Under any moves and lost acknowledgements each account is exact, and batches stored twice are known."""
    dice, mover = random.Random(seed), Mover(spans)
    accounts: list[Account | None] = [None] * COUNT
    stored: list[set[int]] = [set() for _ in range(COUNT)]
    unacknowledged: set[int] = set()

    def hear(header: Header) -> None:
        account = accounts[mover.here]
        if account is None:
            account = accounts[mover.here] = make_account()
        if receive(account, header) and header.kind == DATA:
            stored[mover.here].add(header.sequence)
        numbered = account.stored + account.elsewhere + account.lost[NEVER_RECEIVED]
        assert numbered == mover.before[min(account.next_sequence, len(spans))]
        assert account.lost[NEVER_RECEIVED] == 0

    while mover.floor < len(spans):
        mover.sequence = max(mover.sequence, dice.randint(mover.floor, len(spans)))
        for sequence in range(mover.floor, mover.sequence)[: dice.randint(0, 5)]:
            hear(mover.header(DATA, sequence))
        if dice.random() < 0.3:
            hear(mover.header(BEAT, mover.sequence))
        account = accounts[mover.here]
        if account is not None and dice.random() < 0.6:
            mover.acknowledge(account.next_sequence)
        elif dice.random() < 0.5:
            unacknowledged |= {number for number in stored[mover.here] if number >= mover.floor}
            mover.here = dice.randrange(COUNT)
    hear(mover.header(BYE, len(spans)))

    last = accounts[mover.here]
    assert last is not None
    assert last.state == ENDED
    assert last.created == sum(spans) == last.stored + last.elsewhere
    assert set().union(*stored) == set(range(len(spans)))
    for account, numbers in zip(accounts, stored, strict=True):
        if account is not None:
            ranges = [*account.past_ranges, (account.first_sequence, account.next_sequence)]
            covered = {number for first, end in ranges for number in range(first, end)} - {len(spans)}
            assert covered == numbers
    twice = [number for number in range(len(spans)) if sum(number in each for each in stored) > 1]
    assert set(twice) <= unacknowledged


def test_ranges_are_in_the_file(path: Path) -> None:
    """The ranges of an incarnation are stored with its account, and the latest are kept."""
    limit = publishers.MAX_RANGES
    sender = Sender()
    with Store(path) as store:
        store.store([sender.data(make_span())])
        for number in range(1, limit + 5):
            store.store([sender.data(make_span(2 * number))])
            # The next batch goes to another collector.
            sender.created, sender.sequence = sender.created + 1, sender.sequence + 1
            sender.floor, sender.retired = sender.sequence, sender.created
            store.store([sender.data(make_span(2 * number + 1), acknowledged_elsewhere=number, collectors=2)])
    account = row(path, "SELECT * FROM publishers")
    assert account["spans_created"] == account["spans_stored"] + account["spans_elsewhere"]
    assert account["spans_elsewhere"] == account["acknowledged_elsewhere"] == limit + 4
    ranges = rows(path, "SELECT first_sequence, next_sequence FROM sequence_ranges ORDER BY first_sequence")
    assert len(ranges) == limit
    assert ranges[-1]["next_sequence"] + 1 == account["first_sequence"]
    assert account["next_sequence"] == sender.sequence


def test_several_collectors_are_refused_without_clickhouse(path: Path) -> None:
    """A file that is not put together with others takes nothing from publishers with several collectors."""
    said: list[str] = []
    shop, billing = Sender(0, "shop"), Sender(1)
    with Store(path, refuse_several=said.append) as store:
        for number in range(2):
            written = store.store(
                [shop.data(make_span(number), collectors=2), billing.data(make_span(10 + number))]
            )
            assert written.acknowledgements == {
                shop.incarnation: REFUSED,
                billing.incarnation: billing.sequence,
            }
        assert store.store([billing.beat()]).acknowledgements == {billing.incarnation: 2}
    assert said == [
        "publishers of shop have several collectors, which needs --clickhouse at each of them;"
        " they are refused, and keep their spans"
    ]
    assert [each["service"] for each in rows(path, "SELECT service FROM instances")] == ["billing"]
    assert refusals(path) == {"several_collectors": 2}
