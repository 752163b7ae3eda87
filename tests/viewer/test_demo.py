"""The demo as a user runs it: real processes, twice at the same time, interrupted and killed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("zerorpc")

#: Longer than anything takes: reached only by a failure.
DEADLINE_S = 60
#: Carried by a demo and by all it starts, to find them by.
MARKER = "DEMO_TEST_MARKER"


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return the condition's result once it is true."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < deadline_s, "timed out"
        time.sleep(0.01)
    return result


@dataclass
class Demo:
    """A running ``ztrace demo`` with a temporary folder of its own."""

    process: subprocess.Popen[str]
    marker: str
    temporary: Path

    def read_until(self, words: str) -> None:
        """Read standard error up to a line."""
        assert self.process.stderr is not None
        while words not in (line := self.process.stderr.readline()):
            assert line, f"ended before {words!r}"

    def family(self) -> set[int]:
        """Return the pids of the demo and of the processes it started, as far as they live."""
        return {
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and self.marker.encode() in _read(folder / "environ")
        }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def start_demo(tmp_path: Path, *arguments: str, path: Path | None = None) -> Iterator[Demo]:
    """Run the command; nothing of it survives the block."""
    marker = uuid.uuid4().hex
    # Sockets have short paths, which pytest's folders are not.
    temporary = Path("/tmp", f"zd-{marker[:12]}")
    temporary.mkdir()
    environment = {**os.environ, MARKER: marker, "TMPDIR": str(temporary), "COLUMNS": "120"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    with subprocess.Popen(
        [sys.executable, "-m", "ztrace_viewer.entry", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    ) as process:
        demo = Demo(process, marker, temporary)
        try:
            yield demo
        finally:
            for pid in demo.family():
                os.kill(pid, signal.SIGKILL)
