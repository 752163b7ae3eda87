"""Pages of the documentation as data: sections, tables, fenced blocks, links and anchors."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)|!\[[^]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")


def all_pages() -> list[Path]:
    """Return every page of the repository."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def sources() -> Iterator[str]:
    """Yield the source of every module of the three packages."""
    for package in ("ztrace", "collector/ztrace_collector", "viewer/ztrace_viewer"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.read_text()


def read(name: str) -> str:
    """Return the text of a page of ``docs``."""
    return (DOCS / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks in one language."""
    return [block[2] for block in _FENCE.finditer(text) if block[1] == language]


def without_blocks(text: str) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", text)


def sections(text: str) -> dict[str, str]:
    """Return a page's text by heading, each up to the next heading of any level."""
    text = without_blocks(text)
    found = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in found[1:]), len(text)]
    return {
        heading[2].replace("`", ""): text[heading.end() : end]
        for heading, end in zip(found, ends, strict=True)
    }


def rows(section: str) -> list[list[str]]:
    """Return the cells of a section's tables, without the header rows."""
    lines = section.splitlines()
    table = [
        line
        for number, line in enumerate(lines)
        if line.startswith("|")
        and not line.startswith("|---")
        and not (number + 1 < len(lines) and lines[number + 1].startswith("|---"))
    ]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def code(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return _CODE.findall(cell)


def links(text: str) -> list[str]:
    """Return the targets of a page's links and images."""
    return [first or second for first, second in _LINK.findall(without_blocks(text))]


def anchors(text: str) -> set[str]:
    """Return GitHub's anchors of a page's headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading[2].lower()).replace(" ", "-")
        for heading in _HEADING.finditer(without_blocks(text))
    }
