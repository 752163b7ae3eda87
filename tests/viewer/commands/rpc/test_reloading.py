"""``ztrace rpc serve --reload`` while it is called."""

import threading
from functools import partial
from operator import contains
from pathlib import Path

import pytest

from tests.viewer.commands.rpc.test_rpc import DEADLINE_S, started
from tests.ztrace.waiting import wait_for
from ztrace import rpc

#: Module whose functions return its version.
MODULE = """
import asyncio, pathlib


def version():
    return {version}


async def version_later(marker):
    pathlib.Path(marker).touch()
    await asyncio.sleep(1.5)  # Longer than a change of a file goes unnoticed.
    return {version}
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_reload_under_load_loses_no_call(tmp_path: Path) -> None:
    """A call that runs while the program changes ends in the old version, later ones get the new one."""
    module = tmp_path / "shop.py"

    def write(version: int) -> None:
        (tmp_path / "next").write_text(MODULE.format(version=version))
        (tmp_path / "next").rename(module)

    write(1)
    # A fixed address, since the next version has to be at that of the last one.
    bind = f"ipc://{tmp_path}/shop"
    versions: list[int] = []
    errors: list[BaseException] = []
    ended = threading.Event()
    with started(tmp_path, "rpc", "serve", "shop", "--bind", bind, "--reload") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"shop at {bind}: version, version_later\n"
        with rpc.Client(bind, timeout_s=DEADLINE_S) as client:

            def work() -> None:
                while not ended.is_set():
                    try:
                        versions.append(client.version())
                    except Exception as error:
                        errors.append(error)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for version in (1, 2):
                marker = tmp_path / f"running-{version}"
                running = client.submit("version_later", str(marker))
                wait_for(marker.exists)
                write(version + 1)
                assert process.stderr.readline() == "ztrace: shop.py has changed: restarting\n"
                assert running.result(DEADLINE_S) == version
                assert process.stderr.readline().startswith("shop at ")
                wait_for(partial(contains, versions, version + 1))
            ended.set()
            for thread in threads:
                thread.join()
        assert errors == []
        assert set(versions) == {1, 2, 3}
        process.terminate()
        assert process.wait(DEADLINE_S) == 143
