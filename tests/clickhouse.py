"""Plugin of the tests with the marker `scale`: a ClickHouse engine, and a database of it for each test.

One idea: an engine takes a second to start and half a gigabyte, so the tests of a process share one, and each
has its own database. A test that kills the engine starts its own with `Engine`.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

_ROOT = Path(__file__).parents[1]
_numbers = itertools.count()


class Engine:
    """ClickHouse engine over HTTP on a folder, in a process of its own; ended at the end of a ``with`` block.

    Attributes:
        folder: where its data are.
        port: where it listens; the same after a restart.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the engine, on the port that it had before, and wait until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chdb_server", str(self.folder), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "TMPDIR": tempfile.gettempdir()},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "chdb did not start: is the extra 'scale' installed?"
        self.port = int(line)

    def kill(self) -> None:
        """Kill the engine, if it runs."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    @property
    def pid(self) -> int:
        """Process id of the engine, while it runs."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """Return the address of a database, as ztrace's options take it."""
        return f"clickhouse://127.0.0.1:{self.port}/{database}"

    def query(self, text: str, database: str = "default") -> str:
        """Run a query outside of ztrace, and return its result as tab-separated text."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/?database={database}", data=text.encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Return the engine that the tests of this process share."""
    with (
        tempfile.TemporaryDirectory(prefix="chdb-", ignore_cleanup_errors=True) as folder,
        Engine(Path(folder)) as started,
    ):
        yield started


@pytest.fixture
def database(engine: Engine) -> Iterator[str]:
    """Return the name of a new database without tables, dropped after the test."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    engine.query(f"CREATE DATABASE {name}")
    yield name
    engine.query(f"DROP DATABASE {name}")
