"""Figures of one tree by path: calls, times, recursion, and the same for any order of its spans."""

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ztrace_collector.layout import MINUTE_NS
from ztrace_collector.settling.counting import Counted, PathSums, SpanRow, count_tree
from ztrace_collector.settling.figures import TreeSums
from ztrace_collector.settling.shapes import Shapes
from ztrace_collector.settling.swept import Swept
from ztrace_collector.settling.together import Together

#: Methods of the tests; `SEND` is what a consumer does, and `CALL` what a client does.
A, B, C, CALL, SEND = 1, 2, 3, 8, 9


def numbering() -> tuple[Callable[[int, int], int], dict[int, tuple[int, ...]]]:
    """Return a function that numbers paths with recursion folded, and the methods of each path."""
    ids: dict[tuple[int, ...], int] = {}
    names: dict[int, tuple[int, ...]] = {0: ()}

    def find(parent: int, method: int) -> int:
        above = names[parent]
        path = above[: above.index(method) + 1] if method in above else (*above, method)
        names.setdefault(ids.setdefault(path, len(ids) + 1), path)
        return ids[path]

    return find, names


def row(
    number: int, parent: int | None, method: int, start: int, duration: int | None, **more: Any
) -> SpanRow:
    """Return a span; times are in nanoseconds."""
    fields: dict[str, Any] = {
        "span_id": number.to_bytes(8, "big"),
        "parent_id": None if parent is None else parent.to_bytes(8, "big"),
        "method": method,
        "instance": 1,
        "start_ns": start,
        "end_ns": start + (duration or 0),
        "duration_ns": duration,
        "self_ns": None,
        "status": 0 if duration is not None else 2,
        "cpu_ns": None,
    }
    return SpanRow(**(fields | more))


def count(*rows: SpanRow) -> tuple[Counted, dict[tuple[int, ...], PathSums]]:
    """Return the figures of a tree, and its sums by the methods of each path."""
    find, names = numbering()
    counted = count_tree(rows, Shapes(find, {SEND}), "v{}".format, {CALL})
    sums: dict[tuple[int, ...], PathSums] = {}
    for by_path in counted.sums.values():
        for path, each in by_path.items():
            sums.setdefault(names[path], PathSums()).add(each)
    return counted, sums


def test_a_tree_is_summed_by_path() -> None:
    """Calls of one path are added up, with their own, total and critical time and their errors."""
    counted, sums = count(
        row(1, None, A, 0, 100),
        row(2, 1, B, 10, 20),
        row(3, 1, B, 40, 30, status=1),
        row(4, 3, C, 50, 10),
        row(5, 1, SEND, 60, 500),
    )
    assert {path: each.numbers for path, each in sums.items()} == {
        (A,): (1, 1, 0, 100, 50, 50, 0, 0),
        (A, B): (0, 2, 1, 50, 40, 40, 0, 0),
        (A, B, C): (0, 1, 0, 10, 10, 10, 0, 0),
        (A, SEND): (0, 1, 0, 500, 500, 0, 0, 0),
    }
    assert sums[A, B].histogram == {59: 1, 68: 1}
    assert (counted.minute, counted.version) == (0, "v1")


def test_a_tree_counts_in_the_minute_of_its_root() -> None:
    """All of a tree counts in the minute in which its earliest root ended, in that root's process."""
    start = 7 * MINUTE_NS + 1
    counted, _ = count(row(1, None, A, start, MINUTE_NS, instance=4), row(2, 9, B, 0, 1))
    assert (counted.minute, counted.version) == (8, "v4")
    assert {version: len(by_path) for version, by_path in counted.sums.items()} == {"v4": 1, "v1": 1}


def test_a_recursion_counts_on_the_path_where_it_began() -> None:
    """A method that occurs above counts there; the total has the time of the outermost calls alone."""
    _, sums = count(
        row(1, None, A, 0, 100),
        row(2, 1, B, 0, 90),
        row(3, 2, C, 0, 80),
        row(4, 3, A, 0, 70),
        row(5, 4, B, 0, 60),
        row(6, 5, B, 0, 50),
    )
    assert {path: (each.calls, each.total_ns, each.self_ns) for path, each in sums.items()} == {
        (A,): (2, 100, 20),
        (A, B): (3, 90, 70),
        (A, B, C): (1, 80, 10),
    }
    assert sum(each.critical_ns for each in sums.values()) == 100
    assert sums[A,].root_calls == 1


def test_an_open_span_holds_its_place() -> None:
    """A span without an end is counted nowhere, and those below it have their paths."""
    _, sums = count(row(1, None, A, 0, None, end_ns=5), row(2, 1, B, 10, 20))
    assert {path: each.numbers for path, each in sums.items()} == {
        (A,): (0,) * 8,
        (A, B): (0, 1, 0, 20, 20, 0, 0, 0),
    }
    _, sums = count(row(1, None, A, 0, 100), row(2, 1, B, 10, None, end_ns=40), row(3, 2, C, 20, 30))
    assert [sums[path].critical_ns for path in ((A,), (A, B), (A, B, C))] == [60, 10, 30]
    assert sums[A, B].calls == 0


def test_orphans_and_circles_are_roots() -> None:
    """A span whose parent is not stored is a root, and so is the earliest of parents in a circle."""
    _, sums = count(row(1, 8, A, 0, 10), row(2, 3, B, 5, 10), row(3, 2, C, 4, 20), row(4, 4, B, 1, 1))
    assert {path: each.root_calls for path, each in sums.items()} == {(A,): 1, (C,): 1, (C, B): 0, (B,): 1}


def test_figures_are_those_of_all_spans_in_any_order() -> None:
    """Whatever the order of the rows, each ended span counts once, and critical times add up to the roots."""
    chance = random.Random(5)
    for _ in range(2_000):
        rows = []
        for number in range(1, chance.randint(2, 14)):
            parent = chance.choice([None, *range(1, 16)])
            duration = chance.choice([None, *range(40)])
            own = chance.choice([None, 3])
            made = row(number, parent, chance.choice([A, B, C, SEND]), chance.randint(0, 50), duration)
            rows.append(made._replace(self_ns=own, instance=chance.randint(1, 2)))
        counted, sums = count(*rows)
        assert count(*chance.sample(rows, len(rows)))[1].keys() == sums.keys()
        again, others = count(*chance.sample(rows, len(rows)))
        assert {path: (each.numbers, each.histogram) for path, each in others.items()} == {
            path: (each.numbers, each.histogram) for path, each in sums.items()
        }
        assert (again.minute, again.version) == (counted.minute, counted.version)
        ended = [each for each in rows if each.duration_ns is not None]
        assert sum(each.calls for each in sums.values()) == len(ended)
        assert sum(sum(each.histogram.values()) for each in sums.values()) == len(ended)
        by_root: defaultdict[int, int] = defaultdict(int)
        for path, each in sums.items():
            by_root[path[0]] += each.critical_ns
            assert (
                0 <= each.self_ns <= sum(span.duration_ns or 0 for span in ended if span.method == path[-1])
            )
        assert sum(by_root.values()) <= sum(each.duration_ns or 0 for each in ended)


def test_trees_of_one_shape_count_alike() -> None:
    """A tree whose shape is known counts as one whose shape is new."""
    chance, (find, _) = random.Random(7), numbering()
    known = Shapes(find, {SEND})
    for _ in range(500):
        rows = []
        for number in range(1, chance.randint(2, 5)):
            parent = chance.choice([None, *range(1, number)])
            start, duration = chance.randint(0, 20), chance.choice([None, *range(40)])
            made = row(number, parent, chance.choice([A, B, SEND]), start, duration)
            rows.append(made._replace(instance=chance.randint(1, 2), cpu_ns=chance.choice([None, 9])))
        again, new = (
            count_tree(rows, shapes, "v{}".format, {CALL}) for shapes in (known, Shapes(find, {SEND}))
        )
        for version, by_path in new.sums.items():
            found = {path: (each.numbers, each.histogram) for path, each in again.sums[version].items()}
            assert found == {path: (each.numbers, each.histogram) for path, each in by_path.items()}


def test_trees_count_together_as_they_do_alone() -> None:
    """Trees of few kinds, counted column by column, have the figures of each tree counted by itself."""
    chance, (find, _) = random.Random(11), numbering()
    shapes, together, alone = Shapes(find, {SEND}), TreeSums(), TreeSums()
    spans: list[SpanRow] = []
    for tree in range(3000):
        # Few kinds of trees, so that most are of a kind with others; missing parents, circles and equal ids.
        kind = random.Random(chance.randint(1, 60))
        rows = []
        for number in range(1, kind.randint(2, 10)):
            start = chance.randint(0, 20) if kind.random() < 0.2 else number
            rows.append(
                row(
                    kind.choice([number] * 9 + [1]),
                    kind.choice([None, 99, *range(1, 11), *range(1, number)]),
                    kind.choice([A, B, CALL, SEND]),
                    kind.choice([0, MINUTE_NS - 20]) + start,
                    chance.choice([0, 1, *range(40)]),
                    instance=kind.randint(1, 2),
                    status=kind.choice([0, 0, 0, 1]),
                    self_ns=chance.choice([None, 0, 5, 50]),
                    cpu_ns=chance.choice([None, 0, 9]),
                    lane=chance.choice([None, 1, 2]),
                    trace_id=tree.to_bytes(16, "big"),
                )
            )
        chance.shuffle(rows)
        spans += rows
        count_tree(rows, shapes, "v{}".format, {CALL}, alone.open)
    swept = Swept(spans)
    counting = Together(swept, shapes, "v{}".format, {CALL}, together.open)
    for places in swept.trees.values():
        counting.add(places)
    counting.write()

    def listed(sums: TreeSums) -> dict[tuple[Any, ...], Any]:
        return {tuple(key): (each.numbers, each.histogram) for *key, each in sums.list_sums()}

    assert listed(together) == listed(alone)
    assert len({minute for minute, *_ in listed(alone)}) == 2


def test_taken_back_figures_leave_nothing() -> None:
    """Sums from which the same sums are taken back are empty."""
    _, sums = count(row(1, None, A, 0, 100), row(2, 1, B, 10, 20))
    for each in sums.values():
        total = PathSums()
        total.add(each)
        total.add(each)
        total.add(each, -1)
        assert (total.numbers, total.histogram) == (each.numbers, each.histogram)
        total.add(each, -1)
        assert total.is_empty


def test_cpu_time_counts_where_it_is_the_calls_own() -> None:
    """CPU time of a call counts with its own time, unless something else in its process ran within it."""
    _, sums = count(
        row(1, None, 1, 0, 100, cpu_ns=30),
        row(2, 1, CALL, 10, 50),
        row(3, 2, 3, 15, 40, instance=2, cpu_ns=90),
        row(4, None, 4, 0, 100, cpu_ns=70),
        row(5, 4, 5, 10, 50, cpu_ns=20),
        row(6, None, 6, 0, 100),
    )
    times = {path[-1]: (each.cpu_ns, each.timed_ns) for path, each in sums.items()}
    assert times == {1: (30, 50), CALL: (0, 0), 3: (40, 40), 4: (0, 0), 5: (20, 50), 6: (0, 0)}
