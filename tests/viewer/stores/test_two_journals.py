"""Answers from one ClickHouse database of two collectors, each of which has a part of every tree."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.clickhouse import Engine
from tests.viewer.conftest import Run
from tests.viewer.stored import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    checkout,
    message,
    raised,
    span,
    trace_id,
    travelled,
)
from tests.viewer.stores.filling import copy_to_clickhouse
from ztrace import records
from ztrace_collector.settling.settler import settle_all
from ztrace_collector.storing.store import Store

pytestmark = [pytest.mark.scale, pytest.mark.process]

#: Fields of `status` that are of one collector, or say how large a store is.
OWN = ("database_bytes", "log_bytes")
#: Number of trees whose exceptions are caught.
TREES = 3

Ask = Callable[..., Any]


def fill(path: Path, messages: Mapping[int, list[bytes]]) -> Path:
    """Store messages in a collector's file, each a number of seconds after the first, and count its trees."""
    for second, each in sorted(messages.items()):
        with Store(path, clock_ns=partial(int, NOON + HOUR + second * SECOND)) as opened:
            opened.store([each])
    with Store(path, clock_ns=lambda: NOON + HOUR + MINUTE) as opened:
        list(settle_all(opened, clock_ns=lambda: NOON + HOUR + MINUTE))
    return path


def fail_uncaught(trace: bytes) -> dict[str, list[records.Span]]:
    """Return a tree whose root ends with the exception of a call in another service."""
    passed = travelled("app.Lost", "no parcel", records.PASSED, (trace, 3))
    return {
        "shop": [
            span(trace, 1, name="send", duration_ms=30, exception=passed),
            span(trace, 2, 1, name="pack", kind="client", start_ms=1, duration_ms=20, exception=passed),
        ],
        "stock": [span(trace, 3, 2, name="pack", start_ms=2, exception=raised("app.Lost", "no parcel"))],
    }


def fail_as_a_group(trace: bytes) -> dict[str, list[records.Span]]:
    """Return a tree whose root ends with the group of two exceptions of another service."""
    passed = travelled("app.Late", "no parcel", records.PASSED, (trace, 3))
    both = [travelled("app.Late", "no parcel", records.PASSED, (trace, number)) for number in (3, 4)]
    grouped = travelled("ExceptionGroup", "two", records.GROUPED, (trace, 3))._replace(members=both)
    return {
        "shop": [span(trace, 1, name="send", exception=passed)],
        "stock": [
            span(trace, 2, 1, name="pack", exception=grouped),
            *(span(trace, each, 2, name="lift", exception=raised("app.Late", f"{each}")) for each in (3, 4)),
        ],
    }


def unnamed(type_name: str, message: str) -> dict[str, Any]:
    """Return fields of a span whose exception was an event, so its sender names no origin."""
    details = {"events": [{"name": "exception", "time_ns": NOON, "became_exception": True}]}
    return {"exception": list(raised(type_name, message, frames=())), "details": details}


def fail_unnamed(trace: bytes, *, answers: bool = True) -> dict[str, list[records.Span]]:
    """Return a tree of senders that name no origins: a call fails as the other service's database does.

    Args:
        trace: its id.
        answers: the other service has a part of the tree.
    """
    timeout = unnamed("db.Timeout", "no answer from the database")
    own = {
        "shop": [
            span(trace, 1, name="GET /box", duration_ms=90, status=records.ERROR),
            span(trace, 2, 1, name="GET", kind="client", duration_ms=80, status=records.ERROR),
        ],
    }
    if answers:
        own["stock"] = [
            span(trace, 3, 2, name="GET /lid", duration_ms=70, status=records.ERROR)._replace(**timeout),
            span(trace, 4, 3, name="SELECT", kind="client", duration_ms=60, status=records.ERROR)._replace(
                **timeout
            ),
        ]
    return own


def fill_journals(folder: Path, url: str, *, twice: int = 0) -> Path:
    """Fill a database from two files with parts of all trees; return a file with all spans.

    Args:
        folder: where to create the files.
        url: address of the database.
        twice: each message whose number is a multiple of this one reaches both; 0 for none.
    """
    parts: tuple[dict[int, list[bytes]], dict[int, list[bytes]]] = {}, {}
    starts = [NOON + tree * MINUTE for tree in range(TREES)]
    trees = [checkout(trace_id(tree, at_ns), at_ns, 1 + tree / 7) for tree, at_ns in enumerate(starts)]
    numbers = count(1)
    failed = [fail_uncaught(trace_id(TREES, NOON)), fail_as_a_group(trace_id(TREES + 1, NOON))]
    # The first and the last stay where they are, and those between have begun in the other collector's spans.
    failed += [fail_unnamed(trace_id(200 + number, NOON), answers=number in (1, 2, 5)) for number in range(6)]
    for tree in (*trees, *failed):
        for service, spans in tree.items():
            number = next(numbers)
            parts[service in ("stock", "billing")][number] = message(service, spans, number)
    # Occurrences of one group reach both.
    for place in range(8):
        bounced = raised("app.Bounced", f"no box {place} of {'Ada' if place % 2 else 'Bob'}")
        number = next(numbers)
        mail = span(trace_id(100 + place, NOON), 1, name="mail", exception=bounced)
        parts[place % 2][number] = message("mail", [mail], number)
    whole = parts[0] | parts[1]
    for number, each in whole.items():
        if twice and number % twice == 0:
            parts[0][number] = parts[1][number] = each
    for place, part in enumerate(parts):
        assert part
        copy_to_clickhouse(fill(folder / f"{place}.db", part), url, journal=f"{place}" * 32)
    return fill(folder / "all.db", whole)


@pytest.fixture(scope="module")
def sources(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield a file with all spans, and a database to which two files with parts of them were sent."""
    url = engine.url("journals")
    yield fill_journals(tmp_path_factory.mktemp("journals"), url), url
    engine.query("DROP DATABASE journals")


@pytest.fixture(scope="module")
def moved(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Yield the same, where publishers moved and sent some messages to both collectors."""
    url = engine.url("moved")
    yield fill_journals(tmp_path_factory.mktemp("moved"), url, twice=3), url
    assert int(engine.query("SELECT count() FROM duplicates", "moved")) > 5
    engine.query("DROP DATABASE moved")


@pytest.fixture
def ask_both(sources: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both, compares the documents, and returns one."""
    return make_ask(sources, run, monkeypatch)


@pytest.fixture
def ask_moved(moved: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return the same for publishers that have moved."""
    return make_ask(moved, run, monkeypatch)


def make_ask(sources: tuple[Path, str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both sources, compares the documents, and returns one."""
    monkeypatch.setattr(time, "time_ns", lambda: NOON + 2 * HOUR)
    # A search that ends at its deadline tells how far it came, which depends on the machine.
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 60)

    def ask(*arguments: object) -> Any:
        results = [run(*arguments, "--db", source, "--json") for source in sources]
        documents = [json.loads(result.stdout) for result in results]
        for document in documents:
            for name in OWN:
                document.pop(name, None)
        assert documents[1] == documents[0]
        return documents[0]

    return ask


QUESTIONS = [
    "slow",
    "slow --errors",
    "errors",
    "errors --since 2026-01-31T12:01",
    "stats",
    "status",
    "find",
    "profile",
    "profile --errors",
    "map",
    "diff --before 2026-01-31T12:00..2026-01-31T12:01 --after 2026-01-31T12:01..2026-01-31T12:03",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_lists_are_those_of_one_collector(ask_both: Ask, question: str) -> None:
    """Trees, groups, figures and accounts of two collectors are those of one that has both parts."""
    ask_both(*question.split())


def test_a_tree_is_joined(ask_both: Ask) -> None:
    """A tree whose spans reached two collectors has all of them, and lacks none."""
    document = ask_both("show", trace_id(1, NOON + MINUTE).hex())
    assert document["complete"]
    assert {"stock"} < {*document["services"]}


def test_an_error_is_followed_to_its_origin(ask_both: Ask) -> None:
    """The way of an exception leads through the spans of both collectors."""
    (group, *_) = ask_both("errors")["groups"]
    ask_both("error", group["group"])


@pytest.mark.parametrize("question", [each for each in QUESTIONS if each != "status"])
def test_what_two_collectors_have_counts_once(ask_moved: Ask, question: str) -> None:
    """Spans and exceptions that a moving publisher sent to both collectors are those of one."""
    ask_moved(*question.split())


def test_a_tree_that_two_collectors_have_is_whole(ask_moved: Ask) -> None:
    """A tree has each span once, with its exception, and a group each of its samples."""
    for number in range(TREES):
        ask_moved("show", trace_id(number, NOON + number * MINUTE).hex())
    for group in ask_moved("errors", "--sort", "frequent")["groups"]:
        ask_moved("error", group["group"])


def test_origins_that_nobody_names_are_found_in_whole_trees(ask_both: Ask) -> None:
    """A failure that began in the spans of another collector counts there alone."""
    groups = {(each["name"], each["type"]): each for each in ask_both("errors")["groups"]}
    assert groups["SELECT", "db.Timeout"]["count"] == groups["SELECT", "db.Timeout"]["uncaught_count"] == 3
    assert groups["GET", ""]["count"] == 3
    assert ("GET /lid", "db.Timeout") not in groups
    for each in groups.values():
        ask_both("error", each["group"])
    for number in range(6):
        ask_both("show", trace_id(200 + number, NOON).hex())


def test_members_of_a_group_are_uncaught_with_it(ask_both: Ask) -> None:
    """Both members of a group that ends a root in another collector's spans are uncaught."""
    (group,) = [each for each in ask_both("errors")["groups"] if each["name"] == "lift"]
    assert (group["count"], group["uncaught_count"]) == (2, 2)
