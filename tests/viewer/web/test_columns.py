"""Call trees in columns: nothing of the tree is lost."""

from base64 import b64decode
from itertools import accumulate
from struct import iter_unpack

from hypothesis import given
from hypothesis import strategies as st

from tests.viewer.trees.test_tree import TRACE, row
from ztrace_viewer.documents.exceptions import ExceptionDocument
from ztrace_viewer.queries.exceptions import Raised
from ztrace_viewer.trees.arrangement import arrange
from ztrace_viewer.trees.clocks import Offset
from ztrace_viewer.trees.columns import Spans
from ztrace_viewer.trees.spans import STATUS_NAMES
from ztrace_viewer.trees.tree import build_tree, flatten
from ztrace_viewer.web.columns import make_columns

RAISED: ExceptionDocument = {
    "type": "ValueError",
    "message": "<b>no</b>",
    "how": "raised",
    "origin": True,
    "origin_span_id": "0000000000000002",
    "group": "ab",
    "frames": [],
    "causes": [],
    "notes": [],
    "members": [],
    "stack": None,
}


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(1, 12),
            st.integers(0, 50),
            st.none() | st.integers(0, 50),
            st.sampled_from(["shop", "bank"]),
            st.sampled_from(["server", "client"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_columns_are_the_flat_tree(
    spans: list[tuple[int | None, int, int | None, str, str]],
) -> None:
    """Each row has the values of its span, for any parents and times."""
    rows = [
        row(number, parent, start, duration, service=service, kind=kind)
        for number, (parent, start, duration, service, kind) in enumerate(spans, 1)
    ]
    tree = build_tree(TRACE, rows, {rows[0].span_id: RAISED})
    raised = Raised("ValueError", "<b>no</b>", "raised", True, "ab")
    columns = make_columns(TRACE, arrange(Spans.of(rows)), {rows[0].span_id: raised})
    flat = flatten(tree)["spans"]
    calls = [(columns["services"][service], name, kind) for service, name, kind in columns["calls"]]
    assert [calls[call] for call in columns["call"]] == [
        (span["service"], span["name"], span["kind"]) for span in flat
    ]
    assert columns["depth"] == [span["depth"] for span in flat]
    ids = [each.hex() for (each,) in iter_unpack("8s", b64decode(columns["ids"]))]
    assert ids == [span["span_id"] for span in flat]
    starts = accumulate(columns["begin"], initial=int(columns["start_ns"]))
    assert [*starts][1:] == [span["start_ns"] for span in flat]
    states = [STATUS_NAMES[columns["states"].get(number, 0)] for number in range(len(flat))]
    assert states == [span["status"] for span in flat]
    for name, key in (("time", "duration_ns"), ("own", "self_ns"), ("critical", "critical_ns")):
        found = [None if value == -1 else value for value in columns[name]]  # type: ignore[literal-required]
        assert found == [span[key] for span in flat]  # type: ignore[literal-required]
    assert columns["exceptions"] == {
        ids.index(rows[0].span_id.hex()): {
            key: RAISED[key] for key in ("type", "message", "how", "origin", "group")
        }
    }


def test_clocks_are_told_with_their_services() -> None:
    """A host whose clock is ahead is named with its services, and begins are by the root's clock."""
    rows = [
        row(1, None, 100, 50, service="shop")._replace(host="a"),
        row(2, 1, 1_110, 20, service="bank")._replace(host="b"),
        row(3, 2, 1_115, 5, service="vault")._replace(host="b"),
    ]
    offsets = {"b": Offset(1_000, 990, 1_010, 7)}
    columns = make_columns(TRACE, arrange(Spans.of(rows), offsets=offsets), {})
    (clock,) = columns["clocks"]
    assert (clock["host"], clock["services"], clock["offset_ns"], clock["calls"]) == (
        "b",
        ["bank", "vault"],
        1_000,
        7,
    )
    assert columns["begin"] == [0, 10, 5]
    assert make_columns(TRACE, arrange(Spans.of(rows)), {})["clocks"] == []
