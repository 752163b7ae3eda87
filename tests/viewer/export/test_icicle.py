"""Icicles: well-formed pictures whose widths are shares of the time, and whose names are text."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from click.testing import CliRunner

from tests.viewer.queries.test_profile import read, settle
from tests.viewer.queries.test_stacks import take
from tests.viewer.stored import Sampled, span, trace_id
from ztrace.records import RUN, WAIT
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.icicle import write_html, write_svg
from ztrace_viewer.export.paths import write_collapsed, write_speedscope

#: Requirements of speedscope's own schema for sampled profiles, in our words.
SCHEMA = {
    "type": "object",
    "required": ["$schema", "profiles", "shared"],
    "properties": {
        "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
        "shared": {
            "type": "object",
            "required": ["frames"],
            "properties": {
                "frames": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "file": {"type": "string"},
                            "line": {"type": "number"},
                        },
                        "additionalProperties": False,
                    },
                }
            },
        },
        "profiles": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "name", "unit", "startValue", "endValue", "samples", "weights"],
                "properties": {
                    "type": {"const": "sampled"},
                    "unit": {"const": "nanoseconds"},
                    "samples": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                    "weights": {"type": "array", "items": {"type": "number"}},
                },
            },
        },
    },
}

EVIL = "</text><script>alert(1)</script>&\x00\x1b[2J\u202e"
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def coded(path: Path) -> ProfileDocument:
    """Return the profile of a tree whose root's code was sampled, with a name full of markup."""
    sampled = Sampled("shop")
    name = EVIL.replace(" ", "")
    sampled.add("buy", f"main:1 {name}:7", WAIT, 30)
    sampled.add("buy", "main:1 render:9", RUN, 10)
    tree = {"shop": [span(trace_id(1), 1, name="buy", duration_ms=100)]}
    return read(take(settle(path, tree), sampled))


@pytest.fixture
def document(path: Path) -> ProfileDocument:
    """Return the profile of a tree of 100 ms, with a name full of markup."""
    trace = trace_id(1)
    spans = [
        span(trace, 1, name="buy", duration_ms=100),
        span(trace, 2, 1, name=EVIL, start_ms=10, duration_ms=60),
        span(trace, 3, 2, name="pay", start_ms=20, duration_ms=40),
        span(trace, 4, 1, name="beside", start_ms=10, duration_ms=5),
    ]
    return read(settle(path, {"shop": spans}))


def boxes(picture: str) -> dict[str, tuple[float, float]]:
    """Return the left side and the width of each call, by the beginning of its tooltip."""
    found = {}
    for group in ElementTree.fromstring(picture).iter(f"{_SVG}g"):
        title, rect = group.find(f"{_SVG}title"), group.find(f"{_SVG}rect")
        assert title is not None
        assert title.text is not None
        assert rect is not None
        found[title.text.split(":")[0]] = float(rect.attrib["x"]), float(rect.attrib["width"])
    return found


def test_widths_are_shares_of_the_critical_time(document: ProfileDocument) -> None:
    """A call is as wide as its share of the time, and stands within its caller."""
    drawn = boxes(write_svg(document))
    assert drawn["shop.buy"] == (0.0, 1199.5)
    assert drawn["shop.pay"] == (0.0, 479.5)
    assert [width for name, (_, width) in drawn.items() if "script" in name] == [719.5]
    assert "shop.beside" not in drawn


def test_names_are_text(document: ProfileDocument) -> None:
    """Names full of markup and control characters are shown as text, in a page without scripts."""
    page = write_html(document)
    assert "<script" not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    assert "default-src 'none'" in page
    assert not re.search("(src|href)=", page)


def test_the_command_writes_pictures(document: ProfileDocument, path: Path) -> None:
    """``--format svg`` and ``html`` print the whole picture."""
    for name in ("svg", "html"):
        result = CliRunner().invoke(ztrace, ["profile", "--db", str(path), "--format", name])
        assert result.exit_code == 0
        assert "shop.pay" in result.stdout


def test_code_stands_below_its_path(coded: ProfileDocument) -> None:
    """The time of a path is divided by its method's samples, and a box says whose these are."""
    picture = write_svg(coded)
    drawn = boxes(picture)
    assert drawn["shop.buy"] == (0.0, 1199.5)
    assert drawn["(waits, over all paths)"] == (0.0, 899.5)
    assert drawn["(runs, over all paths)"] == (900.0, 299.5)
    assert drawn["render shop.py"] == (900.0, 299.5)
    assert [width for name, (_, width) in drawn.items() if "script" in name] == [899.5]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", picture)


def test_files_have_the_code(coded: ProfileDocument) -> None:
    """Collapsed stacks and speedscope's file have the lines of code, and all of the time."""
    lines = write_collapsed(coded).splitlines()
    assert "shop.buy;(runs, over all paths);main shop.py:1;render shop.py:9 25000000" in lines
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == 100_000_000
    document = json.loads(write_speedscope(coded))
    jsonschema.validate(document, SCHEMA)
    (drawn,) = document["profiles"]
    assert sum(drawn["weights"]) == drawn["endValue"] == 100_000_000
    frames = document["shared"]["frames"]
    assert {"name": "render", "file": "/srv/shop/shop.py", "line": 9} in frames
    assert [frames[place]["name"] for place in drawn["samples"][-1]][-2:] == ["main", "render"]
