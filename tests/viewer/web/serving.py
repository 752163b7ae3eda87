"""Server process, and requests to it."""

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.viewer.commands.test_process import MAIN, environment

#: Deadline of a process on a busy machine.
DEADLINE_S = 60
TOKEN = "token-of-the-tests"
#: Main program whose searches end however busy the machine is.
_PATIENT = f"from ztrace_viewer.web import asking; asking.SEARCH_S = asking.ANSWER_S = {DEADLINE_S}; {MAIN}"


@dataclass(frozen=True)
class Answer:
    """Response to a request."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def document(self) -> Any:
        """JSON document of the body."""
        assert self.headers["Content-Type"] == "application/json"
        return json.loads(self.text)


@dataclass(frozen=True)
class Site:
    """Running server.

    Attributes:
        line: its announcement.
    """

    process: "subprocess.Popen[str]"
    line: str
    port: int
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Ztrace-Token": TOKEN})

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, host: str = ""
    ) -> Answer:
        """Send one request, with the token unless other headers are given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            for name, value in (self.headers if headers is None else headers).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the document of a successful response."""
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return answer.document


@contextmanager
def served(database: Path | str, *arguments: str, **changes: str) -> Iterator[Site]:
    """Run ``ztrace web``, and assert that it ends cleanly on Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PATIENT, "web", "--db", str(database), "--listen", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**{"ZTRACE_WEB_TOKEN": TOKEN, **changes}),
    )
    with process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+);", line)
            assert found, line + process.stderr.read()
            yield Site(process, line, int(found[1]), {"X-Ztrace-Token": found[2]})
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE_S) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
