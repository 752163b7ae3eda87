"""What sequence numbers mean, without socket or database."""

from typing import Any

from tests.collector.messages import Sender
from ztrace.wire import BEAT, BYE, CRASH, DATA, TOMBSTONE
from ztrace_collector.delivery import (
    CRASHED,
    ENDED,
    LIVE,
    NEVER_RECEIVED,
    NOT_DELIVERED,
    PROCESS_CRASHED,
    WINDOW_FULL,
    Account,
    Gap,
)


def make_account(**values: Any) -> Account:
    """Return an account that is known already."""
    return Account(**{"instance": 1, "first_seen_ns": 0, "last_seen_ns": 0} | values)


def test_the_next_batch_is_stored_and_its_number_used_up() -> None:
    """A batch with the expected number is accepted."""
    account = make_account()
    assert account.receive(Sender().header(DATA, span_count=3, created=3)) == (True, [])
    assert account.next_sequence == 1


def test_a_duplicate_is_ignored() -> None:
    """A number that was used is not stored again, and the next one stays."""
    account = make_account(next_sequence=5)
    assert account.receive(Sender().header(DATA, sequence=4)) == (False, [])
    assert account.next_sequence == 5


def test_a_batch_too_early_is_ignored() -> None:
    """A number beyond the next one is ignored while the publisher holds those between."""
    account = make_account(next_sequence=2)
    assert account.receive(Sender().header(DATA, sequence=4, floor=1)) == (False, [])
    assert account.next_sequence == 2


def test_numbers_that_are_gone_are_a_gap() -> None:
    """A floor beyond the next number counts what was below it and is not in the account."""
    account = make_account(next_sequence=2, stored=10, refused=1)
    accepted, gaps = account.receive(Sender().header(DATA, sequence=4, floor=4, retired=18, span_count=1))
    assert accepted
    assert gaps == [Gap(2, 3, 7, NEVER_RECEIVED)]
    assert (account.missing, account.next_sequence) == (7, 5)


def test_an_incarnation_first_seen_with_a_past_is_not_missing_it() -> None:
    """What was retired before the first message was stored elsewhere."""
    account = make_account(new=True)
    accepted, gaps = account.receive(Sender().header(DATA, sequence=4, floor=4, retired=18, span_count=1))
    assert accepted
    assert gaps == []
    assert (account.elsewhere, account.missing, account.next_sequence) == (18, 0, 5)


def test_only_the_first_message_of_an_incarnation_can_have_a_past() -> None:
    """After a first message at number 0, a floor that moves on is a gap."""
    account = make_account(new=True)
    account.receive(Sender().header(BEAT))
    _, gaps = account.receive(Sender().header(BEAT, sequence=2, floor=2, retired=6))
    assert gaps == [Gap(0, 1, 6, NEVER_RECEIVED)]
    assert (account.elsewhere, account.missing) == (0, 6)


def test_an_acknowledgement_is_never_below_the_floor() -> None:
    """A beat of an unknown publisher is answered with what it still holds."""
    account = make_account(new=True)
    account.receive(Sender().header(BEAT, sequence=9, floor=7, retired=70))
    assert account.next_sequence == 7


def test_a_tombstone_counts_its_range() -> None:
    """A tombstone's numbers are used up and its spans are missing."""
    account = make_account(next_sequence=3)
    header = Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=9, created=9)
    assert account.receive(header) == (False, [Gap(3, 6, 9, WINDOW_FULL)])
    assert (account.missing, account.next_sequence) == (9, 7)
    assert account.receive(header) == (False, [])
    assert account.missing == 9


def test_a_tombstone_too_early_is_ignored() -> None:
    """A tombstone waits for the batches before it."""
    account = make_account(next_sequence=1)
    header = Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=9, floor=0)
    assert account.receive(header) == (False, [])
    assert account.next_sequence == 1


def test_a_tombstone_that_grew_counts_only_what_is_new() -> None:
    """A tombstone that covers numbers already counted adds no more than is open."""
    account = make_account(next_sequence=3)
    account.receive(Sender().header(TOMBSTONE, sequence=3, covered=2, span_count=9, created=20))
    account.receive(Sender().header(TOMBSTONE, sequence=3, covered=4, span_count=15, created=15))
    assert (account.missing, account.next_sequence) == (20, 7)


def test_totals_only_grow() -> None:
    """An older header does not take totals back."""
    account = make_account()
    account.receive(Sender().header(BEAT, created=10, dropped=3, mended={"attribute_cut": 2}))
    account.receive(Sender().header(BEAT, created=8, dropped=1, mended={"attribute_cut": 1, "other": 1}))
    assert (account.created, account.dropped) == (10, 3)
    assert account.mended == {"attribute_cut": 2, "other": 1}


def test_bye_ends_an_incarnation() -> None:
    """A publisher that delivered everything ends without a gap."""
    account = make_account(next_sequence=2, stored=5)
    assert account.receive(Sender().header(BYE, sequence=2, floor=2, created=6, dropped=1, retired=5)) == (
        False,
        [],
    )
    assert (account.state, account.missing) == (ENDED, 0)


def test_bye_with_undelivered_batches_counts_them() -> None:
    """What a publisher could not deliver before its deadline is missing, once."""
    account = make_account(next_sequence=2, stored=5)
    header = Sender().header(BYE, sequence=4, floor=2, created=12, retired=5)
    assert account.receive(header) == (False, [Gap(2, 3, 7, NOT_DELIVERED)])
    assert account.receive(header) == (False, [])
    assert (account.state, account.missing, account.next_sequence) == (ENDED, 7, 4)


def test_a_crash_report_counts_the_remainder_once() -> None:
    """The spans that a dead process had created and not delivered are missing."""
    account = make_account(next_sequence=2, stored=5, dropped=1)
    header = Sender().header(CRASH, sequence=2, floor=2, created=10, dropped=1)
    assert account.receive(header) == (False, [Gap(2, 2, 4, PROCESS_CRASHED)])
    assert account.receive(header) == (False, [])
    assert (account.state, account.missing) == (CRASHED, 4)


def test_a_publisher_that_goes_on_is_live_again() -> None:
    """A batch after the end makes an incarnation live; a duplicate does not."""
    account = make_account(next_sequence=2, state=ENDED)
    account.receive(Sender().header(DATA, sequence=1))
    assert account.state == ENDED
    account.receive(Sender().header(DATA, sequence=2))
    assert account.state == LIVE


def test_hostile_counts_stay_within_sqlites_integers() -> None:
    """Sums of what headers claim end at the largest integer."""
    account = make_account()
    huge = (1 << 63) - 1
    account.receive(Sender().header(TOMBSTONE, covered=huge, span_count=huge, created=huge))
    account.receive(Sender().header(TOMBSTONE, sequence=huge, covered=huge, span_count=huge, floor=huge))
    assert account.missing == huge
    assert account.next_sequence == huge
