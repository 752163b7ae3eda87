"""Cost of a span to the program: ztrace against the OpenTelemetry SDK, as ratios in one run.

    python -m tests.benchmarks.agent

Both record the same trees (a root with four descendants, one attribute each) at a rate that their background
threads can sustain, in bursts that alternate between the two in separate processes. ztrace sends to a real
collector process over TCP; the SDK's BatchSpanProcessor encodes OTLP and discards the bytes, which is less
work
than an exporter has.

- caller: CPU time of the thread that makes the spans (`time.thread_time`).
- process: CPU time of the whole process, background threads included (`time.process_time`).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.processes import start_collector

#: Trees per burst, bursts per round, rounds. A burst stays below the 2048 spans of the SDK's queue.
TREES, BURSTS, ROUNDS = 380, 8, 10
#: Pause after a burst, in which the background threads work.
PAUSE_S = 0.15

#: Required ratios: at most one part in this many of the SDK's figure.
LIMITS = {"caller": 15, "process": 20}


def main() -> None:
    """Run both tracers, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        collector, endpoint = start_collector(Path(folder))
        try:
            workers = {name: start_worker(name, endpoint) for name in ("ztrace", "opentelemetry")}
            rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
            for _ in range(ROUNDS):
                for name, worker in workers.items():
                    rounds[name].append(ask(worker))
            lost = {name: finish(worker) for name, worker in workers.items()}
        finally:
            collector.terminate()
            collector.wait()
    print(f"{'CPU per span':14} {'ztrace':>10} {'SDK':>10} {'ratio':>8} {'limit':>8}")
    for index, (label, limit) in enumerate(LIMITS.items()):
        mine, theirs = (
            statistics.median(figures[index] for figures in rounds[name])
            for name in ("ztrace", "opentelemetry")
        )
        print(f"{label:14} {mine:8.2f}µs {theirs:8.2f}µs {'1/%.1f' % (theirs / mine):>8} {f'1/{limit}':>8}")
    total = 5 * TREES * BURSTS * ROUNDS
    print(f"spans dropped of {total:,}: ztrace {lost['ztrace']:,}, SDK {lost['opentelemetry']:,}")


def start_worker(name: str, endpoint: str) -> subprocess.Popen[str]:
    """Start a process that measures a round for every line it reads."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.agent", name, endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(worker: subprocess.Popen[str]) -> tuple[float, float]:
    """Request one round from a worker; return caller and process CPU per span, in µs."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    print("go", file=worker.stdin, flush=True)
    caller, process = worker.stdout.readline().split()
    return float(caller), float(process)


def finish(worker: subprocess.Popen[str]) -> int:
    """Stop a worker, and return its number of dropped spans."""
    out, _ = worker.communicate()
    return int(out)


def measure(tree: Callable[[], None]) -> tuple[float, float]:
    """Run one round; return caller and process CPU per span, in µs."""
    caller_s = 0.0
    begun_s = time.process_time()
    for _ in range(BURSTS):
        before_s = time.thread_time()
        for _ in range(TREES):
            tree()
        caller_s += time.thread_time() - before_s
        time.sleep(PAUSE_S)
    spans = 5 * TREES * BURSTS
    return caller_s / spans * 1e6, (time.process_time() - begun_s) / spans * 1e6


def work_ztrace(endpoint: str) -> None:
    """Run the worker that traces with ztrace."""
    import ztrace
    from ztrace import agent

    ztrace.configure(service="bench", endpoint=endpoint)

    def tree() -> None:
        with ztrace.span("root", x=1):
            with ztrace.span("a", card="visa"):
                pass
            with ztrace.span("b", card="visa"):
                with ztrace.span("c", card="visa"):
                    pass
                with ztrace.span("d", card="visa"):
                    pass

    serve(tree)
    assert ztrace.flush(10)
    publisher = agent.current_publisher()
    assert publisher is not None
    print(publisher.dropped, flush=True)


def work_opentelemetry(_: str) -> None:
    """Run the worker that traces with the OpenTelemetry SDK."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Encoder(SpanExporter):
        exported = 0

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            encode_spans(spans).SerializeToString()
            self.exported += len(spans)
            return SpanExportResult.SUCCESS

    exporter = Encoder()
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    made = 0

    def tree() -> None:
        nonlocal made
        made += 5
        with tracer.start_as_current_span("root", attributes={"x": 1}):
            with tracer.start_as_current_span("a", attributes={"card": "visa"}):
                pass
            with tracer.start_as_current_span("b", attributes={"card": "visa"}):
                with tracer.start_as_current_span("c", attributes={"card": "visa"}):
                    pass
                with tracer.start_as_current_span("d", attributes={"card": "visa"}):
                    pass

    serve(tree)
    provider.shutdown()
    print(made - exporter.exported, flush=True)


def serve(tree: Callable[[], None]) -> None:
    """Warm up, then measure a round for each line on stdin."""
    measure(tree)
    for _ in sys.stdin:
        print(*measure(tree), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        {"ztrace": work_ztrace, "opentelemetry": work_opentelemetry}[sys.argv[1]](sys.argv[2])
    else:
        main()
