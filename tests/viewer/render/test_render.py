"""Drawn trees and grids: width, exact numbers, and harmless text."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from tests.viewer.stored import MINUTE, NOON, SECOND, checkout, raised, span, store, trace_id, travelled
from ztrace import records
from ztrace_viewer.documents.trees import Loss, Missing, TreeDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.render.bars import Scale, draw_bar
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.frames import shorten_path
from ztrace_viewer.render.gaps import tell_missing
from ztrace_viewer.render.grid import Column, draw_grid
from ztrace_viewer.terminal.characters import clean, clean_lines


def lines(tree: TreeDocument, width: int = 80, limit: int | None = None) -> list[str]:
    """Return a tree as drawn three minutes after noon."""
    return [line.plain for line in draw_tree(tree, width, limit, NOON + 3 * MINUTE)]


def read(path: Path, number: int = 1) -> TreeDocument:
    """Return a stored tree."""
    with open_file(path) as db:
        return read_tree(db, trace_id(number))


def test_a_tree_has_its_times_on_one_scale(shop: Path) -> None:
    """Names, durations, own times and bars are drawn on one time scale."""
    drawn = lines(read(shop))
    assert drawn[0] == f"trace {trace_id(1).hex()}  shop.checkout  1.24s"
    assert drawn[1].endswith("(3m ago) · 9 spans · 5 services · 4 errors · complete")
    text = "\n".join(drawn)
    assert re.search(r"^shop\.checkout +1\.24s +22\.0ms +[─█]{30,}$", text, re.M)
    assert re.search(r"^├╴shop → price +780ms +7\.00ms +─{15,}$", text, re.M)
    assert re.search(r"^│ └╴pricing\.price +773ms +773ms +\S?█{15,}\S?$", text, re.M)
    assert drawn[2].startswith("critical path: pricing.price 773ms (62%), cart.load 302ms (24%), ")
    load, price = (next(line for line in drawn if name in line) for name in ("╴cart.load", "╴pricing.price"))
    assert load.rindex("█") < price.index("█")


def test_time_beside_the_critical_path_is_shaded(path: Path) -> None:
    """Own time of calls that the root did not wait for is shaded, and the calls on the path are summed."""
    steps = [
        span(trace_id(1), 2, 1, name="slow", duration_ms=800, start_ms=100),
        span(trace_id(1), 3, 1, name="quick", duration_ms=300, start_ms=100),
        span(trace_id(1), 4, 3, name="part", duration_ms=200, start_ms=100),
    ]
    store(path, {"shop": [span(trace_id(1), 1, name="both", duration_ms=1000), *steps]})
    drawn = lines(read(path))
    assert drawn[2] == "critical path: shop.slow 800ms (80%), shop.both 200ms (20%)"
    bars = {line.strip(" ├└│╴").split()[0]: line.rsplit("  ", 1)[1] for line in drawn[5:9]}
    assert {name for name, bar in bars.items() if "█" in bar} == {"shop.both", "shop.slow"}
    assert {name for name, bar in bars.items() if "░" in bar} == {"shop.quick", "shop.part"}


@pytest.mark.parametrize("width", range(1, 120, 7))
def test_calls_of_the_critical_path_fit_the_screen(shop: Path, width: int) -> None:
    """As many calls of the path are named as fit, and the others counted."""
    [line] = [line for line in lines(read(shop), width) if line.startswith("critical")] or [""]
    assert cell_len(line) <= width
    assert not line or line.count("%") + int(([*re.findall(r"(\d+) more calls?$", line), 0])[0]) == 9


def test_an_exception_stands_where_it_was_raised(shop: Path) -> None:
    """An exception is drawn as a traceback at its origin, and as one line where it passed."""
    drawn = [line.strip(" │└├╴") for line in lines(read(shop))]
    start = drawn.index("/srv/shop/stock.py:12 in Stock._ratio")
    assert drawn[start + 1 : start + 3] == ["▸ return wanted / left", "ZeroDivisionError: division by zero"]
    assert "↑ ZeroDivisionError from stock.reserve  billing.py:71 in Billing.charge" in drawn
    assert "↑ wraps the one from stock.reserve" in drawn
    assert sum(line.endswith("ZeroDivisionError: division by zero") for line in drawn) == 1


def test_a_failure_without_an_exception_says_why(path: Path) -> None:
    """Failed spans have a mark beside their colour; without an exception, their attributes are below."""
    codes = {"http.response.status_code": 503, "error.type": "503", "text": "x" * 100}
    many = {f"key{number}": "value" * 9 for number in range(20)}
    spans = [
        span(trace_id(1), 1, name="GET /", duration_ms=9, status=records.ERROR, attributes=many),
        span(trace_id(1), 2, 1, name="GET users", kind="client", attributes={"http.status_code": 200}),
        span(trace_id(1), 3, 1, name="GET prices", kind="client", status=records.ERROR, attributes=codes),
        span(
            trace_id(1), 4, 1, name="pay", exception=raised("ValueError", "no"), attributes={"card": "visa"}
        ),
    ]
    store(path, {"web": spans})
    drawn = lines(read(path))
    calls = [re.split(" {2,}", line)[0] for line in drawn if line.startswith(("✗", "├", "└"))]
    assert calls == ["✗ web.GET /", "├╴web → GET users", "├╴✗ web → GET prices", "└╴✗ web.pay"]
    text = "\n".join(drawn)
    assert "\n│   http.response.status_code=503  error.type=503\n│   text=xxx" in text
    assert "… 16 more attributes; --json has them all" in text
    assert "200" not in text
    assert "\n    card=visa\n" in text
    assert all(cell_len(line) <= 80 for line in drawn)


def test_what_takes_the_time_is_bold_and_errors_are_red(shop: Path) -> None:
    """Names of slow spans are bold, and those of failed spans are red."""
    styles: dict[str, str] = {}
    for line in draw_tree(read(shop), 100, None, NOON):
        for part in line.spans:
            styles.setdefault(line.plain[part.start : part.end], str(part.style))
    assert styles["pricing.price"] == "bold yellow"
    assert styles["cart.load"] == "bold yellow"
    assert styles["stock.reserve"] == "bold red"
    assert "bold" not in styles["shop → load"]


@pytest.mark.parametrize("width", [1, 7, 20, 55, 56, 75, 76, 120, 300])
def test_no_line_of_spans_is_wider_than_the_screen(shop: Path, width: int) -> None:
    """Lines of spans fit any screen from 20 columns on."""
    tree = read(shop)
    drawn = lines(tree, width)
    spans = [line for line in drawn[3:] if "ms" in line or "1.24s" in line]
    assert len(spans) >= 9
    assert width < 20 or all(cell_len(line) <= width for line in spans)


def test_many_alike_are_folded_and_say_so(path: Path) -> None:
    """Repeated siblings are folded with number and total time, except failed ones."""
    trace = trace_id(1)
    spans = [span(trace, 1, duration_ms=1000, self_ms=10)]
    for n in range(2, 52):
        error = raised("ValueError", "no") if n == 30 else None
        spans.append(span(trace, n, 1, name="find", start_ms=10 * n, duration_ms=5, exception=error))
    store(path, {"shop": spans})
    drawn = "\n".join(lines(read(path)))
    assert "├╴… 25 more like this, 125ms in all" in drawn
    assert "└╴… 18 more like this, 90.0ms in all" in drawn
    assert "ValueError: no" in drawn


def test_a_large_tree_is_cut_with_the_way_to_see_all(path: Path) -> None:
    """A large tree is cut, with the number of remaining spans and the option for all."""
    trace = trace_id(1)
    store(path, {"shop": [span(trace, 1)] + [span(trace, n, 1, name=f"call{n}") for n in range(2, 302)]})
    tree = read(path)
    drawn = lines(tree, 80, 200)
    assert drawn[-1] == "… 101 more spans; --limit 0 shows all"
    assert len(drawn) < 210
    assert len(lines(tree)) > 300


def test_a_deep_tree_is_drawn(path: Path) -> None:
    """A tree of 5,000 levels is drawn, with room for the names."""
    trace = trace_id(1)
    store(path, {"shop": [span(trace, n + 1, n or None, duration_ms=9) for n in range(5000)]})
    drawn = lines(read(path))
    assert len(drawn) > 5000
    assert all(cell_len(line) <= 80 for line in drawn)
    assert "shop" in drawn[-1]


def test_what_is_missing_is_said(path: Path) -> None:
    """Orphans of one parent are drawn together below the reason."""
    trace = trace_id(1)
    spans = [span(trace, 2, 9), span(trace, 3, 9), span(trace, 4, 2, duration_ms=None), span(trace, 5, 8)]
    store(path, {"shop": spans}, at_ns=NOON + 3 * MINUTE)
    with open_file(path) as db:
        drawn = lines(read_tree(db, trace_id(1), NOON + 3 * MINUTE))
    assert "incomplete" in drawn[1]
    assert [re.sub(r" {2,}.*", "", line) for line in drawn[4:]] == [
        "? parent not traced (no publisher there)",
        "├╴shop.work",
        "│ └╴shop.work",
        "│",
        "│",
        "└╴shop.work",
        "? parent not traced (no publisher there)",
        "└╴shop.work",
        "incomplete; 3 spans without parent: not traced, 1 span: still running",
    ]
    assert re.fullmatch(r"│ └╴shop\.work +>3m 0s +- +╌+", drawn[6])
    assert drawn[7:9] == [
        "│     running since 12:00:00, 3m 0s",
        "│     open 3m 0s after its parent ended",
    ]


GAP: Loss = {
    "service": "billing",
    "host": "box",
    "pid": 7,
    "reason": "window full",
    "span_count": 1204,
    "first_ns": NOON + 10 * SECOND,
    "last_ns": NOON + 12 * SECOND,
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"reason": "lost", "gap": GAP},
            "? parent lost: 1,204 spans of billing, 12:00:10 to 12:00:12, window full",
        ),
        ({"reason": "refused", "refusal": "kind"}, "? parent refused: kind"),
        ({"reason": "still running"}, "? parent still running, or in flight"),
        ({"reason": "ended with its process"}, "? parent ended with its process"),
        ({"reason": "parents form a circle"}, "? parents form a circle"),
        ({"reason": "\x1b[2J"}, "? parent [2J"),
    ],
)
def test_the_reason_stands_in_the_parents_place(more: Missing, expected: str, run: object) -> None:
    """The reason of a missing parent is drawn with the matching loss."""
    entry: Missing = {**more, "span_id": "02" * 8, "parent_id": "09" * 8}
    assert tell_missing(entry, NOON + 3 * MINUTE) == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("ended", "ended with its process at 12:00:09"),
        ("crashed", "ended with its process (crashed), last heard from at 12:00:09"),
        ("silent", "ended with its process (silent), last heard from at 12:00:09"),
        ("lost", "its end was lost, last reported at 12:00:09"),
        ("abandoned", "let go without an end, found at 12:00:09"),
        ("running", "running since 12:00:00, 3m 0s"),
    ],
)
def test_a_span_without_an_end_says_what_became_of_it(
    path: Path, state: str, expected: str, run: object
) -> None:
    """An unfinished span has its state below its line, and its time so far."""
    store(path, {"shop": [span(trace_id(1), 1, duration_ms=None)]})
    tree = read(path)
    tree["roots"][0]["unfinished"] = {"state": state, "last_seen_ns": NOON + 9 * SECOND}
    drawn = lines(tree)
    assert drawn[5].strip() == expected
    assert (">3m 0s" if state == "running" else ">9.00s") in drawn[4]
    assert drawn[0].endswith(">3m 0s" if state == "running" else ">9.00s")


@pytest.mark.parametrize(("reason", "marked"), [("peer not known", True), ("peer not traced", False)])
def test_a_request_without_context_is_marked(path: Path, reason: str, marked: bool) -> None:
    """A request of raw ZeroMQ whose server may be in another tree has a line that says so."""
    attributes = {"zeromq.unjoined": reason}
    store(path, {"shop": [span(trace_id(1), 1, kind="client", attributes=attributes)]})
    assert any("not joined (peer not known): " in line for line in lines(read(path))) is marked


def test_a_failure_without_an_exception_is_named_where_it_passed(path: Path) -> None:
    """A client that got an HTTP error names the server's span, which failed without an exception."""
    passed = travelled("HTTP 503", "", records.PASSED, (trace_id(1), 2))
    client = span(trace_id(1), 1, kind="client", exception=passed)
    store(path, {"shop": [client, span(trace_id(1), 2, 1, name="GET /handled", status=records.ERROR)]})
    assert any(line.endswith("↑ HTTP 503 from shop.GET /handled") for line in lines(read(path)))


EVIL = "a\x1b[31mb\x07\x9b2Jc\u202ed\u2066e\rf\ng\x00h[bold red]i[/]\u200bj\x7f"


def test_text_is_made_harmless() -> None:
    """Control characters and marks are removed, line ends become blanks, and other text is kept."""
    assert clean(EVIL) == "a[31mb2Jcde f gh[bold red]i[/]j"
    assert clean_lines("one\x1b\ntwo\r\nthree") == ["one", "two", "three"]
    assert clean("naïve 日本 ✓") == "naïve 日本 ✓"


@given(st.text())
def test_nothing_unseen_is_left(text: str) -> None:
    """No text leaves a control or direction character."""
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", clean(text))


def test_a_hostile_trace_is_drawn_harmlessly(path: Path) -> None:
    """Names, services, messages, types and frames are drawn without control characters."""
    frames = [[EVIL, 1, EVIL, "m", EVIL, True]]
    bad = span(trace_id(1), 1, name=EVIL, exception=raised(EVIL, EVIL, frames=frames))
    store(path, {EVIL: [bad]})
    drawn = "\n".join(lines(read(path)))
    assert "[bold red]" in drawn
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", drawn)


def test_a_long_message_and_a_long_traceback_are_cut(path: Path) -> None:
    """A long message and a long traceback are cut, with the omitted numbers."""
    frames = [[f"/srv/{n}.py", n, "f", "m", "g()", True] for n in range(1, 41)]
    error = raised("ValueError", "\n".join(f"line {n}" for n in range(30)), frames=frames)
    store(path, {"shop": [span(trace_id(1), 1, exception=error)]})
    drawn = "\n".join(lines(read(path)))
    assert "… 28 frames between" in drawn
    assert "/srv/1.py:1 in f" in drawn
    assert "/srv/40.py:40 in f" in drawn
    assert "… 22 more lines" in drawn


def test_causes_follow_the_exception(path: Path) -> None:
    """Causes follow the exception, each with its link in words."""
    inner = records.ExceptionRecord("KeyError", "'x'", [], [], records.REPLACED, None, None)
    cause = records.ExceptionRecord("OSError", "gone", [], [list(inner)], records.WRAPPED, None, None)
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("AppError", "no", causes=[cause]))]})
    drawn = [line.strip() for line in lines(read(path))]
    assert drawn[-5:] == ["AppError: no", "caused by", "OSError: gone", "while handling", "KeyError: 'x'"]


@pytest.mark.parametrize(
    ("begin", "end", "waits", "drawn"),
    [
        (0, 80, [], "██████████"),
        (0, 80, [(0, 80)], "──────────"),
        (0, 80, [(16, 40)], "██───█████"),
        (16, 20, [], "  ▌       "),
        (20, 24, [], "  ▐       "),
        (80, 80, [], "         ▕"),
        (0, 0, [], "▏         "),
        (40, None, [], "     ╌╌╌╌╌"),
        (-50, 300, [], "██████████"),
    ],
)
def test_a_bar_stands_where_the_span_ran(
    begin: int, end: int | None, waits: list[tuple[int, int]], drawn: str
) -> None:
    """A bar is drawn to an eighth of a cell, and is never empty."""
    cells = draw_bar(Scale(0, 80, 10), begin, end, waits)
    assert "".join(character for character, _ in cells) == drawn


@given(st.data())
def test_a_bar_fills_its_width(data: st.DataObject) -> None:
    """A bar has the full width for any times."""
    times = st.integers(-(1 << 62), 1 << 62)
    start, end = sorted((data.draw(times), data.draw(times)))
    scale = Scale(start, end, data.draw(st.integers(1, 60)))
    cells = draw_bar(scale, data.draw(times), data.draw(times | st.none()), [(start, end)])
    assert len(cells) == scale.width


def rows(*cells: str) -> list[tuple[Text, ...]]:
    """Return one row of cells."""
    return [tuple(Text(cell) for cell in cells)]


def test_names_give_way_before_columns_and_numbers_never(shop: Path) -> None:
    """A narrow grid cuts long names first, then drops columns, and keeps numbers whole."""
    columns = (Column("NAME", flexible=8), Column("WHERE", goes=1), Column("COUNT", right=True))
    row: Any = rows("a_very_long_name_of_a_method", "somewhere", "1,234,567")
    assert [line.plain for line in draw_grid(columns, row, 60)][1].startswith("a_very_long_name_of_a_method")
    assert [line.plain for line in draw_grid(columns, row, 34)] == [
        "NAME          WHERE          COUNT",
        "a_very_long…  somewhere  1,234,567",
    ]
    assert [line.plain for line in draw_grid(columns, row, 20)] == [
        "NAME           COUNT",
        "a_very_l…  1,234,567",
    ]
    assert "1,234,567" in [line.plain for line in draw_grid(columns, row, 3)][1]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(40, "/srv/shop/app/stock.py"), (16, "…/app/stock.py"), (12, "…/stock.py"), (3, "…/stock.py")],
)
def test_a_path_loses_its_first_folders(width: int, shown: str) -> None:
    """A shortened path loses its first folders and keeps the file's name."""
    assert shorten_path("/srv/shop/app/stock.py", width) == shown


def test_a_checkout_has_no_line_too_many(shop: Path) -> None:
    """A whole checkout is drawn without a surplus line; the slow call has one with its attribute."""
    assert len(checkout(trace_id(1))) == 5
    assert len(lines(read(shop))) == 3 + 1 + 1 + 9 + 1 + 1 + 4 + 1 + 6


def test_the_depth_of_deep_calls_is_marked(path: Path) -> None:
    """Where the guides of the outer levels do not fit, a call's line begins with its depth."""
    calls = [span(trace_id(1), number, number - 1 or None, name=f"call{number}") for number in range(1, 31)]
    store(path, {"shop": calls})
    marked = [line.partition("⋮") for line in lines(read(path), 60) if "⋮" in line]
    depths = [int(depth) for depth, _, _ in marked]
    assert depths == list(range(depths[0], 30))
    assert 5 < depths[0] < 12
    for depth, _, rest in marked:
        assert re.search(rf"└╴shop\.call{int(depth) + 1} ", rest), rest
