"""Reading functions for Python programs, compared with the commands."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.queries.test_profile import settle
from tests.viewer.stored import HOUR, MINUTE, NOON, SECOND, checkout, trace_id
from ztrace.errors import DatabaseMissing, NotFoundError, SettingsError
from ztrace_viewer.read import Reader, name_path

FIRST = trace_id(1).hex()
#: Fields that tell how long ago something was.
_NOW = ("when", "when_since_ns", "when_until_ns")

Document = Callable[[Reader], Any]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of two checkouts, with profiles."""
    path = tmp_path_factory.mktemp("read") / "shop.db"
    later = NOON - MINUTE
    return settle(path, checkout(trace_id(1), NOON - 3 * HOUR), checkout(trace_id(2), later, 0.5))


@pytest.mark.parametrize(
    ("command", "ask"),
    [
        (["slow", "--limit", "1"], lambda reader: reader.slow(limit=1)),
        (["slow", "--service", "shop", "--errors"], lambda reader: reader.slow(service="shop", errors=True)),
        (["find", "user=ada", "--min", "200ms"], lambda reader: reader.find("user=ada", min="200ms")),
        (["show", FIRST], lambda reader: reader.tree(FIRST)),
        (["show", FIRST, "--flat"], lambda reader: reader.spans(FIRST)),
        (["show", FIRST, "--span", "stock.reserve"], lambda reader: reader.span(FIRST, "stock.reserve")),
        (["errors", "--sort", "frequent"], lambda reader: reader.errors(frequent=True)),
        (["errors", "--type", "KeyError"], lambda reader: reader.errors(type="KeyError")),
        (["stats", "--service", "shop"], lambda reader: reader.stats(service="shop")),
        (["profile", "shop.checkout"], lambda reader: reader.profile("shop.checkout")),
        (["map"], lambda reader: reader.map()),
        (["status", "--limit", "2"], lambda reader: reader.status(limit=2)),
    ],
)
def test_documents_are_those_of_the_commands(
    settled: Path, run: Run, command: list[str], ask: Document
) -> None:
    """A method returns what its command prints with ``--json``."""
    printed = json.loads(run(*command, "--db", settled, "--json").stdout)
    assert _leave_out_now(json.loads(json.dumps(ask(Reader(settled))))) == _leave_out_now(printed)


def _leave_out_now(document: Any) -> Any:
    """Return a document without what depends on the present time."""
    if isinstance(document, dict):
        return {key: _leave_out_now(value) for key, value in document.items() if key not in _NOW}
    return [_leave_out_now(each) for each in document] if isinstance(document, list) else document


def test_one_error_is_followed(settled: Path) -> None:
    """A group is found by the beginning of its id, with the way of each of its samples."""
    reader = Reader(str(settled))
    [group] = reader.errors()["groups"]
    error = reader.error(group["group"][:6], sample="first")
    assert error["shown"]["trace_id"] == FIRST
    assert [hop["service"] for hop in error["hops"]] == ["shop", "shop", "billing", "billing", "stock"]


def test_times_are_texts_numbers_and_objects(settled: Path) -> None:
    """The same time may be written as text, as nanoseconds, and as a datetime; a duration likewise."""
    reader = Reader(settled)
    moment = datetime.fromtimestamp((NOON - 90 * SECOND) // SECOND, UTC)
    for since in (NOON - 90 * SECOND, moment, moment.isoformat()):
        [trace] = reader.slow(since=since)["traces"]
        assert trace["trace_id"] == trace_id(2).hex()
        assert reader.slow(until=since)["traces"][0]["trace_id"] == FIRST
    for least in ("1s", 1_000_000_000, timedelta(seconds=1)):
        assert [span["trace_id"] for span in reader.find("checkout", min=least)["spans"]] == [FIRST]


def test_stretches_are_compared(settled: Path) -> None:
    """Two stretches of time are texts or pairs of moments, and have the same document."""
    reader = Reader(settled)
    times = [NOON - 3 * HOUR, NOON - HOUR, NOON]
    before, after = ((times[0], times[1]), (times[1], times[2]))
    texts = [datetime.fromtimestamp(each // SECOND, UTC).isoformat() for each in times]
    document = reader.diff(before, after, "shop.checkout")
    assert document["before"]["traces"] == document["after"]["traces"] == 1
    assert reader.diff(f"{texts[0]}..{texts[1]}", f"{texts[1]}..{texts[2]}", "shop.checkout") == document
    assert name_path(document["paths"][0]["path"]).startswith("shop.checkout › ")


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda reader: reader.tree("ffff"), NotFoundError),
        (lambda reader: reader.span(FIRST, "nothing"), NotFoundError),
        (lambda reader: reader.error("ffff"), NotFoundError),
        (lambda reader: reader.profile("no.root"), NotFoundError),
        (lambda reader: reader.slow(since="yesterday"), SettingsError),
        (lambda reader: reader.slow(since=2, until=1), SettingsError),
        (lambda reader: reader.find("=x"), SettingsError),
        (lambda reader: reader.find(min="2s", max="1s"), SettingsError),
        (lambda reader: reader.diff((2, 1), (3, 4)), SettingsError),
        (lambda reader: reader.diff((NOON, NOON + 5), (NOON + 1, NOON + 9)), SettingsError),
        (lambda reader: Reader("/nowhere.db").stats(), DatabaseMissing),
    ],
)
def test_wrong_questions_raise(settled: Path, ask: Document, error: type[Exception]) -> None:
    """What does not exist, or cannot be read, is an exception with one line."""
    with pytest.raises(error) as caught:
        ask(Reader(settled))
    assert "\n" not in str(caught.value)


def test_nothing_found_is_an_empty_list(settled: Path) -> None:
    """A question without an answer has an empty list."""
    reader = Reader(settled)
    assert reader.slow(service="nobody")["traces"] == []
    assert reader.find("nothing")["spans"] == []
    assert reader.find("nothing")["searched_since_ns"] is None


def test_a_search_says_how_far_it_came(settled: Path) -> None:
    """A search that has no time left returns what it has found, and the time back to which it searched."""
    document = Reader(settled).find("nothing", timeout_s=0)
    assert document["searched_since_ns"] is not None
