"""Exceptions drawn like Python's tracebacks, with bounded and harmless text."""

import re
from pathlib import Path

import pytest

from tests.viewer.stored import MINUTE, NOON, raised, span, store, trace_id, travelled
from ztrace import records
from ztrace_viewer.documents.errors import ErrorDocument
from ztrace_viewer.documents.exceptions import Frame
from ztrace_viewer.documents.trees import TreeDocument
from ztrace_viewer.queries.exceptions import read_exceptions
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.queries.way import read_error
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.error import draw_error
from ztrace_viewer.render.frames import CALLED, draw_frames, name_place
from ztrace_viewer.render.sparks import draw_sparks
from ztrace_viewer.render.tracebacks import MAX_EXCEPTIONS, MAX_REMOTE_LINES, draw_exception, draw_remote
from ztrace_viewer.render.way import MAX_FIRST, MAX_LAST, part_way

EVIL = "a\x1b[31mb\x07\x9b2Jc\u202ed\u2066e\rf[bold red]i[/]\u200bj\x7f"
LIBRARY = "/usr/lib/python3/dist-packages/yaml/reader.py"


def frame(line: int, *, file: str = "/srv/a.py", in_app: bool = True, **more: object) -> Frame:
    """Return a frame of a document."""
    shown: Frame = {
        "file": file,
        "line": line,
        "function": "f",
        "code": f"call_{line}()",
        "in_app": in_app,
        "repeats": 0,
        "omitted": 0,
        "locals": None,
    }
    return {**shown, **more}  # type: ignore[typeddict-item]


def drawn(frames: list[Frame], mark: str = "▸", libraries: bool = False) -> list[str]:
    """Return frames as drawn, without indentation."""
    return [line.plain.strip() for line in draw_frames(frames, 80, mark, libraries=libraries)]


def exception_lines(path: Path, error: records.ExceptionRecord, width: int = 80) -> list[str]:
    """Return an exception as drawn after being stored."""
    store(path, {"shop": [span(trace_id(1), 1, exception=error)]})
    with open_file(path) as db:
        (document,) = read_exceptions(db, trace_id(1)).values()
    return [line.plain for line in draw_exception(document, width)]


def read(path: Path, text: str = "") -> ErrorDocument:
    """Return the group whose message contains a text."""
    with open_file(path) as db:
        (group,) = [each["group"] for each in list_groups(db)["groups"] if text in each["message"]]
        return read_error(db, group, now_ns=NOON + MINUTE)


def error_lines(document: ErrorDocument, width: int = 100) -> list[str]:
    """Return a group as drawn a minute after noon."""
    return [line.plain for line in draw_error(document, width, NOON + MINUTE)]


def test_the_users_last_line_is_marked_and_libraries_step_back() -> None:
    """The last in-app line is marked, the raising library line drawn, and others counted."""
    library = [frame(n, file=LIBRARY, in_app=False) for n in (2, 3, 4)]
    assert drawn([frame(1), *library]) == [
        "/srv/a.py:1 in f",
        "▸ call_1()",
        "… 2 frames in yaml",
        f"{LIBRARY}:4 in f",
        "call_4()",
    ]
    assert drawn([frame(1), *library], CALLED) == ["/srv/a.py:1 in f", "→ call_1()", "… 3 frames in yaml"]
    assert len(drawn([frame(1), *library], libraries=True)) == 8
    assert drawn(library)[-1] == "▸ call_4()"


def test_recursion_is_told_and_not_repeated() -> None:
    """Repeated and omitted frames are drawn as numbers."""
    assert drawn([frame(1, repeats=12), frame(2, repeats=1), frame(3, omitted=950)]) == [
        "/srv/a.py:1 in f",
        "call_1()",
        "… repeats 12 more times",
        "/srv/a.py:2 in f",
        "call_2()",
        "… repeats 1 more time",
        "… 950 frames left out",
        "/srv/a.py:3 in f",
        "▸ call_3()",
    ]


def test_locals_stand_below_their_line() -> None:
    """Local variables are drawn below their line, up to a dozen."""
    some = drawn([frame(1, locals={"n": "1", "name": EVIL})])
    assert some[2:] == ["n = 1", "name = a[31mb2Jcde f[bold red]ij".replace("ij", "i[/]j")]
    assert drawn([frame(1, locals={f"n{n}": "0" for n in range(20)})])[-1] == "… 8 more names"


@pytest.mark.parametrize(
    ("width", "shown"),
    [(60, "/srv/shop/app.py:7 in f"), (18, "…/app.py:7 in f"), (13, "app.py:7 in f"), (1, "app.py:7 in f")],
)
def test_a_place_keeps_the_files_name(width: int, shown: str) -> None:
    """A place keeps the file's name and as much of the path as fits."""
    assert name_place(frame(7, file="/srv/shop/app.py"), width) == shown


def test_notes_follow_the_message_and_long_ones_are_wrapped(path: Path) -> None:
    """Messages and notes are wrapped without losing words, and very long ones are cut."""
    words = " ".join(f"word{n}" for n in range(30))
    error = raised("ValueError", words, frames=[])._replace(notes=["one\n  two", "y" * 5000])
    lines = exception_lines(path, error, 60)
    at = lines.index("  one")
    assert " ".join(lines[:at]) == f"ValueError: {words}"
    assert lines[at + 1] == "    two"
    assert lines[-1] == "    … and more"
    assert len(lines) < 20
    assert all(len(line) <= 60 for line in lines)


def test_members_are_a_tree(path: Path) -> None:
    """Members are drawn as a tree before the causes, each remote one as such."""
    here = raised("OSError", "gone")
    there = travelled("app.RemoteError", "KeyError: 'x'", records.PASSED, (trace_id(1), 7))
    inner = raised("ExceptionGroup", "inner", frames=[])._replace(members=[here])
    cause = raised("EOFError", "end", frames=[])._replace(how=records.WRAPPED)
    group = raised("ExceptionGroup", "outer", frames=[], causes=[cause])
    assert exception_lines(path, group._replace(members=[there, inner])) == [
        "ExceptionGroup: outer",
        "├╴KeyError: 'x'",
        "│   began elsewhere",
        "├╴ExceptionGroup: inner",
        "│ └╴OSError: gone",
        "│     /srv/shop/db.py:42 in query",
        "│     ▸ return a / b",
        "caused by",
        "EOFError: end",
    ]


def test_members_without_number_are_cut(path: Path) -> None:
    """Members beyond the limit are counted."""
    groups = [
        raised("ExceptionGroup", str(n), frames=[])._replace(members=[raised("OSError", "x", frames=[])] * 9)
        for n in range(9)
    ]
    lines = exception_lines(path, raised("ExceptionGroup", "all", frames=[])._replace(members=groups))
    assert len(lines) == MAX_EXCEPTIONS + 1
    assert re.fullmatch(r"… \d+ more exceptions; --json has them", lines[-1])


def test_the_end_of_a_foreign_traceback_is_shown() -> None:
    """The end of a remote traceback is drawn, without empty lines and control characters."""
    lines = [line.plain for line in draw_remote("\n\n".join([*map(str, range(99)), f"Bad: {EVIL[:8]}"]))]
    assert len(lines) == MAX_REMOTE_LINES + 2
    assert lines[1].strip() == f"… {100 - MAX_REMOTE_LINES} lines before"
    assert "\x1b" not in lines[-1]


@pytest.mark.parametrize(
    ("counts", "cells", "bar"),
    [
        ([0, 1, 4, 8], 4, "·▁▄█"),
        ([0, 0, 1, 0, 9, 9], 3, "·▁█"),
        ([1, 1000], 2, "▁█"),
        ([0, 0], 2, "··"),
        ([3] * 5, 2, "█▆"),
        ([], 4, ""),
        ([-1, 2], 2, "·█"),
    ],
)
def test_a_bar_of_when(counts: list[int], cells: int, bar: str) -> None:
    """A sparkline has a full block for its maximum and a visible one for each nonzero count."""
    assert draw_sparks(counts, cells) == bar


def test_the_way_is_one_traceback_over_processes(path: Path) -> None:
    """The path is drawn as one traceback over processes, with a frame shared by two spans once."""
    trace = trace_id(1)
    call = records.FrameRecord("/srv/front.py", 9, "Front.look", "front", "self.stock.find()", True)
    entry = records.FrameRecord("/srv/front.py", 5, "retry", "front", "return function()", True)
    up = travelled("app.RemoteError", "KeyError: 'x'", records.PASSED, (trace, 4))
    spans = [
        span(
            trace,
            1,
            name="look",
            exception=up._replace(frames=[entry, call]),
        ),
        span(trace, 2, 1, kind="client", name="find", exception=up._replace(frames=[call])),
    ]
    inside = [span(trace, 3, 2, name="find", exception=up), span(trace, 4, 3, kind="internal", name="scan")]
    inside[1] = inside[1]._replace(status=records.ERROR, exception=raised("KeyError", "'x'"))
    store(path, {"front": spans, "stock": inside})
    lines = [re.sub(r"pid \d+", "pid 1", line) for line in error_lines(read(path))]
    assert lines[lines.index("") + 1 :] == [
        f"the only one, 59s ago, in trace {trace.hex()}",
        "came out of front.look as KeyError: 'x'",
        "",
        "front.look  (pid 1 on box)",
        "  /srv/front.py:5 in retry",
        "    return function()".replace("    ", "  → "),
        "  /srv/front.py:9 in Front.look",
        "  → self.stock.find()",
        "↓ calls stock.find  (pid 1)",
        "  in the span scan",
        "  /srv/shop/db.py:42 in query",
        "  ▸ return a / b",
        "KeyError: 'x'",
    ]


def test_a_very_long_way_is_cut(path: Path) -> None:
    """A long path is cut in the middle, over processes and within one, with the omitted number."""
    frames = [records.FrameRecord("/srv/a.py", 1, "f", "a", "call()", True)]
    trace, other = trace_id(1), trace_id(2)
    passed = travelled("app.RemoteError", "ValueError: far", records.PASSED, (trace, 200), frames)
    far = [span(trace, n, n - 1 or None, name=f"call{n}", exception=passed) for n in range(1, 200)]
    far.append(span(trace, 200, 199, name="end", exception=raised("ValueError", "far")))
    inside = travelled("ValueError", "deep", records.PASSED, (other, 900), frames)
    deep = [
        span(other, n, n - 1 if n > 701 else None, kind="internal", exception=inside) for n in range(701, 900)
    ]
    deep.append(span(other, 900, 899, kind="internal", exception=raised("KeyError", "deep")))
    store(path, {"shop": [*far, *deep]})
    for text, cut in (("far", "… 168 calls between"), ("deep", "  … 168 spans between")):
        lines = error_lines(read(path, text))
        assert cut in lines
        assert len(lines) < 150
    stretches = part_way(read(path, "far")["hops"])
    assert (len(stretches), MAX_FIRST + MAX_LAST) == (200, 32)


def test_what_was_handled_says_where(path: Path) -> None:
    """A handled exception names its handler, except for messages, which have none."""
    trace, message = trace_id(1), trace_id(2)
    handled = [
        span(trace, 1, name="look"),
        span(trace, 2, 1, kind="client", exception=raised("ValueError", "one")),
    ]
    sent = [span(message, 3, name="buy"), span(message, 4, 3, kind="producer", name="mail")]
    received = span(message, 5, 4, kind="consumer", name="mail", exception=raised("OSError", "two"))
    store(path, {"front": [*handled, *sent], "mail": [received]})
    one, two = error_lines(read(path, "one")), error_lines(read(path, "two"))
    assert "handled in front.look" in one
    assert "  handled here: its caller saw no error" in one
    assert not any("handled" in line for line in two)
    assert "  a message: its sender does not wait for the outcome" in two
    assert "came out of mail.mail as OSError: two" in two
    assert any(line.startswith("↓ sends to mail ⇠ mail  (pid ") for line in two)


@pytest.mark.parametrize(
    ("ends_ms", "told"),
    [
        (600, "  was still running, and ended well 355ms later, after 600ms"),
        (100, "  had ended well 145ms before, after 100ms"),
        (None, "  has not ended: its process is silent"),
    ],
)
def test_the_other_side_of_a_timeout_is_told(path: Path, ends_ms: float | None, told: str) -> None:
    """The callee's state at its caller's timeout, and its end, are drawn."""
    trace = trace_id(1)
    late = raised("zerorpc.exceptions.TimeoutExpired", "timeout after 0.25s")
    call = span(trace, 1, kind="client", name="date", duration_ms=250, exception=late)
    callee = span(trace, 2, 1, name="date", start_ms=5, duration_ms=ends_ms)
    store(path, {"front": [call], "stock": [callee]}, at_ns=NOON)
    lines = error_lines(read(path))
    assert lines[-2].startswith("↓ calls stock.date  (pid ")
    assert lines[-1] == told


def test_another_side_that_is_not_stored_is_told(path: Path) -> None:
    """A callee without stored spans is drawn as such, with its own traceback if it sent one."""
    error = raised("zerorpc.exceptions.RemoteError", "KeyError: 'x'")
    text = {"zerorpc.remote_traceback": 'File "pay.py", line 7'}
    call = span(trace_id(1), 1, kind="client", name="pay", exception=error, attributes=text)
    store(
        path,
        {
            "front": [
                call,
                span(trace_id(2), 2, kind="client", name="ask", exception=raised("OSError", "own")),
            ]
        },
    )
    assert error_lines(read(path, "KeyError"))[-3:] == [
        "↓ calls pay  (not traced)",
        "  remote traceback, as sent with the error:",
        '    File "pay.py", line 7',
    ]
    assert error_lines(read(path, "own"))[-1] == "↓ calls ask  (not stored)"


@pytest.mark.parametrize("width", [1, 20, 80, 300])
def test_a_hostile_error_is_drawn_harmlessly(path: Path, width: int) -> None:
    """Notes, members, locals, process names and remote tracebacks are drawn without control characters."""
    trace = trace_id(1)
    frames = [records.FrameRecord(EVIL, 1, EVIL, EVIL, EVIL, True, 3, 4, {EVIL: EVIL})]
    member = travelled(EVIL, EVIL, records.PASSED, (trace, 2))
    group = travelled(EVIL, EVIL, records.GROUPED, (trace, 2), frames)._replace(
        members=[member], notes=[EVIL]
    )
    error = raised(EVIL, EVIL, frames=frames)._replace(notes=[EVIL])
    text = {"zerorpc.remote_traceback": EVIL}
    call = span(trace, 2, 1, name=EVIL, kind="client", exception=error, attributes=text)
    store(path, {EVIL: [span(trace, 1, name=EVIL, exception=group), call, span(trace, 3, 2, name=EVIL)]})
    document, tree = read(path), read_tree_of(path)
    for lines in (error_lines(document, width), [line.plain for line in draw_tree(tree, width, None, NOON)]):
        drawn_text = "\n".join(lines)
        assert "[bold red]" in drawn_text or width == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", drawn_text)


def read_tree_of(path: Path) -> TreeDocument:
    """Return the first trace's tree."""
    with open_file(path) as db:
        return read_tree(db, trace_id(1), NOON)
