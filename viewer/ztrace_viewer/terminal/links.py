"""Links on a terminal, by OSC 8: from a frame to its line in the editor, and from an id to the page."""

import os
import sys
from urllib.parse import quote

from rich.style import Style

from ztrace_viewer.terminal.characters import clean

#: Variable with the URL of a line in the editor, where {file} and {line} stand for them.
EDITOR_VARIABLE = "ZTRACE_EDITOR"
#: URL without the variable; terminals leave the program to the desktop.
_DEFAULT = "file://{file}"


def find_line(file: str, line: int) -> str | None:
    """Return the URL of a line, None without a terminal, or if there is no such file on this machine.

    Args:
        file: path in a frame, which came from a service.
        line: number of the line, from 1.
    """
    if not sys.stdout.isatty() or not file.startswith("/") or "\0" in file or not os.path.isfile(file):
        return None
    template = clean(os.environ.get(EDITOR_VARIABLE) or _DEFAULT)
    return template.replace("{file}", quote(file, errors="replace")).replace("{line}", str(line))


class Links:
    """Styles of ids, with links to their views on the page.

    Args:
        page: URL of the page; None to have no links.
    """

    def __init__(self, page: str | None = None) -> None:
        self._page = page

    def trace(self, trace_id: str, style: str = "", span_id: str = "") -> Style:
        """Return the style of the id of a trace, or of one of its spans."""
        return self._link(style, f"trace/{trace_id}{f'?span={span_id}' if span_id else ''}")

    def error(self, group: str, style: str = "") -> Style:
        """Return the style of the id of an exception group."""
        return self._link(style, f"error/{quote(group, safe='')}")

    def _link(self, style: str, path: str) -> Style:
        plain = Style.parse(style)
        return plain if self._page is None else plain + Style(link=f"{self._page}/{path}")


#: Styles without links, as on no terminal.
NO_LINKS = Links()
