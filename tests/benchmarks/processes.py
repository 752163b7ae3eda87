"""Collector process for benchmarks."""

import subprocess
import sys
from pathlib import Path


def start_collector(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a collector process; return the process and its endpoint."""
    code = """
import pathlib, sys
from ztrace_collector.service import Options, collect
path = pathlib.Path(sys.argv[1])
collect(Options("tcp://127.0.0.1:0", path), ready=lambda endpoint: print(endpoint, flush=True))
"""
    command = [sys.executable, "-c", code, str(folder / "bench.db")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()
