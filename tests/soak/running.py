"""A soak: services that call, fail, are killed and reloaded, readers, and a collector that is watched."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from tests.faults.stage import COMMAND, DEADLINE_S, Stage, wait_for
from tests.ports import find_port
from tests.soak.watching import Sample, look_at, look_at_files

#: Orders a second: some hundred spans a second in all.
RATE = 40
#: Interval of samples, of reloaded jobs, of kills of a service, and of commands that read.
SAMPLE_S, JOB_S, KILL_S, COMMAND_S = 5.0, 3.0, 20.0, 15.0
#: Pause between two requests to the page.
READ_S = 0.3

_TOKEN = "soak" * 6
_PATHS = (
    "/api/services",
    "/api/traces?service=shop&lookback=1h&limit=50",
    "/api/traces?service=stock&tags=%7B%22error%22%3A%22true%22%7D",
    "/api/v3/trace-summaries?query.serviceName=shop&query.searchDepth=100"
    "&query.startTimeMin=2020-01-01T00:00:00Z&query.startTimeMax=2100-01-01T00:00:00Z",
    "/api/dependencies?endTs={now}&lookback=3600000",
)


class Soak:
    """Processes of a soak, all of which end with their stage.

    Attributes:
        answered: requests to the page that were answered, and that were not.
        killed: services killed.
        jobs: short processes run.
        commands: commands run.
    """

    def __init__(self, stage: Stage) -> None:
        self.answered = [0, 0]
        self.killed = self.jobs = self.commands = 0
        self._stage = stage
        folder = stage.folder / "data"
        folder.mkdir()
        self.database = folder / "soak.db"
        self._bind = f"tcp://127.0.0.1:{find_port()}"
        self._page = find_port()
        self._stock, self._shop = (f"tcp://127.0.0.1:{find_port()}" for _ in range(2))
        self._log = stage.name("collector")
        self.collector = stage.start(
            "-c",
            COMMAND,
            *("up", "--db", str(self.database), "--bind", self._bind, "--keep", "1h", "--max-size", "100MB"),
            *("--otlp-listen", "off", "--web-listen", f"127.0.0.1:{self._page}"),
            log=self._log,
            environment={"ZTRACE_WEB_TOKEN": _TOKEN},
        )
        wait_for(lambda: self._ask(_PATHS[0]) or self.collector.poll() is not None, "the page answers")
        assert self.collector.poll() is None, self._log.read_text()
        # A cache that fills up for longer than the soak lasts could not be told from a leak.
        flood = self._serve("flood", "-")
        assert flood.wait(DEADLINE_S) == 0
        stage.forget(flood)
        self.stock = self._serve("stock", self._stock)
        self.shop = self._serve("shop", self._shop, self._stock)
        self._serve("customer", self._shop, "", str(RATE))

    def run(self, seconds: float, show: Callable[[Sample], None]) -> list[Sample]:
        """Run the load, and return the samples."""
        samples: list[Sample] = []
        begun_s = time.monotonic()
        next_s = dict.fromkeys(("sample", "job", "kill", "command"), begun_s)
        job: subprocess.Popen[str] | None = None
        with self._reading():
            while (now_s := time.monotonic()) < begun_s + seconds:
                if now_s >= next_s["sample"]:
                    next_s["sample"] += SAMPLE_S
                    samples.append(self._look(now_s - begun_s))
                    show(samples[-1])
                if now_s >= next_s["job"] and (job is None or job.poll() is not None):
                    next_s["job"] = now_s + JOB_S
                    job = self._reload(job)
                if now_s >= next_s["kill"] + KILL_S:
                    next_s["kill"] = now_s
                    self._kill()
                if now_s >= next_s["command"]:
                    next_s["command"] = now_s + COMMAND_S
                    self._command()
                time.sleep(0.1)
        return samples

    def stop(self) -> float:
        """End the collector, and return the seconds it took."""
        begun_s = time.monotonic()
        self.collector.terminate()
        assert self.collector.wait(DEADLINE_S) == 0, self._log.read_text()
        return time.monotonic() - begun_s

    def _look(self, at_s: float) -> Sample:
        children = Path(f"/proc/{self.collector.pid}/task/{self.collector.pid}/children").read_text().split()
        pids = {"collector": self.collector.pid, "page": int(children[0]), "program": self.shop.pid}
        return Sample(at_s, {name: look_at(pid) for name, pid in pids.items()}, *look_at_files(self.database))

    def _serve(self, *arguments: str) -> "subprocess.Popen[str]":
        return self._stage.start("-m", "tests.soak.service", *arguments, environment=self._environment())

    def _environment(self) -> dict[str, str]:
        return {"ZTRACE_ENDPOINT": self._bind}

    def _reload(self, job: "subprocess.Popen[str] | None") -> "subprocess.Popen[str]":
        if job is not None:
            self.jobs += 1
            self._stage.forget(job)
        return self._serve("job", "-")

    def _kill(self) -> None:
        """Kill a service within its calls, and start it again."""
        os.killpg(self.stock.pid, signal.SIGKILL)
        self.stock.wait(DEADLINE_S)
        self._stage.forget(self.stock)
        self.killed += 1
        self.stock = self._serve("stock", self._stock)

    def _command(self) -> None:
        database = str(self.database)
        for command in (("status",), ("slow",), ("errors",), ("export", "--limit", "200", "-o", os.devnull)):
            self._stage.command(*command, "--db", database)
            self.commands += 1

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Ask the page all the time, in a thread."""
        ending = threading.Event()

        def read() -> None:
            while not ending.is_set():
                for path in _PATHS:
                    self.answered[not self._ask(path.format(now=time.time_ns() // 10**6))] += 1
                    ending.wait(READ_S)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield
        finally:
            ending.set()
            reader.join(DEADLINE_S)

    def _ask(self, path: str) -> bool:
        request = Request(f"http://127.0.0.1:{self._page}{path}", headers={"X-Ztrace-Token": _TOKEN})
        with suppress(OSError), urlopen(request, timeout=DEADLINE_S) as answer:
            answer.read()
            return True
        return False
