"""Exceptions: counted at their origin, grouped by the code that raised them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.collector.messages import EPOCH_NS, MS, Sender, make_span, refusals, row, rows, span_id, trace_id
from ztrace.wire import ERROR, Span
from ztrace_collector.store import Store

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
    **changes: Any,
) -> Span:
    """Return a span that failed; ``origin`` is the number of the span the exception comes from."""
    record = [kind, message, list(frames), list(causes), how, trace_id(tree), span_id(number), [], []]
    if origin is not None:
        record[2:5] = [[], [], "passed" if how == "raised" else how]
        record[6] = span_id(origin)
    return make_span(number, trace_id=trace_id(tree), status=ERROR, exception=record, **changes)


def test_an_exception_is_counted_at_its_origin(store: Store, path: Path) -> None:
    """Three spans that one exception passed are one occurrence, in the origin's words."""
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
    names = ("file", "line", "function", "code", "in_app")
    assert json.loads(group["frames"])[0] == dict(zip(names, [*APP[:3], *APP[4:6]], strict=True))
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
    """In transactions of their own, whichever comes first, both have the origin's group."""
    messages = [Sender(0).data(failed(1)), Sender(1).data(failed(0, origin=1))]
    for index in order:
        store.store([messages[index]])
    groups = rows(path, "SELECT exception_group FROM exceptions")
    assert groups == [{"exception_group": 1}] * 2


def test_a_group_shows_its_latest_occurrence(store: Store, path: Path) -> None:
    """Count, first and last take in every origin; the example is the latest, whenever it comes."""
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
    """Type and the user's code tell problems apart; lines, paths, messages, libraries and recursion don't."""
    store.store([Sender().data(failed(0), failed(**({"number": 1, "tree": 1} | other)))])
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == (1 if same else 2)


def test_another_services_exception_is_another_problem(store: Store, path: Path) -> None:
    """The same code in two services is two groups."""
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
    """Numbers, ids and quoted text in a message do not make another problem, words do."""
    spans = [failed(n, tree=n, message=text, frames=()) for n, text in enumerate((one, other))]
    store.store([Sender().data(*spans)])
    assert row(path, "SELECT count(*) AS n FROM exception_groups")["n"] == (1 if same else 2)


def test_library_frames_count_when_there_are_no_others(store: Store, path: Path) -> None:
    """An exception wholly in libraries is grouped by their frames."""
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
    """The chain of causes is stored with its frames and how each came about."""
    inner = ["KeyError", "'k'", [LIBRARY], [], "replaced", None, None, [], []]
    outer = ["LookupError", "gone", [APP], [inner], "wrapped", None, None, [], []]
    store.store([Sender().data(failed(causes=[outer]))])
    (cause,) = json.loads(row(path, "SELECT causes FROM exceptions")["causes"])
    assert (cause["type"], cause["message"], cause["how"]) == ("LookupError", "gone", "wrapped")
    assert [frame["function"] for frame in cause["frames"]] == ["charge"]
    assert (cause["causes"][0]["type"], cause["causes"][0]["how"]) == ("KeyError", "replaced")
    assert cause["causes"][0]["causes"] == []


def test_endless_causes_and_frames_are_cut(store: Store, path: Path) -> None:
    """An exception is bounded in depth and in frames, keeping the innermost, and says so."""
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
    """Frames with fields of other types are left out, and the exception is kept."""
    store.store([Sender().data(failed(frames=[APP, ["x"], 7, [*APP[:1], "10", *APP[2:]]]))])
    assert len(json.loads(row(path, "SELECT frames FROM exceptions")["frames"])) == 1
    assert refusals(path) == {"exception": 1}
