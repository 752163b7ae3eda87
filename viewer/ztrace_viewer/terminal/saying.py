"""Lines of messages on standard output and standard error.

One idea: every message is printed here, so no name of a file, a service or a key, and nothing that a peer
has sent, reaches a terminal with characters that it interprets.
"""

import sys

from ztrace_viewer.terminal.characters import clean, clean_lines, escape_json


def say(line: str) -> None:
    """Print a line on standard output."""
    print(clean(line), flush=True)


def write_out(text: str) -> None:
    """Write a text of several lines to standard output, escaped if that is a terminal."""
    sys.stdout.write(escape_json(text) if sys.stdout.isatty() else text)


def complain(line: str) -> None:
    """Print a line on standard error."""
    print(clean(line), file=sys.stderr, flush=True)


def complain_lines(text: str) -> None:
    """Print a text of several lines on standard error."""
    print("\n".join(clean_lines(text)), file=sys.stderr, flush=True)
