"""Critical paths: exact sections of a root's time, and the spans that its end waited for."""

import random
from itertools import pairwise

import pytest

from tests.viewer.trees.test_tree import TRACE, row
from ztrace_collector.settling.critical import walk_chain, walk_sections
from ztrace_viewer.documents.trees import UnfinishedState
from ztrace_viewer.trees.spans import SpanRow
from ztrace_viewer.trees.states import CRASHED
from ztrace_viewer.trees.tree import build_tree, walk

MS = 10**6


def path(*rows: SpanRow) -> list[tuple[int, int, int]]:
    """Return the sections of the first row's critical path: number of the span, begin, and end."""
    numbers = {each.span_id: position for position, each in enumerate(rows)}
    children: dict[int, list[int]] = {}
    for position, each in enumerate(rows):
        if each.parent_id is not None and each.kind != "consumer":
            children.setdefault(numbers[each.parent_id], []).append(position)
    begins, ends = [each.start_ns for each in rows], [each.end_ns for each in rows]
    instances, lanes = [each.instance_id for each in rows], [each.lane for each in rows]
    sections = list(walk_sections(begins, ends, children, instances, lanes, 0))
    return [
        (int.from_bytes(rows[position].span_id, "big"), begin, end)
        for position, begin, end in reversed(sections)
    ]


def times(*rows: SpanRow) -> dict[str, int | None]:
    """Return the time of each span of a tree on its critical path, by name."""
    tree = build_tree(TRACE, rows, {})
    return {span["name"]: span["critical_ns"] for span, _ in walk(tree["roots"])}


def test_siblings_one_after_the_other_are_all_on_the_path() -> None:
    """Back-to-back siblings are on the path, and the rest of the time is the parent's."""
    assert path(row(1, None, 0, 250), row(2, 1, 100, 50), row(3, 1, 150, 50)) == [
        (1, 0, 100),
        (2, 100, 150),
        (3, 150, 200),
        (1, 200, 250),
    ]


def test_of_siblings_side_by_side_the_last_is_on_the_path() -> None:
    """Of siblings that overlap, the one that ends last is on the path."""
    assert path(row(1, None, 0, 100), row(2, 1, 5, 45), row(3, 1, 10, 80)) == [
        (1, 0, 10),
        (3, 10, 90),
        (1, 90, 100),
    ]


def test_a_chain_has_the_same_sections_without_a_walk() -> None:
    """Sections of a chain of spans, of whatever times, are those of any tree."""
    chance = random.Random(3)
    for _ in range(500):
        begins = [chance.randint(0, 20) for _ in range(4)]
        ends = [begin + chance.randint(0, 20) for begin in begins]
        children = {0: [1], 1: [2], 2: [3]}
        walked = walk_sections(begins, ends, children, [1, 2, 1, 1], [None, 1, 2, 3], 0)
        assert sorted(walk_chain(begins, ends, children, 0)) == sorted(walked)


def test_a_child_is_clipped_to_its_parent() -> None:
    """A child that begins before its parent or outlives it counts within the parent."""
    assert path(row(1, None, 0, 100), row(2, 1, -20, 80), row(3, 1, 80, 50)) == [
        (2, 0, 60),
        (1, 60, 80),
        (3, 80, 100),
    ]
    outliving = row(1, None, 0, 50, kind="client"), row(2, 1, 10, 90), row(3, 2, 70, 20)
    assert times(*outliving) == {"call1": 10, "call2": 40, "call3": 0}


def test_nothing_waits_for_a_consumer() -> None:
    """A consumer and the calls below it have no time on the path."""
    rows = [row(1, None, 0, 100), row(2, 1, 10, 2, kind="producer"), row(3, 2, 11, 400, kind="consumer")]
    assert times(*rows, row(4, 3, 12, 5)) == {"call1": 98, "call2": 2, "call3": 0, "call4": 0}


def test_each_ended_root_has_its_own_path() -> None:
    """Each root that has ended has a path, an orphaned consumer too; an open one has none."""
    rows = [row(1, None, 0, 100), row(2, 1, 10, 20), row(3, 9, 500, 40, kind="consumer"), row(4, 3, 510, 10)]
    rows += [row(5, None, 600, None), row(6, 5, 601, 7)]
    expected: dict[str, int | None] = {"call1": 80, "call2": 20, "call3": 30, "call4": 10}
    assert times(*rows) == {**expected, "call5": None, "call6": None}


def test_a_child_without_an_end_lasts_to_its_last_sign() -> None:
    """A child without an end is on the path to the last sign of it, or of its children."""
    crashed = row(2, 1, 10, None)._replace(unfinished={"state": CRASHED, "last_seen_ns": 40})
    assert times(row(1, None, 0, 100), crashed) == {"call1": 70, "call2": 30}
    assert times(row(1, None, 0, 100), crashed, row(3, 2, 50, 20)) == {"call1": 40, "call2": 40, "call3": 20}
    assert times(row(1, None, 0, 100), row(2, 1, 10, None)) == {"call1": 100, "call2": 0}
    early = crashed._replace(unfinished={"state": CRASHED, "last_seen_ns": 3})
    assert times(row(1, None, 0, 100), early) == {"call1": 100, "call2": 0}


def test_jitter_between_clocks_hides_no_sibling() -> None:
    """Siblings of other processes may overlap by a hundredth of their parent, those here not."""
    parent = row(1, None, 0, 1000 * MS)._replace(instance_id="caller")
    first, second = row(2, 1, 0, 503 * MS), row(3, 1, 502 * MS, 498 * MS)
    assert path(parent, first, second) == [(2, 0, 502 * MS), (3, 502 * MS, 1000 * MS)]
    far = second._replace(start_ns=501 * MS, duration_ns=499 * MS)
    assert path(parent, first, far) == [(1, 0, 501 * MS), (3, 501 * MS, 1000 * MS)]
    here = [each._replace(instance_id="caller") for each in (first, second)]
    assert path(parent, *here) == [(1, 0, 502 * MS), (3, 502 * MS, 1000 * MS)]


def test_a_gathered_call_follows_the_one_before_it_in_its_lane() -> None:
    """Of calls that two tasks make, each follows its own task's; without lanes the last to end is awaited."""
    parent = row(1, None, 0, 500)._replace(lane=9)
    first, beside, last = row(2, 1, 0, 100), row(3, 1, 0, 200), row(4, 1, 200, 300)
    assert path(parent, first, beside, last) == [(3, 0, 200), (4, 200, 500)]
    lanes = [each._replace(lane=lane) for each, lane in ((first, 1), (beside, 2), (last, 1))]
    assert path(parent, *lanes) == [(2, 0, 100), (1, 100, 200), (4, 200, 500)]


def test_calls_one_after_the_other_in_a_pool_are_all_on_the_path() -> None:
    """Calls that each begin when the last has ended were waited for, whichever lanes they are in."""
    calls = [row(number, 1, 10 * number, 10)._replace(lane=1 + number % 2) for number in range(2, 6)]
    sections = [(1, 0, 20), (2, 20, 30), (3, 30, 40), (4, 40, 50), (5, 50, 60), (1, 60, 99)]
    assert path(row(1, None, 0, 99), *calls) == sections


def test_the_parents_own_calls_may_have_waited_for_any_lane() -> None:
    """Before a call on the parent's own lane, the parent waited for the last call to end, on any lane."""
    parent, joined = row(1, None, 0, 100)._replace(lane=9), row(3, 1, 10, 80)._replace(lane=1)
    own = [row(2, 1, 20, 10)._replace(lane=9), row(4, 1, 90, 10)._replace(lane=9)]
    assert path(parent, *own, joined) == [(1, 0, 10), (3, 10, 90), (4, 90, 100)]
    others = [each._replace(lane=8) for each in own]
    assert path(parent, *others, joined) == [(1, 0, 20), (2, 20, 30), (1, 30, 90), (4, 90, 100)]


def test_lanes_of_other_processes_are_unknown() -> None:
    """Lanes count among the calls of the parent's process; one whose lane is unknown may be awaited."""
    parent, first = row(1, None, 0, 500), row(2, 1, 0, 100)._replace(lane=1)
    beside, last = row(3, 1, 0, 200), row(4, 1, 200, 300)._replace(lane=1)
    assert path(parent, first, beside, last) == [(3, 0, 200), (4, 200, 500)]
    far = beside._replace(lane=2, instance_id="far")
    assert path(parent, first, far, last) == [(3, 0, 200), (4, 200, 500)]


def test_many_calls_each_in_a_lane_of_its_own_take_linear_time() -> None:
    """20,000 tasks, one after the other and side by side, have a path without searching all for each."""
    one_by_one = [row(number, 1, number, 1)._replace(lane=number) for number in range(2, 20_002)]
    assert len(path(row(1, None, 0, 30_000), *one_by_one)) == 20_002
    in_two = [row(number, 1, number, 1)._replace(lane=1 + number % 2) for number in range(2, 20_002)]
    assert len(path(row(1, None, 0, 30_000), *in_two)) == 20_002


def test_a_deep_tree_needs_no_recursion() -> None:
    """A tree of 20,000 levels has a path of as many sections."""
    rows = [row(number, number - 1 or None, number, 50_000 - 2 * number) for number in range(1, 20_001)]
    assert len(path(*rows)) == 2 * 20_000 - 1


def check_random_trees(count: int) -> None:
    """Check that the sections of random trees are disjoint, in order, and make up the root's duration."""
    chance = random.Random(7)
    for _ in range(count):
        rows = [row(1, None, 5, chance.randint(1, 60))]
        for number in range(2, chance.randint(1, 12) + 2):
            above = chance.choice(rows)
            start_ns = chance.randint(above.start_ns - 3, above.end_ns + 3)
            duration_ns = chance.choice([None, *range(30)])
            kind = chance.choice(["client", "server", "consumer"])
            made = row(number, int.from_bytes(above.span_id, "big"), start_ns, duration_ns, kind=kind)
            unfinished: UnfinishedState
            unfinished = {"state": CRASHED, "last_seen_ns": start_ns + chance.randint(-5, 30)}
            made = made._replace(instance_id=chance.choice("ab"), lane=chance.choice([None, 1, 2]))
            rows.append(made if duration_ns is not None else made._replace(unfinished=unfinished))
        sections = path(*rows)
        moments = [5, *(moment for _, begin, end in sections for moment in (begin, end)), rows[0].end_ns]
        assert all(before == after for before, after in zip(moments[::2], moments[1::2], strict=True))
        assert all(begin < end for _, begin, end in sections)
        assert all(one[0] != other[0] for one, other in pairwise(sections)), "sections of one span touch"
        assert sum(each or 0 for each in times(*rows).values()) >= rows[0].end_ns - 5


def test_sections_add_up_to_the_root() -> None:
    """The sections of any tree are disjoint, in order, and add up to the root's duration exactly."""
    check_random_trees(2_000)


@pytest.mark.slow
def test_sections_of_very_many_trees_add_up() -> None:
    """The sections of 100,000 trees add up."""
    check_random_trees(100_000)
