"""Profiles by call path and code as pictures: an icicle of critical time, as SVG or as a page of HTML.

One idea: the picture needs nothing else. There is no script and no request, each name and figure is escaped
text, and the browser's own tooltips tell what does not fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import PurePath
from zlib import crc32

from ztrace_viewer.documents.profile import PathProfile, ProfileDocument
from ztrace_viewer.export.chains import Box, make_chains
from ztrace_viewer.terminal.counts import plural
from ztrace_viewer.terminal.durations import format_duration

#: Size of the picture, of a row and of a character, in pixels; narrower calls are left out.
_WIDTH, _ROW, _CHARACTER, _LEAST = 1200, 20, 7.0, 0.4
#: Space above the rows.
_HEAD = 30
#: Colours of code: what runs, and what waits.
_STATE_COLOURS = {"run": "hsl(30 85% 72%)", "wait": "hsl(215 20% 84%)", "wait_busy": "hsl(215 35% 72%)"}

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
    """A call or a line of code in the picture, with those below it.

    Attributes:
        path: of a call.
        state: of code.
    """

    label: str
    service: str
    path: PathProfile | None = None
    state: str = ""
    whole_ns: int = 0
    below: dict[Box, "_Box"] = field(default_factory=dict)


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
    for chain in make_chains(document):
        box = top
        box.whole_ns += chain.ns
        for place, each in enumerate(chain.boxes, 1):
            box = box.below.setdefault(each, _Box(_label(each), each.service))
            box.whole_ns += chain.ns
            if place == len(chain.path["path"]):
                box.path = chain.path
            elif place > len(chain.path["path"]):
                box.state = chain.state
    return top


def _label(box: Box) -> str:
    return f"{box.name} {PurePath(box.file).name}:{box.line}" if box.file else box.name


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
        told += f"; itself {format_duration(box.path['critical_ns'])} in {plural(box.path['calls'], 'call')}"
        told += f", p95 {format_duration(box.path['p95_ns'])}"
    room = int((width - 6) / _CHARACTER)
    shown = box.label if len(box.label) <= room else f"{box.label[: room - 1]}…" if room > 2 else ""
    hue = crc32(box.service.encode("utf-8", "replace")) % 360
    colour = _STATE_COLOURS.get(box.state, f"hsl({hue} 55% 78%)")
    return (
        f'<g><title>{escape(told)}</title><rect x="{left:.2f}" y="{y}" width="{max(width - 0.5, 0.2):.2f}"'
        f' height="{_ROW - 1}" rx="2" fill="{colour}"/>'
        f'<text x="{left + 3:.2f}" y="{y + 14}" fill="#111">{escape(shown)}</text></g>'
    )
