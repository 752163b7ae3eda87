"""Icicles: well-formed pictures whose widths are shares of the time, and whose names are text."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tests.viewer.queries.test_profile import read, settle
from tests.viewer.stored import span, trace_id
from ztrace_viewer.cli import ztrace
from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.icicle import write_html, write_svg

EVIL = "</text><script>alert(1)</script>&\x00\x1b[2J\u202e"
_SVG = "{http://www.w3.org/2000/svg}"


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
