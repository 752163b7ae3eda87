"""What sets slow trees apart: values of attributes, and call paths."""

import json
import random
from math import comb
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import NOON, SECOND, span, trace_id
from ztrace.errors import NotFoundError
from ztrace.records import Span
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.comparison import ExplainDocument
from ztrace_viewer.queries.explaining import explain, fisher
from ztrace_viewer.queries.selection import EVERYTHING, Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.render.comparison import draw_explanation


def tree(number: int, chance: random.Random) -> list[Span]:
    """Return a tree, of which each 25th is slow: payment by a card of one kind waits for the bank."""
    trace, start_ms = trace_id(number + 1), number * 1000
    is_slow = number % 25 == 0
    card = "visa" if is_slow or chance.random() < 0.2 else "other"
    pay_ms = 300 + number % 7 if is_slow else 20 + number % 9
    return [
        span(trace, 1, name="buy", start_ms=start_ms, duration_ms=pay_ms + 15)._replace(
            attributes={"card": card, "order": number, "shard": chance.choice(["a", "b"])}
        ),
        span(trace, 2, 1, name="look up", start_ms=start_ms, duration_ms=5 + chance.randint(0, 3)),
        span(trace, 3, 1, name="pay", start_ms=start_ms + 10, duration_ms=pay_ms),
    ]


@pytest.fixture
def shop(path: Path) -> Path:
    """Return a database with 200 trees of a root."""
    chance = random.Random(1)
    spans = [span for number in range(200) for span in tree(number, chance)]
    return settle(path, {"shop": spans})


def read(path: Path, root: str = "shop.buy", selection: Selection = EVERYTHING) -> ExplainDocument:
    """Return the explanation."""
    with open_file(path) as db:
        return explain(db, root, selection)


def test_slow_trees_are_set_apart(shop: Path) -> None:
    """The attribute and the call that the slow trees have in common are found, and nothing else."""
    document = read(shop)
    assert document["root"] == "shop.buy"
    assert (document["slow"]["traces"], document["rest"]) == (10, 190)
    assert [(each["key"], each["value"]) for each in document["attributes"]] == [("card", "visa")]
    (card,) = document["attributes"]
    assert card["share_slow"] > 0.8 > 0.4 > card["share_rest"]
    assert [each["path"][-1]["name"] for each in document["paths"] if each["sure"]] == ["pay"]
    assert document["paths"][0]["cause"] == "slower"
    assert read(shop) == document


def test_too_few_trees_are_told(shop: Path) -> None:
    """With fewer than twelve trees, or none, one line says so."""
    with pytest.raises(NotFoundError, match="only 3 trees"):
        read(shop, selection=Selection(NOON, NOON + 3 * SECOND))
    with pytest.raises(NotFoundError, match="no trees of"):
        read(shop, "shop.sell")
    result = CliRunner().invoke(ztrace, ["explain", "shop.sell", "--db", str(shop)])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


def test_equal_trees_have_nothing_in_common(path: Path) -> None:
    """Where slowness is chance, the text says that nothing sets the slow trees apart."""
    chance = random.Random(3)
    spans = [
        span(trace_id(n + 1), 1, name="buy", start_ms=n, duration_ms=chance.randint(5, 50))._replace(
            attributes={"card": chance.choice(["visa", "other"])}
        )
        for n in range(100)
    ]
    document = read(settle(path, {"shop": spans}))
    assert document["attributes"] == []


def test_an_explanation_is_drawn(shop: Path) -> None:
    """The text has the slow trees, the values with their shares, and the paths."""
    drawn = [line.plain for line in draw_explanation(read(shop), 100)]
    assert drawn[0].startswith("shop.buy  10 trees over ")
    assert any(line.endswith("card = visa") for line in drawn)
    assert any(line.endswith("shop.buy > shop.pay") for line in drawn)
    result = CliRunner().invoke(ztrace, ["explain", "buy", "--db", str(shop), "--json"])
    assert list(json.loads(result.stdout)) == [
        "root",
        "slow",
        "rest",
        "thinned_until_ns",
        "attributes",
        "paths",
    ]


def test_fishers_test_is_exact() -> None:
    """The chance is that of the tea-tasting lady, and adds up over all tables."""
    assert fisher(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher(4, 4, 0, 4) == pytest.approx(1 / comb(8, 4))
    assert fisher(0, 4, 4, 4) == 1
