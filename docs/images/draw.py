"""Draw the README's pictures from a run of the demo.

python docs/images/draw.py
"""

import io
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType

from ztrace_viewer.documents.exceptions import Frame
from ztrace_viewer.queries.groups import list_groups
from ztrace_viewer.queries.selection import Selection
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import list_slowest, read_tree
from ztrace_viewer.queries.way import read_error
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.error import draw_error
from ztrace_viewer.terminal.screen import write
from ztrace_viewer.trees.tree import walk

#: What the pictures do not show of file names.
ROOT = Path(__file__).parents[2]
#: Columns, and lines of the tree: what fits a page of documentation.
WIDTH, LINES = 100, 40


def main() -> None:
    """Run the demo, draw its slowest tree and the error with the longest way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        command = [str(Path(sys.executable).with_name("ztrace")), "demo", "--seconds", "3", "--db", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with open_file(path) as db:
            draw("show", *show_slowest(db))
            draw("error", *show_error(db))


def show_slowest(db: sqlite3.Connection) -> Iterator[RenderableType]:
    """Return what `ztrace show` prints of the slowest trace."""
    trace = list_slowest(db, Selection(), 1)["traces"][0]
    tree = read_tree(db, bytes.fromhex(trace["trace_id"]))
    for span, _ in walk(tree["roots"]):
        make_general(span["exception"]["frames"] if span["exception"] else [])
    return draw_tree(tree, WIDTH, LINES, time.time_ns())


def show_error(db: sqlite3.Connection) -> Iterator[RenderableType]:
    """Return what `ztrace error` prints of the error with the longest way."""
    errors = [read_error(db, group["group"]) for group in list_groups(db, Selection())["groups"]]
    error = max(errors, key=lambda error: len(error["hops"]))
    make_general(error["exception"]["frames"] if error["exception"] else [])
    for hop in error["hops"]:
        make_general(hop["frames"])
        hop["instance"]["host"] = "box"
    return draw_error(error, WIDTH, time.time_ns())


def make_general(frames: list[Frame]) -> None:
    """Let files be where anybody's may be."""
    for frame in frames:
        frame["file"] = frame["file"].replace(str(ROOT / "viewer" / "ztrace_viewer" / "demo"), "/srv/shop")


def draw(name: str, *parts: RenderableType) -> None:
    """Write a picture beside this file; its fonts are the reader's own."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    write(console, *parts)
    picture = console.export_svg(title=f"ztrace {name}")
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (Path(__file__).parent / f"{name}.svg").write_text(picture)


if __name__ == "__main__":
    main()
