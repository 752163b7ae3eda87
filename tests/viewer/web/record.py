"""Recording of Jaeger's answers, by hand: ``python -m tests.viewer.web.record VERSION OTLP QUERY``.

OTLP and QUERY are the URLs of a newly started Jaeger for OTLP over HTTP and for queries. The spans of
`tests.viewer.web.spans` are sent, and each answer's status and document are written to ``recorded/``. VERSION
1
is a Jaeger with all of version 1 of the API, up to 1.76; VERSION 2 is one with summaries, from 2.20 on.
"""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.viewer.web.spans import REQUEST, VERSION_1, VERSION_3, VERSION_3_NEW

RECORDED = Path(__file__).parent / "recorded"
#: Time for Jaeger to index the spans.
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
    """Send the spans over HTTP."""
    body = json.dumps(REQUEST).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/traces", body, headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200, response.status


def record(url: str, questions: dict[str, str]) -> None:
    """Send the queries, and write the answers."""
    RECORDED.mkdir(exist_ok=True)
    for name, path in questions.items():
        status, document = fetch(url + path)
        text = json.dumps({"status": status, "document": document}, indent=1, sort_keys=True)
        (RECORDED / f"{name}.json").write_text(text + "\n")
        print(f"{status} {name}")


def main() -> None:
    """Send the spans, wait, and record the answers."""
    kind, otlp, query = sys.argv[1:]
    send(otlp)
    time.sleep(WAIT_S)
    record(query, {**VERSION_1, **VERSION_3} if kind == "1" else VERSION_3_NEW)


if __name__ == "__main__":
    main()
