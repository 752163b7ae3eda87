"""Profiles by call path as pictures: an icicle of critical time, as SVG or as a page of HTML.

One idea: the picture needs nothing else. There is no script and no request, each name and figure is escaped
text, and the browser's own tooltips tell what does not fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from zlib import crc32

from ztrace_viewer.documents.profile import PathProfile, ProfileDocument
from ztrace_viewer.terminal.characters import clean
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration
from ztrace_viewer.terminal.screen import name_call

#: Size of the picture, of a row and of a character, in pixels; narrower calls are left out.
_WIDTH, _ROW, _CHARACTER, _LEAST = 1200, 20, 7.0, 0.4
#: Space above the rows.
_HEAD = 30

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 1rem; background: Canvas; color: CanvasText }}
svg {{ width: 100%; height: auto }}
</style>
{picture}
</html>
"""


@dataclass(slots=True)
class _Box:
    """A call in the picture, with those below it."""

    label: str
    service: str
    path: PathProfile | None = None
    own_ns: int = 0
    whole_ns: int = 0
    below: dict[tuple[str, str, str], "_Box"] = field(default_factory=dict)


def write_html(document: ProfileDocument) -> str:
    """Return a profile as a page."""
    return _PAGE.format(title=escape(_title(document)), picture=write_svg(document))


def write_svg(document: ProfileDocument) -> str:
    """Return a profile as a picture, one row for each level of calls."""
    top = _nest(document)
    depth, rows = 0, []
    for box, level, left in _place(top):
        depth = max(depth, level + 1)
        rows.append(_draw(box, level, left, top.whole_ns))
    height = _HEAD + depth * _ROW + 2
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
            f' height="{height}" font-family="monospace" font-size="11.5" role="img">',
            f'<text x="4" y="19" font-size="13" fill="currentColor">{escape(_title(document))}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _title(document: ProfileDocument) -> str:
    p50, p95 = format_duration(document["p50_ns"]), format_duration(document["p95_ns"])
    return f"critical time by call path: {plural(document['traces'], 'tree')}, p50 {p50}, p95 {p95}"


def _nest(document: ProfileDocument) -> _Box:
    """Return a box around those of the roots, each with the time of all below it."""
    top = _Box("", "")
    for path in document["paths"]:
        box = top
        box.whole_ns += path["critical_ns"]
        for step in path["path"]:
            key = step["service"], step["name"], step["kind"]
            if key not in box.below:
                label = name_call(*key) if step["service"] else clean(step["name"])
                box.below[key] = _Box(label, step["service"])
            box = box.below[key]
            box.whole_ns += path["critical_ns"]
        box.path, box.own_ns = path, path["critical_ns"]
    return top


def _place(top: _Box) -> Iterator[tuple[_Box, int, float]]:
    """Yield each box that is wide enough, with its level and its left side."""
    scale = _WIDTH / max(1, top.whole_ns)
    pending = [(top, -1, 0.0)]
    while pending:
        box, level, left = pending.pop()
        if level >= 0:
            yield box, level, left
        for below in sorted(box.below.values(), key=lambda each: (-each.whole_ns, each.label)):
            width = below.whole_ns * scale
            if width >= _LEAST:
                pending.append((below, level + 1, left))
            left += width


def _draw(box: _Box, level: int, left: float, whole_ns: int) -> str:
    width, y = _WIDTH * box.whole_ns / max(1, whole_ns), _HEAD + level * _ROW
    told = f"{box.label}: {format_duration(box.whole_ns)}, {box.whole_ns / max(1, whole_ns):.1%} of the time"
    if box.path is not None:
        told += f"; itself {format_duration(box.own_ns)} in {plural(box.path['calls'], 'call')}"
        told += f", p95 {format_duration(box.path['p95_ns'])}"
    room = int((width - 6) / _CHARACTER)
    shown = box.label if len(box.label) <= room else f"{box.label[: room - 1]}…" if room > 2 else ""
    hue = crc32(box.service.encode("utf-8", "replace")) % 360
    return (
        f'<g><title>{escape(told)}</title><rect x="{left:.2f}" y="{y}" width="{max(width - 0.5, 0.2):.2f}"'
        f' height="{_ROW - 1}" rx="2" fill="hsl({hue} 55% 78%)"/>'
        f'<text x="{left + 3:.2f}" y="{y + 14}" fill="#111">{escape(shown)}</text></g>'
    )
