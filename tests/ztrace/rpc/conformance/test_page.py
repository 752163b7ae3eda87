"""The page of differences has those of the tests' tables, and no others."""

import pytest

from tests.docs import pages
from tests.ztrace.rpc.conformance import cases, replies, requests, streams


@pytest.mark.parametrize(
    ("section", "compared"),
    [("Requests", (*requests.CASES, *streams.CASES)), ("Replies", replies.CASES)],
    ids=["requests", "replies"],
)
def test_every_difference_is_documented(
    section: str, compared: tuple[cases.Case | replies.Case, ...]
) -> None:
    """Each case in which the libraries differ has a row with a reason."""
    rows = pages.rows(pages.sections(pages.read("reference/rpc-conformance.md"))[section])
    assert [row[0] for row in rows] == [case.name for case in compared if case.ours is not None]
    assert all(len(row) == 4 and all(row) for row in rows)
