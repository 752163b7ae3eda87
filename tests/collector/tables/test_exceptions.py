"""Exceptions counted at their origin and grouped by the code that raised them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, refusals, row, rows, span_id, trace_id
from ztrace.errors import DatabaseError
from ztrace.records import ERROR, Span
from ztrace_collector.storing.store import Store
from ztrace_collector.tables.groups import MAX_SERVICES

APP = ["/srv/app.py", 10, "charge", "app", "gateway.pay(card)", True, 0, 0, None]
LIBRARY = ["/lib/http.py", 90, "send", "http", "raise Timeout", False, 0, 0, None]


def failed(
    number: int = 0,
    *,
    origin: int | None = None,
    tree: int = 0,
    message: str = "declined",
    kind: str = "Declined",
    frames: Sequence[Any] = (APP, LIBRARY),
    causes: Sequence[Any] = (),
    how: str = "raised",
    members: Sequence[Any] = (),
    **changes: Any,
) -> Span:
    """Return a failed span; ``origin`` is the number of the span that the exception comes from."""
    record = [
        kind,
        message,
        list(frames),
        list(causes),
        how,
        trace_id(tree),
        span_id(number),
        [],
        list(members),
    ]
    if origin is not None:
        record[2:5] = [[], [], "passed" if how == "raised" else how]
        record[6] = span_id(origin)
    return make_span(number, trace_id=trace_id(tree), status=ERROR, exception=record, **changes)


def test_an_exception_is_counted_at_its_origin(store: Store, path: Path) -> None:
    """An exception that passed three spans counts once, with the fields of its origin."""
    origin, passed = Sender(0, "bank"), Sender(1, "shop")
    store.store(
        [
            passed.data(failed(1, origin=2, name="pay"), failed(0, origin=2, name="order")),
            origin.data(failed(2, name="debit")),
        ]
    )
    group = row(path, "SELECT * FROM exception_groups")
    assert (group["service"], group["name"], group["count"]) == ("bank", "debit", 1)
    assert (group["type"], group["message"]) == ("Declined", "declined")
    assert (group["trace_id"], group["origin_span_id"]) == (trace_id(0), span_id(2))
    assert group["first_ns"] == group["last_ns"] == EPOCH_NS + 10 * MS
    names = ("file", "line", "function", "module", "code", "in_app")
    assert json.loads(group["frames"])[0] == dict(zip(names, APP[:6], strict=True))
    listed = rows(path, "SELECT * FROM exception_list ORDER BY how")
    assert [(one["how"], one["exception_group"]) for one in listed] == [
        ("passed", group["fingerprint"]),
        ("passed", group["fingerprint"]),
        ("raised", group["fingerprint"]),
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_group_reaches_those_passed_in_either_order(
    store: Store, path: Path, order: tuple[int, int]
) -> None:
    """Origin and passed spans have the same group, whichever is stored first."""
    messages = [Sender(0).data(failed(1)), Sender(1).data(failed(0, origin=1))]
    for index in order:
        store.store([messages[index]])
    groups = rows(path, "SELECT exception_group FROM exceptions")
    assert groups == [{"exception_group": 1}] * 2


def test_a_group_shows_its_latest_occurrence(store: Store, path: Path) -> None:
    """Count, first and last time include every origin, and the example is the latest by time."""
    late, early = EPOCH_NS + 60_000 * MS, EPOCH_NS
    store.store([Sender().data(failed(1, tree=1, message="late", start_ns=late, name="b"))])
    store.store([Sender(1).data(failed(2, tree=2, message="early", start_ns=early, name="a"))])
    group = row(path, "SELECT * FROM exception_groups")
    assert (group["count"], group["message"], group["name"], group["trace_id"]) == (
        2,
        "late",
        "b",
        trace_id(1),
    )
    assert (group["first_ns"], group["last_ns"]) == (early + 10 * MS, late + 10 * MS)
    assert row(path, "SELECT count(*) AS n FROM exception_minutes")["n"] == 2


OTHER = ["/srv/app.py", 20, "refund", "app", "gateway.refund(card)", True, 0, 0, None]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"message": "another", "number": 7}, True),
        ({"frames": [[*APP[:1], 77, *APP[2:]], LIBRARY]}, True),
        ({"frames": [[*APP[:4], "  gateway.pay(card) ", *APP[5:]], LIBRARY]}, True),
        ({"frames": [["/other/place/app.py", *APP[1:]], LIBRARY]}, True),
        ({"frames": [APP, APP, APP, LIBRARY]}, True),
        ({"frames": [APP]}, True),
        ({"frames": [OTHER, LIBRARY]}, False),
        ({"frames": [APP, OTHER]}, False),
        ({"kind": "Refused"}, False),
    ],
)
def test_what_makes_a_problem_the_same(store: Store, path: Path, other: dict[str, Any], same: bool) -> None:
    """Type and in-app code determine a group, not lines, paths, messages, libraries or recursion."""
    changed: dict[str, Any] = {"number": 1, "tree": 1} | other
    store.store([Sender().data(failed(0), failed(**changed))])
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == (1 if same else 2)


def test_another_services_exception_is_another_problem(store: Store, path: Path) -> None:
    """The same code in two services makes two groups."""
    store.store([Sender(0, "a").data(failed(0)), Sender(1, "b").data(failed(1, tree=1))])
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("no order 12", "no order 345", True),
        ("no 'apple'", "no 'pear tree'", True),
        ("at 0x7f00aa", "at 0x7f11bb", True),
        ("trace deadbeef01", "trace cafebabe9922", True),
        ("id 123e4567-e89b-12d3-a456-426614174000", "id 00000000-e89b-12d3-a456-426614174fff", True),
        ("not found", "not allowed", False),
    ],
)
def test_without_frames_the_message_tells_problems_apart(
    store: Store, path: Path, one: str, other: str, same: bool
) -> None:
    """Without frames, words of a message separate groups, and numbers, ids and quoted text do not."""
    spans = [failed(n, tree=n, message=text, frames=()) for n, text in enumerate((one, other))]
    store.store([Sender().data(*spans)])
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == (1 if same else 2)


def test_library_frames_count_when_there_are_no_others(store: Store, path: Path) -> None:
    """An exception with library frames only is grouped by these."""
    store.store(
        [
            Sender().data(
                failed(0, frames=[LIBRARY]),
                failed(1, tree=1, frames=[[*LIBRARY[:2], *APP[2:5], *LIBRARY[5:]]]),
            )
        ]
    )
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == 2


def test_causes_are_kept_as_a_tree(store: Store, path: Path) -> None:
    """Chained causes are stored with their frames and links."""
    inner = ["KeyError", "'k'", [LIBRARY], [], "replaced", None, None, [], []]
    outer = ["LookupError", "gone", [APP], [inner], "wrapped", None, None, [], []]
    store.store([Sender().data(failed(causes=[outer]))])
    (cause,) = json.loads(row(path, "SELECT causes FROM exceptions")["causes"])
    assert (cause["type"], cause["message"], cause["how"]) == ("LookupError", "gone", "wrapped")
    assert [frame["function"] for frame in cause["frames"]] == ["charge"]
    assert (cause["causes"][0]["type"], cause["causes"][0]["how"]) == ("KeyError", "replaced")
    assert cause["causes"][0]["causes"] == []


def test_endless_causes_and_frames_are_cut(store: Store, path: Path) -> None:
    """An exception is limited in depth and frames, keeping the innermost frames, and the cut is counted."""
    cause: list[Any] = ["E0", "m", [], [], "wrapped", None, None, [], []]
    for number in range(1, 40):
        cause = [f"E{number}", "m", [], [cause], "wrapped", None, None, [], []]
    frames = [[*APP[:1], line, *APP[2:]] for line in range(300)]
    store.store([Sender().data(failed(causes=[cause], frames=frames))])
    stored = row(path, "SELECT frames, causes FROM exceptions")
    assert [frame["line"] for frame in json.loads(stored["frames"])] == list(range(200, 300))
    assert stored["causes"].count('"how"') == 16
    assert refusals(path) == {"exception": 1}


def test_bad_frames_are_left_out(store: Store, path: Path) -> None:
    """Frames with invalid fields are dropped, and the exception is kept."""
    store.store([Sender().data(failed(frames=[APP, ["x"], 7, [*APP[:1], "10", *APP[2:]]]))])
    assert len(json.loads(row(path, "SELECT frames FROM exceptions")["frames"])) == 1
    assert refusals(path) == {"exception": 1}


def uncaught(path: Path) -> dict[str, tuple[int, int]]:
    """Return the numbers of occurrences, and of the uncaught ones, by type."""
    groups = rows(path, "SELECT type, count, uncaught_count, id FROM exception_groups")
    for group in groups:
        minutes = row(
            path,
            "SELECT sum(uncaught_count) AS n FROM exception_minutes WHERE exception_group = ?",
            group["id"],
        )
        assert minutes["n"] == group["uncaught_count"]
    counts = Counter({group["type"]: 0 for group in groups})
    reached = Counter(counts)
    for group in groups:
        counts[group["type"]] += group["count"]
        reached[group["type"]] += group["uncaught_count"]
    return {kind: (count, reached[kind]) for kind, count in counts.items()}


def store_each(store: Store, spans: Iterable[Span]) -> None:
    """Store each span in its own transaction."""
    for number, span in enumerate(spans):
        store.store([Sender(number, f"service{number}").data(span)])


CHILD: dict[str, Any] = {"parent_id": span_id(0)}


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("last", ["passed", "wrapped", "replaced"])
def test_an_origin_reaches_the_edge_in_any_order(
    store: Store, path: Path, order: Sequence[int], together: bool, last: str
) -> None:
    """An origin whose root ended with it counts once as uncaught, in any order of spans."""
    spans = [failed(0, origin=2, how=last), failed(1, origin=2, **CHILD), failed(2, parent_id=span_id(1))]
    chosen = [spans[index] for index in order]
    if together:
        store.store([Sender().data(*chosen)])
    else:
        store_each(store, chosen)
    assert uncaught(path) == {"Declined": (1, 1)}
    roots = rows(path, "SELECT is_root FROM exceptions ORDER BY span_id")
    assert [one["is_root"] for one in roots] == [1, 0, 0]


def test_an_origin_that_is_the_root_is_uncaught(store: Store, path: Path) -> None:
    """An origin that is the root is uncaught."""
    store.store([Sender().data(failed(0))])
    assert uncaught(path) == {"Declined": (1, 1)}


def test_an_exception_of_a_consumer_is_uncaught(store: Store, path: Path) -> None:
    """An exception that ends a consumer is uncaught, since nothing waits for a consumer."""
    store.store([Sender().data(make_span(0), failed(1, **CHILD)._replace(kind=5))])
    assert uncaught(path) == {"Declined": (1, 1)}


def test_a_swallowed_exception_is_not_uncaught(store: Store, path: Path) -> None:
    """An exception is not uncaught if the root succeeds or fails with another."""
    fine, other = make_span(0), failed(10, tree=1, kind="Other", frames=[OTHER])
    store.store([Sender().data(fine, failed(1, **CHILD), other, failed(11, tree=1, parent_id=span_id(10)))])
    assert uncaught(path) == {"Declined": (2, 0), "Other": (1, 1)}
    listed = rows(path, "SELECT type, swallowed_count FROM group_list ORDER BY type")
    assert [tuple(one.values()) for one in listed] == [("Declined", 2), ("Other", 0)]


def test_what_is_told_twice_counts_once(store: Store, path: Path) -> None:
    """Duplicates of an origin or a root, and a second root, count once."""
    spans = [failed(1, **CHILD), failed(0, origin=1), failed(0, origin=1), failed(1, **CHILD)]
    store_each(store, [*spans, failed(3, origin=1)])
    store.store([Sender(9).data(*spans)])
    assert uncaught(path) == {"Declined": (1, 1)}
    assert row(path, "SELECT count(*) AS n FROM exceptions WHERE exception_group = 1")["n"] == 9


def member(origin: int, tree: int = 0) -> list[Any]:
    """Return a group member that was first raised in another span."""
    return ["Declined", "no", [], [], "passed", trace_id(tree), span_id(origin), [], []]


@pytest.mark.parametrize("order", list(permutations(range(4))))
@pytest.mark.parametrize("reached", [True, False])
def test_members_go_where_their_group_goes(
    store: Store, path: Path, order: Sequence[int], reached: bool
) -> None:
    """Members of an exception group have their own origins, and are uncaught if the group is."""
    spans = [
        failed(0, origin=2) if reached else make_span(0),
        failed(1, origin=2, how="grouped", members=[member(2), member(3)], **CHILD),
        failed(2, kind="One", parent_id=span_id(1)),
        failed(3, kind="Other", parent_id=span_id(1)),
    ]
    store_each(store, [spans[index] for index in order])
    assert uncaught(path) == {"One": (1, int(reached)), "Other": (1, int(reached))}
    grouped = row(path, "SELECT members, other_origins FROM exceptions WHERE how = 'grouped'")
    assert json.loads(grouped["other_origins"]) == [span_id(3).hex()]
    assert json.loads(grouped["members"])[1]["origin_span_id"] == span_id(3).hex()


def test_an_exception_group_of_its_own_is_an_origin(store: Store, path: Path) -> None:
    """An exception group whose members were all raised in its span is an origin."""
    inside = [["KeyError", "'k'", [APP], [], "raised", None, None, [], []]]
    store.store([Sender().data(failed(0, kind="ExceptionGroup", members=inside))])
    assert uncaught(path) == {"ExceptionGroup": (1, 1)}
    assert row(path, "SELECT other_origins FROM exceptions")["other_origins"] is None


def test_a_root_of_another_trace_catches_nothing(store: Store, path: Path) -> None:
    """A root of another trace leaves nothing uncaught, and has the origin's group in either order."""
    strange = failed(9, origin=1, tree=5)
    strange.exception[5] = trace_id(0)  # type: ignore[index]
    store_each(store, [strange, failed(1, **CHILD), strange._replace(span_id=span_id(8))])
    assert uncaught(path) == {"Declined": (1, 0)}
    assert rows(path, "SELECT DISTINCT exception_group FROM exceptions") == [{"exception_group": 1}]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=settings().max_examples // 2
)
@given(st.data())
def test_uncaught_origins_do_not_depend_on_how_spans_arrive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Random trees count the same in any order and any batches."""
    spans = []
    for tree in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 6))
        for place in range(size):
            number = 10 * tree + place
            origin = data.draw(st.none() | st.integers(0, size - 1))
            others = data.draw(st.lists(st.integers(0, size - 1), max_size=2))
            parent = None if place == 0 else span_id(10 * tree)
            how = "raised" if origin is None else data.draw(st.sampled_from(["passed", "grouped"]))
            spans.append(
                failed(
                    number,
                    origin=None if origin is None else 10 * tree + origin,
                    tree=tree,
                    how=how,
                    kind=data.draw(st.sampled_from("AB")),
                    members=[member(10 * tree + other, tree) for other in others],
                    parent_id=parent,
                )
            )
    found = []
    for order in (spans, data.draw(st.permutations(spans))):
        path = tmp_path_factory.mktemp("store") / "traces.db"
        size = data.draw(st.integers(1, len(order)))
        with Store(path, clock_ns=lambda: EPOCH_NS) as store:
            for begin in range(0, len(order), size):
                store.store([Sender(begin).data(*order[begin : begin + size])])
        reached = rows(path, "SELECT trace_id, origin_span_id FROM uncaught_exceptions")
        found.append((uncaught(path), reached))
    assert found[0] == found[1]


def test_a_group_knows_the_services_it_passed(store: Store, path: Path) -> None:
    """A group lists the services of its origins and of all spans that ended with it, in any order."""
    store_each(store, [failed(0, origin=2), failed(2, **CHILD), failed(1, origin=2, **CHILD)])
    services = row(path, "SELECT services FROM exception_groups")["services"]
    assert json.loads(services) == ["service0", "service1", "service2"]
    assert [one["service"] for one in rows(path, "SELECT service FROM exception_list ORDER BY span_id")] == [
        "service0",
        "service2",
        "service1",
    ]


def test_a_group_lists_so_many_services(store: Store, path: Path) -> None:
    """A group's list of services is limited."""
    store.store([Sender(0).data(failed(0))])
    store.store([Sender(n, f"s{n:03}").data(failed(n, origin=0, parent_id=None)) for n in range(1, 130)])
    assert len(json.loads(row(path, "SELECT services FROM exception_groups")["services"])) == MAX_SERVICES


def test_a_group_has_samples(store: Store, path: Path) -> None:
    """A group keeps the first, the latest and some occurrences between, in any order of arrival."""
    minutes = [5, 0, 9, 3, *range(20, 90), 1]
    for number, minute in enumerate(minutes):
        span = failed(number, tree=number, start_ns=EPOCH_NS + minute * 60_000 * MS)
        store.store([Sender(number).data(span)])
    samples = rows(path, "SELECT * FROM exception_samples ORDER BY at_ns")
    assert [one["which"] for one in samples] == ["first", *["between"] * 8, "latest"]
    assert samples[0]["trace_id"] == trace_id(1)
    assert samples[-1]["trace_id"] == trace_id(len(minutes) - 2)
    group = row(path, "SELECT * FROM exception_groups")
    assert (samples[0]["at_ns"], samples[-1]["at_ns"]) == (group["first_ns"], group["last_ns"])
    assert (samples[-1]["trace_id"], samples[-1]["span_id"]) == (group["trace_id"], group["origin_span_id"])
    assert {one["exception_group"] for one in samples} == {group["id"]}


def test_a_group_marks_what_varies_in_its_messages(store: Store, path: Path) -> None:
    """A group's template marks likely data in its first message, and later the differing words."""
    template = "SELECT template FROM exception_groups"
    store.store([Sender(0).data(failed(0, message="user ada of 7 not found"))])
    assert row(path, template)["template"] == "user ada of ‹…› not found"
    store.store([Sender(1).data(failed(1, tree=1, message="user bob of 9 not found"))])
    store.store([Sender(2).data(failed(2, tree=2, message="user eve of 1 not found"))])
    assert row(path, template)["template"] == "user ‹…› of ‹…› not found"


def test_a_transaction_that_fails_leaves_no_trace_of_its_groups(store: Store, path: Path) -> None:
    """A failed transaction counts nothing, and its messages count once when resent."""
    sender, other = Sender(0), Sender(1)
    store.store([sender.data(failed(0))])
    message = other.data(failed(1, tree=1), failed(2, tree=2, kind="New"))
    store._db.execute(
        "CREATE TEMP TRIGGER no BEFORE UPDATE ON publishers BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    store._db.execute(
        "CREATE TEMP TRIGGER nor BEFORE INSERT ON publishers BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    with pytest.raises(DatabaseError):
        store.store([message])
    store._db.execute("DROP TRIGGER no")
    store._db.execute("DROP TRIGGER nor")
    store.store([message])
    assert uncaught(path) == {"Declined": (2, 2), "New": (1, 1)}
