"""JSON written from documents of any depth, equal to `json`'s."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ztrace_viewer.json_text import read_json, write_json

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NODES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(st.text(max_size=3), LEAVES, max_size=3),
    lambda nodes: st.fixed_dictionaries(
        {"name": LEAVES, "children": st.lists(nodes, max_size=3)},
        optional={"roots": st.lists(nodes, max_size=2), "exception": nodes},
    ),
    max_leaves=12,
)


@given(NODES)
def test_it_reads_back_as_it_was(document: dict[str, Any]) -> None:
    """A written document is one line of ASCII that parses back to the document."""
    text = "".join(write_json(document))
    assert json.loads(text) == document
    assert text.isascii()
    assert "\n" not in text


def test_a_document_may_be_deeper_than_pythons_stack() -> None:
    """A document of 20,000 nested spans is written."""
    document: dict[str, Any] = {"span_id": "0", "children": []}
    for number in range(20_000):
        document = {"span_id": str(number), "children": [document]}
    text = "".join(write_json({"trace_id": "ab", "roots": [document]}))
    assert text.count('"span_id"') == 20_001
    assert text.endswith("]}" * 20_002)
    while document["children"]:  # Step by step: a report would recurse.
        document = document["children"][0]


def test_control_characters_are_escaped() -> None:
    """Control characters are escaped."""
    assert "".join(write_json({"name": "\x1b[31m\x9b\u202e\n"})) == '{"name": "\\u001b[31m\\u009b\\u202e\\n"}'


def test_a_stored_column_is_read_or_left() -> None:
    """NaN and infinities are read as strings, and invalid JSON as None."""
    assert read_json('{"a": [1, NaN, -Infinity]}') == {"a": [1, "NaN", "-Infinity"]}
    assert read_json(None) is None
    assert read_json("{") is None
    assert read_json("[" * 100_000) is None
