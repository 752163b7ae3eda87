"""Accounts of publishers by sequence numbers, without socket or database."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, Sender
from ztrace.wire import BEAT, BYE, CRASH, DATA, OPEN, TOMBSTONE, Header, pack_stretch, unpack_stretch
from ztrace_collector.layout import (
    LOSS_COLUMNS,
    NEVER_RECEIVED,
    NOT_DELIVERED,
    PROCESS_CRASHED,
    QUEUE_FULL,
    REFUSED,
    WINDOW_FULL,
)
from ztrace_collector.tables.accounts import CRASHED, ENDED, LIVE, Account, Loss

#: Time of receiving messages, and time of the previous message from the publisher.
NOW_NS, SEEN_NS = EPOCH_NS + 20, EPOCH_NS + 10


def make_account(**values: Any) -> Account:
    """Return an account that already exists."""
    given: dict[str, Any] = {"first_seen_ns": SEEN_NS, "last_seen_ns": SEEN_NS, **values}
    return Account(**{"instance": 1, "service": "billing", **given})


def lost(**counts: int) -> dict[str, int]:
    """Return losses by reason, given by column names without their prefix."""
    return {reason: counts.get(column.removeprefix("spans_"), 0) for reason, column in LOSS_COLUMNS.items()}


def receive(account: Account, header: Header) -> tuple[bool, list[Loss]]:
    """Receive a message at the present time."""
    return account.receive(header, NOW_NS)


def test_the_next_batch_is_stored_and_its_number_used_up() -> None:
    """A batch with the expected number is accepted and takes its number."""
    account = make_account()
    assert receive(account, Sender().header(DATA, span_count=3, created=3)) == (True, [])
    assert account.next_sequence == 1


def test_a_duplicate_is_ignored() -> None:
    """A batch with a used number is ignored."""
    account = make_account(next_sequence=5)
    assert receive(account, Sender().header(DATA, sequence=4)) == (False, [])
    assert account.next_sequence == 5


def test_a_batch_too_early_is_ignored() -> None:
    """A batch beyond the expected number is ignored while the floor is not beyond it."""
    account = make_account(next_sequence=2)
    assert receive(account, Sender().header(DATA, sequence=4, floor=1)) == (False, [])
    assert account.next_sequence == 2


def test_numbers_that_are_gone_are_a_gap() -> None:
    """A floor beyond the expected number counts the spans below as never received."""
    account = make_account(next_sequence=2, stored=10, lost=lost(refused=1))
    accepted, losses = receive(
        account, Sender().header(DATA, sequence=4, floor=4, retired=18, span_count=1, created=19)
    )
    assert accepted
    assert losses == [Loss(NEVER_RECEIVED, 7, SEEN_NS, NOW_NS, 2, 3)]
    assert (account.lost[NEVER_RECEIVED], account.next_sequence) == (7, 5)


def test_an_incarnation_first_seen_with_a_past_is_not_missing_it() -> None:
    """Spans retired before an incarnation's first message count as stored elsewhere."""
    account = make_account(new=True)
    accepted, losses = receive(account, Sender().header(DATA, sequence=4, floor=4, retired=18, span_count=1))
    assert accepted
    assert losses == []
    assert (account.elsewhere, account.lost, account.next_sequence) == (18, lost(), 5)


def test_only_the_first_message_of_an_incarnation_can_have_a_past() -> None:
    """A floor that advances after a first message at number 0 counts as a loss."""
    account = make_account(new=True)
    receive(account, Sender().header(BEAT))
    _, losses = receive(account, Sender().header(BEAT, sequence=2, floor=2, retired=6))
    assert [(loss.reason, loss.span_count, loss.first_sequence) for loss in losses] == [
        (NEVER_RECEIVED, 6, 0)
    ]
    assert (account.elsewhere, account.lost) == (0, lost(missing=6))


def test_a_past_goes_on_until_something_is_accepted() -> None:
    """Spans acknowledged from a previous file count as elsewhere until the first batch is accepted."""
    account = make_account(new=True)
    receive(account, Sender().header(DATA, sequence=6, floor=5, retired=18, span_count=3))
    assert (account.elsewhere, account.next_sequence) == (18, 5)
    assert receive(account, Sender().header(DATA, sequence=6, floor=6, retired=20, span_count=3)) == (
        True,
        [],
    )
    assert (account.elsewhere, account.lost, account.next_sequence) == (20, lost(), 7)


def test_an_acknowledgement_is_never_below_the_floor() -> None:
    """A heartbeat of an unknown publisher is acknowledged at its floor."""
    account = make_account(new=True)
    receive(account, Sender().header(BEAT, sequence=9, floor=7, retired=70))
    assert account.next_sequence == 7


def test_a_tombstone_counts_its_range() -> None:
    """A tombstone takes its range of numbers and counts its spans as lost, once."""
    account = make_account(next_sequence=3)
    header = Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=9, created=9)
    assert receive(account, header) == (False, [Loss(WINDOW_FULL, 9, SEEN_NS, NOW_NS, 3, 6)])
    assert (account.lost, account.next_sequence) == (lost(tombstoned=9), 7)
    assert receive(account, header) == (False, [])
    assert account.lost == lost(tombstoned=9)


def test_a_loss_has_the_times_that_its_message_tells() -> None:
    """A loss has the times in its message, or else those of this message and the one before."""
    account = make_account()
    header = Sender().header(TOMBSTONE, covered=4, span_count=9, created=9)
    _, [loss] = account.receive(header, NOW_NS, unpack_stretch(pack_stretch(5, 8)))
    assert (loss.first_ns, loss.last_ns) == (5, 8)
    account = make_account()
    _, [loss] = account.receive(header, NOW_NS, unpack_stretch(pack_stretch(8, 5)))
    assert (loss.first_ns, loss.last_ns) == (SEEN_NS, NOW_NS)


def test_a_tombstone_too_early_is_ignored() -> None:
    """A tombstone beyond the expected number is ignored."""
    account = make_account(next_sequence=1)
    header = Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=9, floor=0)
    assert receive(account, header) == (False, [])
    assert account.next_sequence == 1


def test_a_tombstone_over_counted_numbers_counts_no_more_than_is_open() -> None:
    """An invalid tombstone over counted numbers counts no more spans than are unaccounted for."""
    account = make_account(next_sequence=3)
    receive(account, Sender().header(TOMBSTONE, sequence=3, covered=2, span_count=9, created=20))
    receive(account, Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=15, created=15))
    assert (account.lost, account.next_sequence) == (lost(tombstoned=20), 7)


def test_totals_only_grow() -> None:
    """Totals in an older header do not lower the account's totals."""
    account = make_account()
    receive(account, Sender().header(BEAT, created=10, dropped=3, mended={"attribute_cut": 2}))
    receive(account, Sender().header(BEAT, created=8, dropped=1, mended={"attribute_cut": 1, "other": 1}))
    assert (account.created, account.lost) == (10, lost(dropped=3))
    assert account.mended == {"attribute_cut": 2, "other": 1}


def test_spans_dropped_are_lost_between_two_messages() -> None:
    """Dropped spans are lost between two messages, or since the start for the first message."""
    account = make_account(new=True)
    sender = Sender()
    losses = [
        account.receive(sender.header(BEAT, created=9, dropped=dropped), EPOCH_NS + at_ns)[1]
        for at_ns, dropped in ((100, 2), (200, 2), (300, 7))
    ]
    assert losses == [
        [Loss(QUEUE_FULL, 2, EPOCH_NS, EPOCH_NS + 100)],
        [],
        [Loss(QUEUE_FULL, 5, EPOCH_NS + 200, EPOCH_NS + 300)],
    ]


def test_spans_refused_are_lost() -> None:
    """Refused spans are lost, and the rest of their batch is stored."""
    account = make_account()
    receive(account, Sender().header(DATA, span_count=5, created=5))
    assert account.count(3, 2) == [Loss(REFUSED, 2, SEEN_NS, NOW_NS)]
    assert (account.stored, account.lost) == (3, lost(refused=2))


def test_bye_ends_an_incarnation() -> None:
    """A bye of a publisher that delivered everything ends the account without a loss and takes a number."""
    account = make_account(next_sequence=2, stored=5, lost=lost(dropped=1))
    header = Sender().header(BYE, sequence=2, floor=2, created=6, dropped=1, retired=5)
    assert receive(account, header) == (False, [])
    assert (account.state, account.next_sequence) == (ENDED, 3)
    assert account.lost == lost(dropped=1)


def test_bye_waits_for_the_batches_before_it() -> None:
    """A bye beyond the expected number is ignored."""
    account = make_account(next_sequence=2, stored=5)
    header = Sender().header(BYE, sequence=4, floor=2, created=12, retired=5)
    assert receive(account, header) == (False, [])
    assert (account.state, account.next_sequence) == (LIVE, 2)


def test_a_publisher_that_gave_up_says_so_with_its_bye() -> None:
    """A bye of a publisher that gave up counts all undelivered spans for that reason, once."""
    for retired in (5, 9):
        account = make_account(next_sequence=2, stored=5)
        header = Sender().header(BYE, sequence=4, floor=4, created=12, retired=retired)
        assert receive(account, header) == (False, [Loss(NOT_DELIVERED, 7, SEEN_NS, NOW_NS, 2, 3)])
        assert receive(account, header) == (False, [])
        assert (account.state, account.lost, account.next_sequence) == (ENDED, lost(undelivered=7), 5)


def test_a_crash_report_counts_the_remainder_once() -> None:
    """A crash message counts the undelivered spans of a dead process as crashed, once."""
    account = make_account(next_sequence=2, stored=5, lost=lost(dropped=1))
    header = Sender().header(CRASH, sequence=2, floor=2, created=10, dropped=1)
    assert receive(account, header) == (False, [Loss(PROCESS_CRASHED, 4, SEEN_NS, NOW_NS)])
    assert receive(account, header) == (False, [])
    assert (account.state, account.lost) == (CRASHED, lost(dropped=1, crashed=4))


def test_a_crashed_publisher_was_last_seen_when_it_lived() -> None:
    """A crashed publisher was last seen at the reported time, limited to between first message and now."""
    for told_ns, seen_ns in ((SEEN_NS + 4, SEEN_NS + 4), (0, SEEN_NS), (NOW_NS + 9, NOW_NS)):
        account = make_account()
        account.receive(Sender().header(CRASH), NOW_NS, (0, told_ns))
        assert account.last_seen_ns == seen_ns


def test_a_publisher_that_goes_on_is_live_again() -> None:
    """A batch, heartbeat or open span sent after the end makes an incarnation live again."""
    for kind in (DATA, BEAT, OPEN):
        account = make_account(next_sequence=2, state=ENDED)
        receive(account, Sender().header(kind, sequence=1))
        assert account.state == ENDED
        receive(account, Sender().header(kind, sequence=2))
        assert account.state == LIVE


def test_hostile_counts_stay_within_sqlites_integers() -> None:
    """Sums of extreme counts in headers saturate at SQLite's largest integer."""
    account = make_account()
    huge = (1 << 63) - 1
    receive(account, Sender().header(TOMBSTONE, covered=huge, span_count=huge, created=huge, dropped=huge))
    receive(account, Sender().header(TOMBSTONE, sequence=huge, covered=huge, span_count=huge, floor=huge))
    receive(account, Sender().header(BYE, sequence=huge, floor=huge, retired=huge))
    assert account.lost == lost(tombstoned=huge, dropped=huge)
    assert account.next_sequence == huge


class History:
    """Correct publisher with its window and counts, and the events that may happen to it."""

    def __init__(self) -> None:
        self.sender = Sender()
        self.window: list[Header] = []
        self.stored_spans = 0
        self.told = dict.fromkeys((WINDOW_FULL, QUEUE_FULL), 0)
        self.ended = False

    def batch(self, spans: int) -> None:
        """End some spans and number them as a batch."""
        self.sender.created += spans
        self._append(DATA, 1, spans)

    def drop(self, spans: int) -> None:
        """End some spans that exceed the room of the queue."""
        self.sender.created += spans
        self.sender.dropped += spans
        self.told[QUEUE_FULL] += spans

    def bury(self, covered: int, spans: int) -> None:
        """Replace numbered spans that were never sent by a tombstone."""
        self.sender.created += spans
        self.told[WINDOW_FULL] += spans
        self._append(TOMBSTONE, covered, spans)

    def linger(self, spans: int) -> None:
        """End some spans that are never numbered."""
        self.sender.created += spans

    def end(self, kind: int, give_up: bool) -> None:
        """End the incarnation, giving up the window or not."""
        self.ended = True
        if give_up:
            self.retire(self.sender.sequence)
        self._append(kind, 1, 0)

    def retire(self, next_sequence: int) -> None:
        """Release acknowledged messages from the window."""
        while self.window and self.window[0].sequence < next_sequence:
            self.sender.retired += self.window.pop(0).span_count
        self.sender.floor = self.window[0].sequence if self.window else self.sender.sequence

    def messages(self) -> list[Header]:
        """Return the messages in flight, with the current totals."""
        sender = self.sender
        totals: dict[str, Any] = {
            "floor": sender.floor,
            "created": sender.created,
            "dropped": sender.dropped,
            "retired": sender.retired,
        }
        beats = [] if self.ended else [sender.header(BEAT)]
        return [header._replace(**totals) for header in self.window] + beats

    def _append(self, kind: int, covered: int, spans: int) -> None:
        self.window.append(self.sender.header(kind, covered=covered, span_count=spans))
        self.sender.sequence += covered
        self.sender.floor = self.window[0].sequence


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.integers(0, 9)),
        st.tuples(st.just("drop"), st.integers(1, 9)),
        st.tuples(st.just("bury"), st.integers(1, 4), st.integers(0, 9)),
        st.tuples(st.just("deliver"), st.integers(0, 2**32)),
    ),
    max_size=30,
)


@given(STEPS, st.sampled_from([BYE, CRASH]), st.booleans(), st.integers(0, 5), st.integers(0, 9))
def test_after_the_end_every_span_is_in_exactly_one_column(
    steps: list[tuple[Any, ...]], end: int, give_up: bool, unbatched: int, refused: int
) -> None:
    """Every span is counted in exactly one column, for any losses, duplicates and orders of messages."""
    history, account = History(), make_account(new=True)
    shown: list[Loss] = []

    def hear(header: Header) -> None:
        accepted, losses = account.receive(header, NOW_NS)
        shown.extend(losses)
        if accepted:
            unfit = min(refused, header.span_count)
            history.stored_spans += header.span_count - unfit
            shown.extend(account.count(header.span_count - unfit, unfit))

    def deliver(seed: int) -> None:
        rng = random.Random(seed)
        sent = history.messages()
        for header in rng.choices(sent, k=rng.randrange(2 * len(sent))):
            hear(header)
        history.retire(account.next_sequence if rng.random() < 0.7 else 0)

    hear(history.sender.header(BEAT))
    for name, *values in steps:
        if name == "deliver":
            deliver(*values)
        else:
            getattr(history, name)(*values)
    history.linger(unbatched)
    before = account.next_sequence
    history.end(end, give_up)
    deliver(unbatched)
    for header in history.messages() * 2:
        hear(header)
    history.retire(account.next_sequence)
    assert not history.window
    assert history.sender.created == account.created
    assert account.created == account.stored + account.elsewhere + sum(account.lost.values())
    assert account.stored == history.stored_spans
    assert account.elsewhere == account.lost[NEVER_RECEIVED] == 0
    assert account.lost[QUEUE_FULL] == history.told[QUEUE_FULL]
    ended = account.lost[NOT_DELIVERED] + account.lost[PROCESS_CRASHED]
    assert account.lost[NOT_DELIVERED if end == CRASH else PROCESS_CRASHED] == 0
    if not give_up or before == history.sender.sequence - 1:
        assert ended == unbatched
        assert account.lost[WINDOW_FULL] == history.told[WINDOW_FULL]
    for reason, count in account.lost.items():
        assert count == sum(loss.span_count for loss in shown if loss.reason == reason)
    assert account.state == (CRASHED if end == CRASH else ENDED)
