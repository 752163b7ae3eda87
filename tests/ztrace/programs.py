"""Python programs run in their own processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ztrace.waiting import DEADLINE_S

#: Root of the checkout, from which ``ztrace`` is imported.
ROOT = Path(__file__).parents[2]

#: Start of a program whose publisher beats, retries and reports open spans in milliseconds, not seconds.
QUICK = """
from ztrace.publishing import publisher, retrying, unfinished, worker
worker.BEAT_S = retrying.RETRY_S = publisher.RETRY_S = 0.05
unfinished.AGE_NS = 200_000_000
"""
#: Start of a program that delivers its last spans at its exit however busy the machine is.
PATIENT = """
from ztrace import agent
from ztrace.publishing import worker
agent.EXIT_TIMEOUT_S = worker.UNREACHED_S = 600
"""
#: Start of a program that has no collector, and gives up on it at once.
ALONE = """
from ztrace.publishing import worker
worker.UNREACHED_S = 0.1
"""

#: Warnings are errors, except Python 3.12's about forking a multi-threaded process: a traced process has
#: threads.
_PYTHON = [sys.executable, "-W", "error", "-W", "ignore:This process"]


def run_program(
    code: str, *arguments: str, expect: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python code to its end, and assert its exit status."""
    return _run("-c", code, *arguments, expect=expect, environment=environment)


def run_script(
    path: Path, code: str, *arguments: str, expect: int = 0, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Write a script, run it to its end, and assert its exit status."""
    path.write_text(code)
    return _run(str(path), *arguments, expect=expect, environment=environment)


@contextmanager
def started_program(code: str, *arguments: str, **environment: str) -> "Iterator[subprocess.Popen[str]]":
    """Start Python code, and yield its process after the first line of output; kill it at the end."""
    process = subprocess.Popen(
        [*_PYTHON, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(environment),
    )
    with process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                process.kill()
                raise AssertionError(process.communicate()[1])
            yield process
        finally:
            process.kill()


def _run(*arguments: str, expect: int, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*_PYTHON, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=_environment(environment),
    )
    assert done.returncode == expect, done.stderr
    return done


def _environment(added: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZTRACE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **added}
