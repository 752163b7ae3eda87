"""Commands with their options, for tests that compare the answers of two stores."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stores.mixed import NOW

#: Fields of `status` that say how large a store is.
SIZES = ("database_bytes", "log_bytes")

#: Questions to the rows of `tests.viewer.stores.mixed`.
QUESTIONS = [
    "slow",
    "slow --limit 500",
    "slow --errors",
    "slow --service shop",
    "slow --method pay --limit 3",
    "slow --since 2026-01-31T12:20 --until 2026-01-31T12:40",
    "slow --until 2026-01-31T12:10 --errors --service billing",
    "errors",
    "errors --sort frequent",
    "errors --since 2026-01-31T12:20",
    "errors --since 2026-01-31T12:20 --until 2026-01-31T12:21",
    "errors --service shop --limit 2",
    "errors --type Lost",
    "errors --text PARCEL",
    "stats",
    "stats --since 2026-01-31T12:20 --until 2026-01-31T12:40",
    "stats --service stock --limit 2",
    "status",
    "status --limit 5 --skip 3",
    "find",
    "find pay --limit 1000",
    "find customer=Ada --limit 1000",
    "find parcel --limit 1000",
    "find n=3 --errors",
    "find --min 20ms --max 40ms --limit 1000",
    "find --service billing --method pack --since 2026-01-31T12:30",
    "find nothing-like-this",
    "map",
    "map --service shop",
    "map --since 2026-01-31T12:20 --until 2026-01-31T12:40",
    "map --since 2026-01-31T13:20",
    "profile",
    "profile --limit 3",
    "profile shop.pay --all",
    "profile --since 2026-01-31T12:20 --until 2026-01-31T12:40",
    "profile --service shop --since 2026-01-31T12:00 --until 2026-01-31T12:02",
    "profile --errors",
    "profile --by service.version",
    "profile --by service.version --service billing",
    "diff --before 2026-01-31T13:00..2026-01-31T13:15 --after 2026-01-31T13:15..2026-01-31T13:30",
    "diff shop.sell --before 2026-01-31T13:00..2026-01-31T13:15 --after 2026-01-31T13:15..2026-01-31T13:30",
    "diff shop.sell --slow",
    "diff shop.sell --by paid --before cash --after card",
    "diff shop.sell --by paid --after card --since 2026-01-31T13:05 --limit 2",
    "diff --by service.version",
    "explain shop.sell",
    "explain shop.sell --since 2026-01-31T13:05",
]

Ask = Callable[..., Any]


def make_ask(both: tuple[Path, Path | str], run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Return a function that asks both stores, compares their answers, and returns one of them."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW)
    # A search that ends at its deadline tells how far it came, which depends on the machine.
    monkeypatch.setattr("ztrace_viewer.commands.find.SEARCH_S", 60)
    first, second = map(str, both)

    def ask(*arguments: object) -> Any:
        results = [run(*arguments, "--db", source) for source in both]
        for result in results:
            assert result.stderr.replace(second, first) == results[0].stderr
            assert result.exit_code == results[0].exit_code
        if "--json" not in arguments:
            assert results[1].stdout.replace(second, first) == results[0].stdout
            return results[0].stdout
        documents = [json.loads(result.stdout) for result in results]
        for document in documents:
            for name in SIZES:
                document.pop(name, None)
        assert documents[1] == documents[0]
        return documents[0]

    return ask
