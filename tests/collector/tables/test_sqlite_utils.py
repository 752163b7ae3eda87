"""sqlite-utils without the large packages that it imports where they are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ztrace.programs import ROOT


@pytest.mark.process
def test_the_collector_imports_no_pandas(tmp_path: Path) -> None:
    """Neither pandas nor numpy is imported with the database's code; a program can import them then."""
    for name in ("pandas", "numpy"):
        (tmp_path / f"{name}.py").write_text("print('imported', __name__)")
    code = (
        "import ztrace_collector.storing.database\n"
        "print('then')\n"
        "import pandas, numpy, ztrace_collector.tables.sqlite_utils as ours, sqlite_utils\n"
        "assert ours.Database is sqlite_utils.Database"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / "collector"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.stdout.split("\n")[:-1], done.stderr) == (
        ["then", "imported pandas", "imported numpy"],
        "",
    )
