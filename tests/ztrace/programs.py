"""Programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.ztrace.waiting import DEADLINE_S

#: The checkout, where ``ztrace`` can be imported from.
ROOT = Path(__file__).parents[2]

#: Warnings are errors, but for Python 3.12's about forking a process that has threads, as a traced one has.
_PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process"]


def run_program(
    code: str, *arguments: str, expect: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python code to its end; see that its exit status is the expected one."""
    return _run("-c", code, *arguments, expect=expect, environment=environment)


def run_script(
    path: Path, code: str, *arguments: str, expect: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Write a script and run it to its end; see that its exit status is the expected one."""
    path.write_text(code)
    return _run(str(path), *arguments, expect=expect, environment=environment)


def _run(*arguments: str, expect: int, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    done = subprocess.run(
        [*_PYTHON, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == expect, done.stderr
    return done
