"""Tutorial of the pipeline, run as printed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs.test_examples import bench, outline, printed
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
        files = "1.txt 2.txt 3.txt 4.txt 5.txt 6.txt 1.txt 2.txt 3.txt 4.txt"
        spool = tmp_path / "jobs.spool"
        spool.unlink()
        with ThreadPoolExecutor(1) as pool:
            report = pool.submit(shell.run, "report.py", *files.split())
            wait_for(spool.exists)
            workers[0].kill()
            assert report.result() == printed(PAGE, f"python report.py {files}")
