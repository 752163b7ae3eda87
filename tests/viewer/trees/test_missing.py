"""Reasons of missing parents, as tables of cases over facts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.viewer.stored import NOON, SECOND
from ztrace_viewer.documents.trees import Loss
from ztrace_viewer.trees.missing import (
    ARRIVED_NS,
    ENDED_WITH_PROCESS,
    LATE_NS,
    LOST,
    NEVER_RECEIVED,
    NO_FACTS,
    NOT_TRACED,
    REFUSED,
    STILL_RUNNING,
    Facts,
    Orphan,
    Process,
    explain_orphan,
)

#: The orphan ran for a second at noon; the present is long after.
END, LONG_AFTER = NOON + SECOND, NOON + 3600 * SECOND
PARENT = b"parent.."
HERE, THERE = "aa", "bb"


def orphan(kind: str = "internal") -> Orphan:
    """Return an orphan of the process HERE."""
    return Orphan(b"orphan..", PARENT, kind, HERE, NOON, END)


def loss(first_s: float, last_s: float, span_count: int = 5) -> Loss:
    """Return a loss between two times, in seconds from noon."""
    return {
        "service": "billing",
        "host": "box",
        "pid": 7,
        "reason": "window full",
        "span_count": span_count,
        "first_ns": NOON + int(first_s * SECOND),
        "last_ns": NOON + int(last_s * SECOND),
    }


def process(state: str, seen_s: float = 0, waiting: int = 0) -> Process:
    """Return a process with its last message, in seconds from noon."""
    return Process(state, NOON + int(seen_s * SECOND), waiting)


def foreign(state: str, seen_s: float = 0) -> Process:
    """Return a process of which spans came by OTLP or from a file."""
    return Process(state, NOON + int(seen_s * SECOND), 0, foreign=True)


LIVE = process("live", 3600)
FITS, BEFORE, MUCH_LATER = loss(0, 2), loss(-9, -1), loss(600, 700)

#: Kind, facts, reason: for a parent usually in the same process, or in another one.
CASES = [
    ("internal", NO_FACTS, NOT_TRACED),
    ("server", NO_FACTS, NOT_TRACED),
    ("server", Facts(LONG_AFTER, {PARENT: "kind"}, {THERE: LIVE}, {THERE: [FITS]}), REFUSED),
    ("client", Facts(LONG_AFTER, {}, {HERE: LIVE}, {HERE: [FITS]}), LOST),
    ("producer", Facts(LONG_AFTER, {}, {HERE: process("crashed")}, {HERE: [loss(1, 9)]}), LOST),
    ("internal", Facts(LONG_AFTER, {}, {HERE: LIVE}, {HERE: [BEFORE]}), NOT_TRACED),
    ("internal", Facts(LONG_AFTER, {}, {HERE: LIVE}, {HERE: [MUCH_LATER]}), NOT_TRACED),
    ("internal", Facts(END + SECOND, {}, {HERE: process("live", 2)}), STILL_RUNNING),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("live", 3600, 3)}), STILL_RUNNING),
    ("internal", Facts(LONG_AFTER, {}, {HERE: LIVE}), NOT_TRACED),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("silent", 2)}), ENDED_WITH_PROCESS),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("ended", 2)}), ENDED_WITH_PROCESS),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("ended", 900)}), NOT_TRACED),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("crashed", 2)}), ENDED_WITH_PROCESS),
    ("internal", Facts(LONG_AFTER, {}, {HERE: process("crashed", 900)}), NOT_TRACED),
    ("internal", Facts(LONG_AFTER, {}, {HERE: LIVE}, {THERE: [FITS]}), LOST),
    ("server", Facts(LONG_AFTER, {}, {THERE: LIVE}, {THERE: [FITS]}), LOST),
    ("server", Facts(LONG_AFTER, {}, {THERE: LIVE}, {HERE: [FITS]}), NOT_TRACED),
    ("server", Facts(LONG_AFTER, {}, {THERE: LIVE}, {THERE: [BEFORE]}), NOT_TRACED),
    ("consumer", Facts(LONG_AFTER, {}, {THERE: LIVE}, {THERE: [BEFORE]}), LOST),
    ("server", Facts(END + SECOND, {}, {THERE: process("live", 2)}), STILL_RUNNING),
    ("server", Facts(END + SECOND, {}, {HERE: process("live", 2)}), NOT_TRACED),
    ("server", Facts(END + ARRIVED_NS + 1, {}, {THERE: process("live", 11, 4)}), STILL_RUNNING),
    ("server", Facts(END + LATE_NS + 1, {}, {THERE: process("live", 61, 4)}), NOT_TRACED),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: process("silent", 0.5)}), ENDED_WITH_PROCESS),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: process("silent", -60)}), NOT_TRACED),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: process("silent", 60)}), NOT_TRACED),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: process("crashed", 0.5)}), ENDED_WITH_PROCESS),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: process("ended", 0.5)}), NOT_TRACED),
    ("server", Facts(END + SECOND, {}, {b: process(b, 0.5) for b in ("live", "silent")}), ENDED_WITH_PROCESS),
    ("internal", Facts(LONG_AFTER, {}, {HERE: foreign("silent", 2)}), NEVER_RECEIVED),
    ("internal", Facts(LONG_AFTER, {}, {HERE: foreign("live", 3600)}), NEVER_RECEIVED),
    ("server", Facts(LONG_AFTER, {}, {HERE: foreign("silent", 2)}), NEVER_RECEIVED),
    ("client", Facts(LONG_AFTER, {}, {b: foreign("silent", 0.5) for b in (HERE, THERE)}), NEVER_RECEIVED),
    ("internal", Facts(END + SECOND, {}, {HERE: foreign("live", 2)}), STILL_RUNNING),
    ("internal", Facts(LONG_AFTER, {PARENT: "kind"}, {HERE: foreign("silent", 2)}), REFUSED),
    ("server", Facts(LONG_AFTER, {}, {HERE: foreign("silent", 2)}, {THERE: [FITS]}), LOST),
    ("server", Facts(LONG_AFTER, {}, {HERE: LIVE, THERE: foreign("silent", 0.5)}), NOT_TRACED),
    (
        "server",
        Facts(LONG_AFTER, {}, {HERE: foreign("silent"), THERE: process("crashed", 0.5)}),
        ENDED_WITH_PROCESS,
    ),
]


@pytest.mark.parametrize(("kind", "facts", "reason"), CASES)
def test_the_first_fact_that_fits_is_the_reason(kind: str, facts: Facts, reason: str) -> None:
    """The reason is the first fact that fits: refused, lost, pending, ended with its process, or untraced."""
    entry = explain_orphan(orphan(kind), facts)
    assert (entry["reason"], entry["span_id"], entry["parent_id"]) == (
        reason,
        orphan().span_id.hex(),
        PARENT.hex(),
    )
    assert entry.get("refusal") == ("kind" if reason == REFUSED else None)
    assert ("gap" in entry) == (reason == LOST)


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([loss(5, 9), loss(0, 2), loss(2, 3)], 1),
        ([loss(0, 2, 5), loss(0, 2, 50)], 1),
        ([loss(0, 0.5), loss(1.2, 9)], 1),
    ],
)
def test_of_several_losses_the_nearest_is_shown(losses: list[Loss], best: int) -> None:
    """Of several losses, the nearest is named, then the largest."""
    entry = explain_orphan(orphan("server"), Facts(LONG_AFTER, {}, {}, {THERE: losses}))
    assert entry["gap"] == losses[best]


TIMES = st.integers(-100, 100)


@given(
    st.sampled_from(["internal", "client", "server", "producer", "consumer"]),
    st.lists(st.tuples(TIMES, TIMES)),
    st.sampled_from(["live", "silent", "ended", "crashed"]),
    TIMES,
    st.integers(0, 2),
)
def test_a_loss_that_cannot_have_it_is_never_blamed(
    kind: str, times: list[tuple[int, int]], state: str, seen_s: int, waiting: int
) -> None:
    """A loss whose time cannot include the parent's end is never named."""
    losses = [loss(min(pair), max(pair)) for pair in times]
    facts = Facts(LONG_AFTER, {}, {THERE: process(state, seen_s, waiting)}, {THERE: losses, HERE: losses})
    entry = explain_orphan(orphan(kind), facts)
    if entry["reason"] == LOST:
        gap = entry["gap"]
        assert gap in losses
        assert gap["last_ns"] >= NOON - (LATE_NS if kind == "consumer" else 0)
        assert gap["first_ns"] <= END + LATE_NS
    else:
        assert not any(each["last_ns"] >= NOON and each["first_ns"] <= END for each in losses)
