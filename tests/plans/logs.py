"""Logs of the processes: what each was asked, whom it called, and how both ended."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Log:
    """Log of one process; each line is a single write, so threads do not mix their lines."""

    def __init__(self, folder: Path, service: str) -> None:
        self.service = service
        path = folder / f"{service}-{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, event: str, token: str, **more: Any) -> None:
        """Write an event of the work or call with a token."""
        line = json.dumps({"event": event, "token": token, "service": self.service, **more})
        os.write(self._file, line.encode() + b"\n")


def read_logs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of all processes, those of a process in order."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)
