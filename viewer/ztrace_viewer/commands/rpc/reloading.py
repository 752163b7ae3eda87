"""Server that restarts with each version of its program: a child process serves, and files are watched.

One idea: a new process is the only reload that leaves nothing of the former version behind. The former one
lets its open calls end before the new one binds.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ztrace_viewer.interrupts import deferred
from ztrace_viewer.terminal.saying import complain

#: Poll interval of the files.
LOOK_S = 0.3
#: Time for open calls to end, beyond that of the server itself, before a version is killed.
_KILL_S = 15.0
#: Program of a child, which stops when its parent ends.
_CHILD = (
    "import os, signal, sys;"
    "from ztrace_viewer import lifeline;"
    "lifeline.hold(lambda: os.kill(os.getpid(), signal.SIGTERM));"
    "from ztrace_viewer.entry import main;"
    "sys.exit(main())"
)
#: Folders without files of the program.
_SKIPPED = ("__pycache__", "node_modules", "site-packages")


def serve_versions(target: str, endpoint: str, keys: Path | None, *, unsafe: bool) -> None:
    """Serve in a child process, and replace it each time a Python file below the current folder changes.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the child has ended.
    """
    arguments = ["rpc", "serve", target, f"--bind={endpoint}"]
    options = [*([f"--keys={keys}"] if keys is not None else []), *(["--unsafe"] if unsafe else [])]
    command = [sys.executable, "-c", _CHILD, *arguments, *options]
    folder = Path.cwd()
    while True:
        seen = dict(_list_files(folder))
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            try:
                changed = _wait_for_change(folder, seen)
            finally:
                with deferred():
                    _stop(child)
        complain(f"ztrace: {changed} has changed: restarting")


def _wait_for_change(folder: Path, seen: dict[str, tuple[int, int]]) -> str:
    """Return the name of a file that differs from what was seen, once there is one."""
    while True:
        time.sleep(LOOK_S)
        now = dict(_list_files(folder))
        if differing := sorted(name for name in now.keys() | seen if now.get(name) != seen.get(name)):
            return os.path.relpath(differing[0], folder)


def _list_files(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the Python files below a folder, with their time of change and size."""
    for place, folders, names in os.walk(folder):
        folders[:] = [
            each
            for each in folders
            if each[0] != "." and each not in _SKIPPED and not Path(place, each, "pyvenv.cfg").exists()
        ]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(place, name)
                try:
                    found = os.stat(path)
                except OSError:
                    continue  # Deleted meanwhile.
                yield path, (found.st_mtime_ns, found.st_size)


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """Stop a version once its open calls have ended, and kill one that does not end."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_KILL_S)
    except subprocess.TimeoutExpired:
        child.kill()
