"""Record what Jaeger answers, by hand: ``python -m tests.viewer.web.record VERSION OTLP QUERY``.

OTLP is where a Jaeger that has just been started takes OTLP over HTTP, and QUERY where it answers. The spans
of `tests.viewer.web.spans` are sent, and each answer is written to ``recorded/``, status and document.
VERSION 1 is a Jaeger that has the whole of version 1 of the API, as up to 1.76; 2 one that has summaries, as
from 2.20 on.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.viewer.web.spans import REQUEST, VERSION_1, VERSION_3, VERSION_3_NEW

RECORDED = Path(__file__).parent / "recorded"
#: For what was sent to be found.
WAIT_S = 1.0


def fetch(url: str) -> tuple[int, object]:
    """Return an answer's status and document."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text.decode()


def send(url: str) -> None:
    """Send the spans."""
    body = json.dumps(REQUEST).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/traces", body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200, response.status


def record(url: str, questions: dict[str, str]) -> None:
    """Ask, and write what is answered."""
    RECORDED.mkdir(exist_ok=True)
    for name, path in questions.items():
        status, document = fetch(url + path)
        text = json.dumps({"status": status, "document": document}, indent=1, sort_keys=True)
        (RECORDED / f"{name}.json").write_text(text + "\n")
        print(f"{status} {name}")


def main() -> None:
    """Send, wait, record."""
    kind, otlp, query = sys.argv[1:]
    send(otlp)
    time.sleep(WAIT_S)
    record(query, {**VERSION_1, **VERSION_3} if kind == "1" else VERSION_3_NEW)


if __name__ == "__main__":
    main()
