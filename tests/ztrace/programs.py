"""Programs in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.ztrace.waiting import DEADLINE_S

#: The checkout, where ``ztrace`` can be imported from.
ROOT = Path(__file__).parents[2]


def run_program(
    code: str, *arguments: str, expect: int | None = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python code to its end, with warnings as errors; see that its exit status is the expected one."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=ROOT,
        env=_environment(environment),
    )
    assert done.returncode == expect, done.stderr
    return done


def run_script(
    path: Path, code: str, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Write a script and run it to its successful end."""
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=_environment(environment),
    )
    assert done.returncode == 0, done.stderr
    return done


def _environment(changes: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}
