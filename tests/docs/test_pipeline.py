"""Tutorial of the pipeline, run as printed."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.test_examples import ZTRACE, bench, outline, printed
from tests.ztrace.waiting import wait_for

pytestmark = [pytest.mark.process, pytest.mark.slow]

PAGE = "tutorial-pipeline.md"


def test_pipeline(tmp_path: Path) -> None:
    """The reports and the tree are those that the page shows, also while a worker is killed."""
    with bench(tmp_path) as shell:
        shell.save(["work.py", "report.py"], PAGE)
        for number in range(1, 7):
            (tmp_path / f"{number}.txt").write_text(f"the cat and the dog saw the bird number {number}\n")
        shell.collect()
        workers = [shell.serve("work.py") for _ in range(2)]
        for files in ("1.txt nothing.txt", "1.txt 2.txt 3.txt 4.txt 5.txt 6.txt"):
            assert shell.run("report.py", *files.split()) == printed(PAGE, f"python report.py {files}")
        shell.wait_for_spans(6 + 13)
        failed, complete = sorted(shell.trees(), key=lambda tree: tree["span_count"])
        assert outline(failed["roots"]) == [
            "internal report.report ok",
            "  producer report.count ok",
            "    consumer work.count ok",
            "  producer report.count ok",
            "    consumer work.count error",
            "    consumer work.count error",
        ]
        assert complete["span_count"] == 13
        for worker in workers:
            worker.terminate()
            assert worker.wait() == 0
        found = re.search(r"tcp://[0-9.:]+", shell.read("report.py"))
        assert found is not None
        queue = ["-c", ZTRACE, "rpc", "queue", found[0]]
        page = "ztrace rpc queue tcp://127.0.0.1:4300"
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(shell.run, "report.py", "2.txt")
            wait_for(lambda: len(shell.run(*queue, "list")) == 3)
            shown = [re.split(" {2,}", line)[1:4] for line in shell.run(*queue, "list")]
            assert shown == [re.split(" {2,}", line)[1:4] for line in printed(PAGE, f"{page} list")]
            (tmp_path / "nothing.txt").write_text("something\n")
            assert shell.run(*queue, "retry") == printed(PAGE, f"{page} retry")
            workers = [shell.serve("work.py") for _ in range(2)]
            assert report.result() == ["the 3", "cat 1", "and 1"]
        files = "1.txt 2.txt 3.txt 4.txt 5.txt 6.txt 1.txt 2.txt 3.txt 4.txt"
        spool = tmp_path / "jobs.spool"
        spool.unlink()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(shell.run, "report.py", *files.split())
            wait_for(spool.exists)
            workers[0].kill()
            assert report.result() == printed(PAGE, f"python report.py {files}")
