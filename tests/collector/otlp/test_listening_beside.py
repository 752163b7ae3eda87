"""OTLP beside ztrace's own publishers, without starvation of either."""

import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import pytest
import requests

from tests.collector.otlp.listeners import DEADLINE_S, count_spans, started
from tests.collector.otlp.requests import make_request, make_span

#: Spans per request, as in an SDK's batch, and number of flooding exporters.
BATCH, FLOODING = 512, 6
#: Publisher that repeatedly ends 40 spans and waits until they are stored.
PUBLISHER = """
import sys, ztrace
ztrace.configure(service="own", endpoint=sys.argv[1])
for number in range(15):
    for _ in range(40):
        with ztrace.span("work"):
            pass
    assert ztrace.flush(timeout_s=5.0), number
ztrace.shutdown()
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_flood_of_otlp_lets_publishers_through(tmp_path: Path) -> None:
    """Each `flush` of a publisher returns within seconds while exporters send at full rate."""
    path = tmp_path / "traces.db"
    numbers, ended, taken = count(1), threading.Event(), []

    def flood(url: str) -> None:
        with requests.Session() as session:
            while not ended.is_set():
                first = BATCH * next(numbers)
                ids = (number.to_bytes(8, "big") for number in range(first, first + BATCH))
                body = make_request(*(make_span(span_id=span_id) for span_id in ids)).SerializeToString()
                headers = {"Content-Type": "application/x-protobuf"}
                answer = session.post(url, body, headers=headers, timeout=DEADLINE_S)
                assert answer.status_code in (200, 503)
                taken.append(answer.status_code == 200)

    with started(path) as collector:
        url = f"{collector.http}/v1/traces"
        threads = [threading.Thread(target=flood, args=(url,)) for _ in range(FLOODING)]
        for thread in threads:
            thread.start()
        try:
            publisher = subprocess.run(
                [sys.executable, "-c", PUBLISHER, collector.endpoint],
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert (publisher.returncode, publisher.stderr) == (0, "")
        assert collector.stop() == ""
    # Exporters were served too, many times each.
    assert sum(taken) > 2 * FLOODING
    assert count_spans(path) == sum(taken) * BATCH + 15 * 40
