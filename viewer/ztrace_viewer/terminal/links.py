"""Links on a terminal, by OSC 8: from a frame to its line in the editor."""

import os
import sys
from urllib.parse import quote

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
