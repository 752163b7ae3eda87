"""Server that restarts with each version of its program: a child process serves, and files are watched.

One idea: a new process is the only reload that leaves nothing of the former version behind. The new one
imports the program while the former one still serves. Only if that works, the former one lets its open calls
end, and the new one binds.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ztrace_viewer import lifeline
from ztrace_viewer.interrupts import deferred
from ztrace_viewer.terminal.saying import complain

#: Poll interval of the files.
LOOK_S = 0.3
#: Time for open calls to end, beyond that of the server itself, before a version is killed.
_KILL_S = 15.0
#: Program of a child.
_CHILD = (
    "import sys;"
    "from ztrace_viewer.commands.rpc import reloading, serving;"
    "serving.before_bind = reloading.wait_for_turn;"
    "from ztrace_viewer.entry import main;"
    "sys.exit(main())"
)
#: Variable with the descriptor on which a child says that it has imported the program.
_DESCRIPTOR = "_ZTRACE_RELOADING"
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
    versions: list[_Version] = []
    try:
        while True:
            seen = dict(_list_files(folder))
            versions.append(_Version(command))
            if _has_imported(versions[-1], folder, seen):
                while len(versions) > 1:
                    versions[0].stop()
                    del versions[0]
                versions[0].bind()
            else:
                versions.pop().stop()
            while not (changed := _find_change(folder, seen)):
                time.sleep(LOOK_S)
            complain(f"ztrace: {changed} has changed: restarting")
    finally:
        with deferred():
            for version in versions:
                version.stop()


def wait_for_turn() -> None:
    """Tell the parent that the program is imported, and wait until the former version has ended.

    From then on this process stops when its parent ends.
    """
    with open(int(os.environ.pop(_DESCRIPTOR)), "wb") as ready:
        ready.write(b"1")
    if not os.read(0, 1):
        sys.exit(1)
    lifeline.hold(lambda: os.kill(os.getpid(), signal.SIGTERM))


class _Version:
    """Child process with one version of the program.

    Attributes:
        ready: descriptor that is readable once the child has imported the program, or has ended.
    """

    def __init__(self, command: list[str]) -> None:
        self.ready, theirs = os.pipe()
        try:
            environment = {**os.environ, _DESCRIPTOR: str(theirs)}
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=(theirs,), env=environment
            )
        finally:
            os.close(theirs)

    def bind(self) -> None:
        """Have the child bind its address and serve."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"1")
            self._process.stdin.flush()

    def stop(self) -> None:
        """Stop the child once its open calls have ended, and kill one that does not end."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.ready)
        assert self._process.stdin is not None
        self._process.stdin.close()


def _has_imported(version: _Version, folder: Path, seen: dict[str, tuple[int, int]]) -> bool:
    """Wait until a child has imported the program; return False if it cannot, or is out of date by then."""
    while not select.select([version.ready], [], [], LOOK_S)[0]:
        if _find_change(folder, seen):
            return False
    return bool(os.read(version.ready, 1))


def _find_change(folder: Path, seen: dict[str, tuple[int, int]]) -> str:
    """Return the name of a file that differs from what was seen, empty if there is none."""
    now = dict(_list_files(folder))
    differing = sorted(name for name in now.keys() | seen if now.get(name) != seen.get(name))
    return os.path.relpath(differing[0], folder) if differing else ""


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
