"""Exceptions of documents: all stored fields, with origin and group."""

from pathlib import Path

from tests.viewer.stored import raised, span, span_id, store, trace_id, travelled
from ztrace import records
from ztrace_viewer.queries.exceptions import concerns, read_exceptions, read_frames
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.stores.sqlite.store import open_file


def test_causes_have_the_shape_of_exceptions(path: Path) -> None:
    """Causes have the fields of exceptions, with the origin and group of the exception they caused."""
    inner = records.ExceptionRecord("KeyError", "'x'", [], [], records.REPLACED, None, None)
    cause = records.ExceptionRecord("OSError", "gone", [], [list(inner)], records.WRAPPED, None, None)
    store(path, {"shop": [span(trace_id(1), 1, exception=raised("AppError", "no", causes=[cause]))]})
    with open_file(path) as db:
        top = read_exceptions(db, trace_id(1))[span_id(1)]
    [first] = top["causes"]
    [second] = first["causes"]
    assert (first["type"], first["how"], second["type"], second["how"]) == (
        "OSError",
        "wrapped",
        "KeyError",
        "replaced",
    )
    assert not first["origin"]
    assert first["group"] == second["group"] == top["group"] != ""
    assert second["origin_span_id"] == span_id(1).hex()
    assert set(second) == set(top)


def test_an_exception_whose_origin_is_not_stored_has_no_group(path: Path) -> None:
    """An exception whose origin is not stored is no origin and has no group."""
    lost = travelled("ValueError", "no", records.PASSED, (trace_id(1), 99))
    store(path, {"shop": [span(trace_id(1), 1, exception=lost)]})
    with open_file(path) as db:
        exception = read_exceptions(db, trace_id(1))[span_id(1)]
        assert list_groups(db) == {"groups": []}
    assert (exception["origin"], exception["group"], exception["origin_span_id"]) == (
        False,
        "",
        span_id(99).hex(),
    )


def test_a_member_belongs_to_the_group_of_its_origin(path: Path) -> None:
    """A member has the origin and group of its own span, or else those of its exception group."""
    trace = trace_id(1)
    elsewhere = raised("KeyError", "'x'")
    member = travelled("RemoteError", "KeyError: 'x'", records.PASSED, (trace, 3))
    own = raised("OSError", "gone")
    group = travelled("ExceptionGroup", "two", records.GROUPED, (trace, 3))._replace(members=[member, own])
    spans = [span(trace, 1, exception=group), span(trace, 3, 1, exception=elsewhere)]
    store(path, {"shop": spans})
    with open_file(path) as db:
        found = read_exceptions(db, trace)
    top, origin = found[span_id(1)], found[span_id(3)]
    assert [each["type"] for each in top["members"]] == ["RemoteError", "OSError"]
    assert [each["group"] for each in top["members"]] == [origin["group"], top["group"]]
    assert [each["origin_span_id"] for each in top["members"]] == [span_id(3).hex()] * 2
    assert (top["how"], origin["how"], origin["members"]) == ("grouped", "raised", [])


def test_what_an_exception_concerns_is_found_in_its_members(path: Path) -> None:
    """Origins are found in members at any depth."""
    trace = trace_id(1)
    other = travelled("RemoteError", "no", records.PASSED, (trace, 4))
    inner = travelled("ExceptionGroup", "inner", records.GROUPED, (trace, 4))._replace(members=[other])
    outer = travelled("ExceptionGroup", "outer", records.GROUPED, (trace, 3))._replace(members=[inner])
    store(path, {"shop": [span(trace, 1, exception=outer)]})
    with open_file(path) as db:
        exception = read_exceptions(db, trace)[span_id(1)]
    assert [concerns(exception, span_id(n).hex()) for n in (3, 4, 5)] == [True, True, False]


def test_notes_and_what_was_folded_are_kept(path: Path) -> None:
    """Notes, numbers of repeated and omitted frames, and local variables are kept."""
    frame = records.FrameRecord("/srv/a.py", 7, "f", "a", "f()", True, 12, 950, {"n": "1"})
    error = raised("ValueError", "no", frames=[frame])._replace(notes=["first", "second"])
    store(path, {"shop": [span(trace_id(1), 1, exception=error)]})
    with open_file(path) as db:
        exception = read_exceptions(db, trace_id(1))[span_id(1)]
    assert exception["notes"] == ["first", "second"]
    [shown] = exception["frames"]
    assert (shown["repeats"], shown["omitted"], shown["locals"]) == (12, 950, {"n": "1"})


def test_what_is_no_frame_is_left_out() -> None:
    """Invalid frames, as another program may write, are ignored."""
    assert read_frames("frames") == []
    assert read_frames([1, None, "x"]) == []
    [frame] = read_frames([{"line": "12", "repeats": True, "locals": [1]}])
    assert (frame["line"], frame["repeats"], frame["locals"], frame["in_app"]) == (0, 0, None, False)
