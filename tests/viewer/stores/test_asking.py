"""Agents' tools and the reader of Python programs: the same answers from either store."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.viewer.stored import HOUR, NOON, span_id, trace_id
from tests.viewer.stores.mixed import NOW, SAMPLED
from ztrace.errors import NotFoundError
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.source import read_source
from ztrace_viewer.read import Reader

if TYPE_CHECKING:
    from ztrace_viewer.mcp.tools import Tools

pytestmark = [pytest.mark.scale, pytest.mark.process]

TREE = trace_id(1_000, NOON).hex()
BEFORE, AFTER = "2026-01-31T13:00..2026-01-31T13:15", "2026-01-31T13:15..2026-01-31T13:30"
#: Questions of an agent, by the name of the tool.
TOOLS: list[tuple[str, dict[str, Any]]] = [
    ("overview", {}),
    ("slow", {"limit": 5}),
    ("slow", {"service": "nobody"}),
    ("find", {"text": "customer=Ada", "limit": 100}),
    ("trace", {"trace_id": TREE}),
    ("trace", {"trace_id": TREE, "span": span_id(1).hex()}),
    ("errors", {"order": "frequent", "limit": 50}),
    ("errors", {"file": "app.py"}),
    ("stats", {"order": "p95"}),
    ("profile", {"root": "shop.sell"}),
    ("diff", {"before": BEFORE, "after": AFTER}),
    ("explain", {"root": "shop.sell"}),
]
READERS: list[Callable[[Reader], Any]] = [
    lambda reader: reader.slow(since=NOON, errors=True),
    lambda reader: reader.find("pay", limit=50, timeout_s=60),
    lambda reader: reader.spans(TREE),
    lambda reader: reader.span(SAMPLED.hex(), span_id(2).hex()),
    lambda reader: reader.errors(frequent=True),
    lambda reader: reader.stats(since=NOON, until=NOON + HOUR),
    lambda reader: reader.profile(),
    lambda reader: reader.diff(BEFORE, AFTER),
    lambda reader: reader.explain("shop.sell"),
    lambda reader: reader.map(),
    lambda reader: reader.status()["publishers"],
]


@pytest.fixture
def tools(both: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Tools"]]:
    """Yield the tools of both stores, at the same time."""
    from ztrace_viewer.mcp.tools import Tools  # Needs an extra that the tests of a plain checkout lack.

    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    # A search that ends at its deadline tells how far it came, which depends on the machine.
    monkeypatch.setattr("ztrace_viewer.mcp.tools.SEARCH_S", 60)
    with closing(Stores(read_source(both[0]))) as file, closing(Stores(read_source(both[1]))) as database:
        yield [Tools(file), Tools(database)]


@pytest.mark.parametrize(("name", "arguments"), TOOLS)
def test_tools_answer_alike(tools: list["Tools"], name: str, arguments: dict[str, Any]) -> None:
    """A tool has the same text from either store."""
    one, other = (getattr(each, name)(**arguments) for each in tools)
    assert other == one


def test_an_error_has_the_same_traceback(tools: list["Tools"]) -> None:
    """Each group that is listed is answered by its beginning, and an unknown one is an error."""
    ids = [line.split()[0] for line in tools[0].errors(limit=50).splitlines()]
    assert ids
    for group in ids:
        one, other = (each.error(group) for each in tools)
        assert other == one
    for each in tools:
        with pytest.raises(NotFoundError):
            each.error("ffff")
        assert each.status()  # A connection over which a question failed is replaced.


@pytest.mark.parametrize("ask", READERS)
def test_programs_read_alike(
    both: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, ask: Callable[[Reader], Any]
) -> None:
    """A reader returns the same document from either store."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    with closing(Reader(both[0])) as file, closing(Reader(both[1])) as database:
        assert ask(database) == ask(file)
