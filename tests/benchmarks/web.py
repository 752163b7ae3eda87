"""Response times of Jaeger's query API on five million spans, by requests to ``ztrace web``.

Run by hand: ``python tests/benchmarks/web.py [--spans N] [--hours N] [--db FILE]``. The database is that of
``viewer.py``, or the given one. Each figure is the median of several requests on one connection, with the
file in
the system's cache; queries with a star scan everything, up to their time limit.
"""

import argparse
import http.client
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.viewer import build

TOKEN = "token-of-the-benchmark"
#: Limit of a search by an index, and limit of any search with its request.
LIMIT_S, BOUND_S = 0.050, 2.5
HOUR_S, RUNS = 3600, 9


@contextmanager
def serve(path: Path) -> Iterator[http.client.HTTPConnection]:
    """Run ``ztrace web``, and yield a connection to it."""
    ztrace = Path(sysconfig.get_path("scripts")) / "ztrace"
    process = subprocess.Popen(
        [ztrace, "web", "--db", path, "--listen", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ZTRACE_WEB_TOKEN": TOKEN},
    )
    with process:
        assert process.stderr is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stderr.readline())
        assert found is not None
        with closing(http.client.HTTPConnection("127.0.0.1", int(found[1]))) as connection:
            yield connection
        process.terminate()


def find_end(path: Path) -> tuple[float, str]:
    """Return the start of the last trace in Unix seconds, and its id."""
    with closing(sqlite3.connect(path)) as db:
        trace_id, start_ns = db.execute(
            "SELECT trace_id, start_ns FROM traces ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return start_ns / 1e9, trace_id.hex()


def list_questions(end_s: float, trace_id: str) -> Iterator[tuple[str, str, float]]:
    """Yield the name, path and limit of each query."""

    def search(hours: float, **asked: object) -> str:
        times = {"start": int((end_s - hours * HOUR_S) * 1e6), "end": int(end_s * 1e6), "limit": 20}
        return f"/api/traces?{urlencode({**times, **asked})}"

    def summaries(hours: float, **asked: object) -> str:
        times = {
            "query.startTimeMin": f"{datetime.fromtimestamp(end_s - hours * HOUR_S, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "query.startTimeMax": f"{datetime.fromtimestamp(end_s, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "query.searchDepth": 20,
        }
        return f"/api/v3/trace-summaries?{urlencode({**times, **asked})}"

    one = {"service": "service1", "operation": "method_1"}
    yield "services", "/api/services", LIMIT_S
    yield "operations", "/api/services/service1/operations", LIMIT_S
    yield "trace", f"/api/traces/{trace_id}", LIMIT_S
    yield "trace, version 3", f"/api/v3/traces/{trace_id}", LIMIT_S
    yield "search 1 h", search(1), LIMIT_S
    yield "search 24 h", search(24), LIMIT_S
    yield "search 1 h, service", search(1, service="service1"), LIMIT_S
    yield "search 1 h, operation", search(1, **one), LIMIT_S
    yield "summaries 1 h, service", summaries(1, **{"query.serviceName": "service1"}), LIMIT_S
    yield "summaries 24 h, service", summaries(24, **{"query.serviceName": "service1"}), LIMIT_S
    yield "* summaries 1 h, at least 1 s", summaries(1, **{"query.durationMin": "1s"}), BOUND_S
    yield "* search 24 h, at least 60 s", search(24, minDuration="60s"), BOUND_S
    yield "* search 24 h, no such trace", search(24, service="service3"), BOUND_S
    yield "* search 1 h, no such tag", search(1, tag="a:b", service="service1"), BOUND_S
    yield "* search 24 h, no such tag", search(24, tag="a:b", service="service1"), BOUND_S
    for minutes in (1, 10, 60, 1440):
        query = urlencode({"endTs": int(end_s * 1000), "lookback": minutes * 60_000})
        yield f"* dependencies {minutes} min", f"/api/dependencies?{query}", BOUND_S


def measure(connection: http.client.HTTPConnection, path: str) -> tuple[float, str]:
    """Return the median time of a request, and the note in its response."""
    times: list[float] = []
    note = ""
    while len(times) < RUNS and sum(times) < RUNS:
        begin = time.perf_counter()
        connection.request("GET", path, headers={"X-Ztrace-Token": TOKEN})
        response = connection.getresponse()
        response.read()
        times.append(time.perf_counter() - begin)
        assert response.status == 200, (path, response.status)
        note = response.headers["X-Ztrace-Note"] or ""
    return statistics.median(times), note.partition(" within")[0]


def main() -> int:
    """Build the database, send the requests and print the table; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description="Measure Jaeger's query API.")
    parser.add_argument("--spans", type=int, default=5_000_000)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--db", type=Path, help="a database built by viewer.py")
    arguments = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.db or Path(folder) / "large.db"
        if arguments.db is None:
            build(path, arguments.spans, arguments.hours)
        end_s, trace_id = find_end(path)
        print(f"{'question':<32}{'median':>10}{'limit':>10}")
        with serve(path) as connection:
            for name, target, limit_s in list_questions(end_s, trace_id):
                seconds, note = measure(connection, target)
                missed |= seconds > limit_s
                late = "  MISSED" if seconds > limit_s else ""
                print(f"{name:<32}{seconds * 1000:>7.1f} ms{limit_s * 1000:>7.0f} ms{late}  {note}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
