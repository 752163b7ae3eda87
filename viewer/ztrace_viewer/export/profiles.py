"""Formats of profiles by call path."""

from collections.abc import Callable, Mapping
from typing import Final

from ztrace_viewer.documents.profile import ProfileDocument
from ztrace_viewer.export.icicle import write_html, write_svg
from ztrace_viewer.export.paths import write_collapsed, write_speedscope

#: Functions that return a profile as text of a format, by its name.
WRITERS: Final[Mapping[str, Callable[[ProfileDocument], str]]] = {
    "svg": write_svg,
    "html": write_html,
    "collapsed": write_collapsed,
    "speedscope": write_speedscope,
}
