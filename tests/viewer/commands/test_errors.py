"""Text and JSON of ``ztrace errors`` and ``ztrace error``."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.viewer.commands.shapes import has_shape
from tests.viewer.conftest import Run
from tests.viewer.stored import NOON, raised, span, store, trace_id
from ztrace_viewer.documents.errors import (
    ErrorDocument,
    ErrorsDocument,
    GroupSummary,
    Hop,
    Sample,
)
from ztrace_viewer.documents.exceptions import ExceptionDocument

Ask = Callable[..., Any]


def test_errors_lists_groups(run: Run, ask: Ask, shop: Path) -> None:
    """`errors` lists groups with origin, count and source line."""
    result = run("errors", "--db", shop)
    document = ask("errors", "--db", shop)
    has_shape(document, ErrorsDocument)
    [group] = document["groups"]
    has_shape(group, GroupSummary)
    assert group["group"][:8] in result.stdout
    assert "ZeroDivisionError: division by zero" in result.stdout
    assert "stock.py:12 in Stock._ratio" in result.stdout


def test_error_tells_the_way(run: Run, ask: Ask, shop: Path) -> None:
    """`error` prints each hop from the caller to the origin, and the traceback."""
    group = ask("errors", "--db", shop)["groups"][0]["group"]
    document = ask("error", group[:4], "--db", shop)
    has_shape(document, ErrorDocument)
    has_shape(document["exception"], ExceptionDocument)
    has_shape(document["shown"], Sample)
    for hop in document["hops"]:
        has_shape(hop, Hop)
    text = run("error", group, "--db", shop).stdout
    way = (
        "handled in shop.checkout",
        "shop.checkout  (pid ",
        "handled here: its caller saw no error",
        "→ self.billing.charge(card)",
        "↓ calls billing.charge  (pid ",
        '▸ raise PaymentError("no stock") from error',
        "billing.PaymentError: no stock",
        "caused by",
        "→ self.stock.reserve(article)",
        "↓ calls stock.reserve  (pid ",
        "▸ return wanted / left",
        "\nZeroDivisionError: division by zero\n",
        "other samples",
    )
    places = [text.index(words) for words in way]
    assert places == sorted(places)


def test_a_group_can_be_resolved_and_reopened(run: Run, ask: Ask, shop: Path, path: Path) -> None:
    """A resolved group is hidden unless --all is given, can be reopened, and not both at once."""
    path.write_bytes(shop.read_bytes())
    group = ask("errors", "--db", path)["groups"][0]["group"]
    told = run("error", group[:6], "--resolve", "--db", path).stdout
    assert told == f"ZeroDivisionError ({group}) is resolved; if it occurs again, it is listed as regressed\n"
    none = run("errors", "--db", path)
    assert (none.exit_code, none.stdout) == (1, "")
    assert "which --all lists" in none.stderr
    assert ask("errors", "--all", "--db", path)["groups"][0]["state"] == "resolved"
    assert "\nresolved " in run("errors", "--all", "--db", path).stdout
    assert "  resolved just now" in run("error", group, "--db", path).stdout
    assert ask("error", group, "--reopen", "--db", path)["group"]["state"] == "open"
    assert len(ask("errors", "--db", path)["groups"]) == 1
    both = run("error", group, "--resolve", "--reopen", "--db", path)
    assert (both.exit_code, both.stdout) == (2, "")


def test_errors_are_filtered_and_sorted(run: Run, ask: Ask, path: Path) -> None:
    """Groups are filtered by type and text, and sorted by frequency on request."""
    once, twice = raised("bank.Declined", "card"), raised("OSError", "disk full")
    spans = [span(trace_id(n), n, exception=twice, at_ns=NOON) for n in (1, 2)]
    store(path, {"shop": [*spans, span(trace_id(3), 3, exception=once, at_ns=NOON + 9_000_000_000)]})

    def types(*arguments: str) -> list[str]:
        return [group["type"] for group in ask("errors", *arguments, "--db", path)["groups"]]

    assert types() == ["bank.Declined", "OSError"]
    assert types("--sort", "frequent") == ["OSError", "bank.Declined"]
    assert types("--type", "Declined") == types("--text", "CARD") == ["bank.Declined"]
    assert run("errors", "--sort", "worst", "--db", path).exit_code == 2
    assert run("errors", "--type", "Decline", "--db", path).exit_code == 1


def test_errors_fit_a_narrow_screen(run: Run, shop: Path) -> None:
    """`errors` keeps count, bar and file name on a narrow screen, and shows more on a wide one."""
    narrow, wide = (run("errors", "--db", shop, columns=columns).stdout for columns in (80, 120))
    for text in (narrow, wide):
        head, first, second, *_ = text.splitlines()
        assert head.split() == ["ERROR", "COUNT", "UNCAUGHT", "LAST", "WHEN", "EXCEPTION"]
        assert first.split()[1:3] == ["2", "0"]
        assert "stock.reserve  " in second
    assert "·······█  ZeroDivision" in narrow
    assert "█  ZeroDivisionError: division by zero" in wide
    assert "/srv/shop/stock.py:12 in Stock._ratio" in wide


def test_another_occurrence_is_shown_on_demand(run: Run, shop: Path) -> None:
    """`error` shows another sample or the library frames on request."""
    group = json.loads(run("errors", "--db", shop, "--json").stdout)["groups"][0]["group"]
    first = run("error", group, "--sample", "first", "--db", shop).stdout
    assert f"the first one, 2026-01-31 12:00:01, in trace {trace_id(1).hex()}" in first
    assert "… 1 frame in zerorpc" in first
    assert "_async_task" not in first
    assert "_async_task" in run("error", group, "--all-frames", "--db", shop).stdout
    missing = run("error", group, "--sample", "ffff", "--db", shop)
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_a_group_outlives_its_spans(run: Run, shop: Path, path: Path) -> None:
    """`error` prints a group of which retention has deleted all spans, and says so."""
    shutil.copy(shop, path)
    with closing(sqlite3.connect(path)) as db, db:
        ((group,),) = db.execute("SELECT fingerprint FROM exception_groups")
        for table in ("spans", "exceptions", "traces"):
            db.execute(f"DELETE FROM {table}")
    text = run("error", group, "--db", path).stdout
    assert "ZeroDivisionError: division by zero" in text
    assert "its spans are not stored" in text
