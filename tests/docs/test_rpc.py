"""Equality of the page of the RPC and the code."""

import inspect
import re
from typing import Any

import pytest

from tests.docs import pages
from ztrace import rpc
from ztrace.rpc import failures, wire
from ztrace.rpc.aio import serving
from ztrace.rpc.core import calling
from ztrace.rpc.core import serving as core

PAGE = pages.sections(pages.read("reference/rpc.md"))
#: Text of both pages of `ztrace.rpc`.
TEXT = pages.read("reference/rpc.md") + pages.read("reference/rpc-jobs.md")


@pytest.mark.parametrize("name", rpc.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """The pages of the RPC name all that is public, and all that is public has a docstring."""
    assert re.search(rf"\b{name}\b", TEXT, re.IGNORECASE)
    assert getattr(rpc, name).__doc__


@pytest.mark.parametrize("thing", [rpc.Server, rpc.Client, rpc.AsyncClient, rpc.hedge, rpc.deadline])
def test_signatures_are_those_of_the_code(thing: Any) -> None:
    """The heading of a function or class has its parameters and their defaults."""
    signature = inspect.signature(thing)
    told = []
    for each in signature.parameters.values():
        stars = "*" if each.kind is each.VAR_POSITIONAL else ""
        default = "" if each.default is each.empty else f"={each.default!r}"
        told.append(f"{stars}{each.name}{default}")
    assert f"rpc.{thing.__name__}({', '.join(told)})" in PAGE


def test_limits_are_those_of_the_code() -> None:
    """The table of limits has the values of the code."""
    values = [row[1] for row in pages.rows(PAGE["Limits"])]
    assert values[0] == f"{wire.MAX_MESSAGE >> 20} MiB"
    assert values[2] == f"{core.MAX_CALLS_PER_PEER:,}; {core.MAX_CALLS:,} of all"
    assert values[3].startswith(f"{serving.BACKLOG_BYTES >> 20} MiB;")
    assert values[4] == str(calling.SLOTS)
    assert values[5] == f"{failures.MAX_TEXT:,} characters; {failures.MAX_TRACEBACK:,}"
    assert values[6] == f"{core.LOST_PERIODS} periods of the heartbeat"
    assert core.LOST_PERIODS == calling.LOST_PERIODS
