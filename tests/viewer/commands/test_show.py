"""``ztrace show --json``: every field of a span, and the flat form."""

import json
from pathlib import Path

from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, span, store, trace_id
from ztrace_viewer.trees.tree import walk


def test_a_flat_tree_has_its_spans_in_the_order_of_the_tree(run: Run, shop: Path) -> None:
    """The flat form has the same spans with their depth, and nothing nested."""
    trace = trace_id(1).hex()
    tree = json.loads(run("show", trace, "--json", "--db", str(shop)).output)
    flat = json.loads(run("show", trace, "--json", "--flat", "--db", str(shop)).output)
    expected = [
        {**{name: value for name, value in each.items() if name != "children"}, "depth": depth}
        for each, depth in walk(tree.pop("roots"))
    ]
    assert flat.pop("spans") == expected
    assert flat == tree
    assert {each["depth"] for each in expected} == {0, 1, 2, 3, 4}


def test_a_tree_too_deep_for_readers_of_json_is_flat(run: Run, path: Path) -> None:
    """A tree of 2,000 levels is too deep for a reader of JSON, and its flat form is not."""
    calls = [span(trace_id(1), number, number - 1 or None) for number in range(1, 2_001)]
    store(path, {"shop": calls})
    trace = trace_id(1).hex()
    nested = run("show", trace, "--json", "--db", str(path)).output
    assert nested.count('"children": [{') == 1_999  # Python's own reader raises beyond a depth that varies.
    flat = json.loads(run("show", trace, "--json", "--flat", "--db", str(path)).output)
    assert [each["depth"] for each in flat["spans"]] == list(range(2_000))


def test_flat_without_json_says_what_to_add(run: Run, shop: Path) -> None:
    """--flat alone is a usage error."""
    result = run("show", trace_id(1).hex(), "--flat", "--db", str(shop))
    assert result.exit_code == 2
    assert "add --json" in result.output


def test_a_span_has_all_that_opentelemetry_records(run: Run, path: Path) -> None:
    """Links, scope, trace state, flags and dropped counts are in the document, or neutral values."""
    details = {
        "trace_state": "vendor=1",
        "flags": 257,
        "scope": {"name": "shop.http", "version": "1.2"},
        "links": [{"trace_state": "other=2", "attributes": {"n": 1}}],
        "dropped": {"attributes": 3, "events": 2, "links": 1},
    }
    linked = [[trace_id(9), (7).to_bytes(8, "big")]]
    foreign = span(trace_id(1), 1)._replace(details=details, links=linked)
    store(path, {"shop": [foreign, span(trace_id(2), 2, at_ns=NOON)]})
    full, plain = (
        json.loads(run("show", trace_id(number).hex(), "--json", "--db", str(path)).output)["roots"][0]
        for number in (1, 2)
    )
    names = ("links", "scope", "trace_state", "flags", "dropped", "resource")
    assert [full[name] for name in names] == [
        [
            {
                "trace_id": trace_id(9).hex(),
                "span_id": f"{7:016x}",
                "trace_state": "other=2",
                "attributes": {"n": 1},
            }
        ],
        {"name": "shop.http", "version": "1.2"},
        "vendor=1",
        257,
        {"attributes": 3, "events": 2, "links": 1},
        {},
    ]
    nothing = {"attributes": 0, "events": 0, "links": 0}
    assert [plain[name] for name in names] == [[], None, "", 0, nothing, {}]
