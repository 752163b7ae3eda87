"""The page on a trace of 20,088 calls, and on a profile of 53,000 paths: CPU, elements, memory and bytes.

    python -m tests.benchmarks.page

Needs Chromium and the extra ``browser``. CPU is that of the main thread (TaskDuration by thread ticks), which
does not depend on what else the machine does.
"""

import gzip
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.viewer.page.conftest import BROWSERS
from tests.viewer.stored import NOON, span, store, trace_id
from tests.viewer.web.serving import TOKEN, served
from ztrace_viewer.documents.profile import PathStep, ProfileDocument
from ztrace_viewer.queries.stores.sqlite.store import open_file
from ztrace_viewer.queries.traces import read_arrangement, read_tree
from ztrace_viewer.web.columns import make_columns
from ztrace_viewer.web.paths import make_profile_columns
from ztrace_viewer.web.serving import collect_rarely

FILES = Path(__file__).parents[2] / "viewer/ztrace_viewer/web/page"
#: Calls of the trace, and of a larger one.
CALLS, MANY = 20_088, 100_000
#: Paths of the profile, and the most calls on one.
PATHS, DEEPEST = 53_000, 15
SERVICES = 12
ROUNDS = 5


def main() -> None:
    """Print the figures, each with its aim."""
    collect_rarely()
    total = sum(len(gzip.compress(path.read_bytes())) for path in FILES.iterdir())
    tell("page, compressed", f"{total / 1000:.1f} kB", "60 kB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.db"
        fill(path, 1, CALLS)
        fill(path, 2, MANY)
        read_data(path)
        with served(path) as site:
            measure(site.port)


def tell(what: str, figure: str, aim: str) -> None:
    """Print a figure."""
    print(f"{what:40} {figure:>14}   aim {aim}")


def fill(path: Path, number: int, calls: int) -> None:
    """Store a trace whose calls are four deep below its root."""
    trace = trace_id(number)
    spans = {"root": [span(trace, 1, duration_ms=calls)]}
    for place in range(2, calls + 1):
        parent = 1 if place % 4 == 2 else place - 1
        call = span(
            trace, place, parent, name=f"call{place % 97}", start_ms=place, duration_ms=3 - place % 4 / 2
        )
        spans.setdefault(f"service{place % SERVICES}.{place // 8_000}", []).append(call)
    store(path, spans, at_ns=NOON)


def read_data(path: Path) -> None:
    """Measure the document of the tree, and the time in which it is made."""
    with open_file(path) as db:
        columns = make_columns(trace_id(1), *read_arrangement(db, trace_id(1), time.time_ns()))
    text = json.dumps(columns, ensure_ascii=False, separators=(",", ":"))
    tell("data of the tree", f"{len(text) / 1e6:.2f} MB", "1.1 MB")

    def make(number: int = 1) -> None:
        with open_file(path) as db:
            found = make_columns(trace_id(number), *read_arrangement(db, trace_id(number), time.time_ns()))
        json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    def make_document() -> None:
        with open_file(path) as db:
            read_tree(db, trace_id(1), time.time_ns())

    tell("CPU to make it", f"{1000 * take(make):.0f} ms", "150 ms")
    tell(f"CPU to make that of {MANY:,} calls", f"{1000 * take(lambda: make(2)):.0f} ms", "")
    tell("CPU to read the tree of the terminal", f"{1000 * take(make_document):.0f} ms", "")


def take(work: Callable[[], None]) -> float:
    """Return the median CPU of a few rounds, in seconds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def measure(port: int) -> None:
    """Measure views of the trace in a browser."""
    from playwright.sync_api import sync_playwright

    program = next(each for each in BROWSERS if Path(each).exists())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.new_page().goto(f"http://127.0.0.1:{port}/?token={TOKEN}")
        base = f"http://127.0.0.1:{port}/trace/"
        first = [Meter(context, base + trace_id(1).hex()) for _ in range(ROUNDS)]
        tell("first paint, CPU", f"{statistics.median(each.first_ms for each in first):.0f} ms", "200 ms")
        meter = first[-1]
        page = meter.page
        tell("elements", str(page.evaluate("document.querySelectorAll('*').length")), "400")
        page.evaluate("globalThis.gc?.()")
        tell("memory of scripts", f"{meter.read('JSHeapUsedSize') / 1e6:.1f} MB", "20 MB")
        tell("a frame of scrolling, CPU", f"{meter.frames(scroll):.1f} ms", "8 ms")
        tell("a frame of zooming, CPU", f"{meter.frames(zoom):.1f} ms", "4 ms")
        begin = time.monotonic()
        large = Meter(context, base + trace_id(2).hex())
        wall = time.monotonic() - begin
        tell(f"{MANY:,} calls open", f"{wall:.2f} s", f"1 s ({large.first_ms:.0f} ms of CPU in the browser)")
        measure_profile(context, f"http://127.0.0.1:{port}/profile")
        browser.close()


def measure_profile(context: Any, address: str) -> None:
    """Measure the view of a profile with many paths, whose data are made up."""
    text = json.dumps(make_profile_columns(make_profile()), separators=(",", ":"))
    tell(f"data of {PATHS:,} paths", f"{len(text) / 1e6:.2f} MB", "")
    context.route("**/data/profile*", lambda route: route.fulfill(body=text, content_type="application/json"))
    rounds = [Meter(context, address) for _ in range(ROUNDS)]
    tell("profile shown, CPU", f"{statistics.median(each.first_ms for each in rounds):.0f} ms", "150 ms")
    tell("a frame of zooming a profile, CPU", f"{rounds[-1].frames(zoom_profile):.1f} ms", "6 ms")


def make_profile() -> ProfileDocument:
    """Return a profile with random paths."""
    chance = random.Random(1)
    paths: list[list[PathStep]] = [[{"service": "front", "name": "checkout", "kind": "server"}]]
    while len(paths) < PATHS:
        above = paths[chance.randrange(max(0, len(paths) - PATHS // 6), len(paths))]
        name, service = f"call{chance.randrange(97)}", f"service{chance.randrange(SERVICES)}"
        if len(above) < DEEPEST:
            paths.append([*above, {"service": service, "name": name, "kind": "server"}])
    return {
        "traces": 100,
        "p50_ns": 10**8,
        "p95_ns": 2 * 10**8,
        "unsettled_spans": 0,
        "late_spans": 0,
        "left_out": 0,
        "uncounted": [],
        "paths": [
            {
                "path": path,
                "root_calls": 100,
                "root_ns": 10**10,
                "calls": chance.randrange(1, 300),
                "errors": 0,
                "total_ns": chance.randrange(10**6, 10**9),
                "self_ns": chance.randrange(10**3, 10**7),
                "critical_ns": chance.randrange(10**7),
                "p50_ns": 1_000,
                "p95_ns": 2_000,
                "run_share": None,
                "wait_share": None,
                "stacks": [],
            }
            for path in paths
        ],
    }


#: Scripts that change the view in each of 60 frames.
scroll = "document.querySelector('.rows').scrollBy(0, 300)"
zoom = (
    "document.querySelector('.rows').dispatchEvent(new WheelEvent('wheel',"
    " {ctrlKey: true, deltaY: frame % 2 ? -1 : 1, clientX: 900, cancelable: true}))"
)
zoom_profile = zoom.replace(".rows", ".icicle canvas")


class Meter:
    """Page with the browser's own figures.

    Attributes:
        page: the page.
        first_ms: CPU of the main thread from nothing to the first paint.
    """

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self._session = context.new_cdp_session(self.page)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(address)
        self.page.locator("main[data-state=ready]").wait_for()
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.first_ms = 1000 * self.read("TaskDuration")

    def read(self, name: str) -> float:
        """Return a figure."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in metrics if each["name"] == name))

    def frames(self, script: str, count: int = 60) -> float:
        """Return the CPU of a frame in which a script has changed the view, in milliseconds."""
        begin = self.read("TaskDuration")
        step = f"{script}; await new Promise(requestAnimationFrame);"
        loop = f"for (let frame = 0; frame < {count}; frame++) {{ {step} }}"
        self.page.evaluate(f"(async () => {{ {loop} }})()")
        return 1000 * (self.read("TaskDuration") - begin) / count


if __name__ == "__main__":
    main()
