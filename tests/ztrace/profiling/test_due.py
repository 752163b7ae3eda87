"""Times at which samples are due: one in each period, none lost in a delay, and no resonance."""

from ztrace.profiling.due import Due

PERIOD_NS = 20_000_000


def test_each_period_has_one_sample() -> None:
    """Samples that are taken when they are due stand for a period each, and all of them for the time."""
    due = Due(0, PERIOD_NS)
    for number in range(1_000):
        assert number * PERIOD_NS <= due.next_ns < (number + 1) * PERIOD_NS
        assert due.pass_to(due.next_ns) == PERIOD_NS


def test_a_delay_stands_for_all_samples_that_were_due() -> None:
    """Whatever the delays, samples stand for the time until now, but for the sample that is still to come."""
    due, passed_ns = Due(0, PERIOD_NS), 0
    for number in range(1_000):
        now_ns = due.next_ns + number * number % 97 * 1_000_000
        passed_ns += due.pass_to(now_ns)
        assert now_ns < due.next_ns
        assert 0 <= due.next_ns - passed_ns < PERIOD_NS


def test_a_sample_that_is_asked_for_early_stands_for_nothing() -> None:
    """Before its time nothing is due, and what is due does not change."""
    due = Due(0, PERIOD_NS)
    while due.next_ns == 0:
        due.pass_to(0)
    next_ns = due.next_ns
    assert (due.pass_to(next_ns - 1), due.next_ns) == (0, next_ns)


def test_a_new_rate_holds_from_the_next_period_on() -> None:
    """Twenty samples of a shorter period follow one of a longer one."""
    due = Due(0, PERIOD_NS)
    due.period_ns = PERIOD_NS // 4
    passed_ns = due.pass_to(due.next_ns)
    assert passed_ns % due.period_ns == 0
    assert [due.pass_to(due.next_ns) for _ in range(20)] == [PERIOD_NS // 4] * 20


def test_a_program_of_the_same_period_is_seen_everywhere() -> None:
    """A call that takes as long as a period, or a multiple, has samples in each tenth of it."""
    for multiple in (1, 2, 7):
        due = Due(0, PERIOD_NS)
        seen = set()
        for _ in range(2_000):
            seen.add(due.next_ns % (multiple * PERIOD_NS) * 10 // (multiple * PERIOD_NS))
            due.pass_to(due.next_ns)
        assert seen == set(range(10))
