"""Address of the running page beside the database, and the links of the terminal to the page."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.viewer.commands.test_process import on_terminal
from tests.viewer.conftest import Run
from tests.viewer.stored import span_id, trace_id
from tests.viewer.web.serving import served
from ztrace.addresses import Address
from ztrace_viewer.web.presence import announced, find_page

ADDRESS = Address("127.0.0.1", 4711)
URL = "http://127.0.0.1:4711"


def test_a_page_is_found_while_it_runs(tmp_path: Path) -> None:
    """The address is there for the time of the server, which deletes it; a second server changes nothing."""
    database = tmp_path / "shop.db"
    assert find_page(database) is None
    with announced(database, ADDRESS):
        assert find_page(database) == URL
        with announced(database, Address("127.0.0.1", 4712)):
            assert find_page(database) == URL
        assert find_page(database) == URL
        assert (tmp_path / "shop.db.page").stat().st_mode & 0o777 == 0o600
    assert find_page(database) is None
    assert list(tmp_path.iterdir()) == []
    with announced(database, Address("::1", 4711)):
        assert find_page(database) == "http://[::1]:4711"


def test_an_address_without_its_server_is_stale(tmp_path: Path) -> None:
    """A file that a killed server has left has no lock, and the next one overwrites it."""
    database = tmp_path / "shop.db"
    (tmp_path / "shop.db.page").write_text("http://127.0.0.1:65000000\n")
    assert find_page(database) is None
    with announced(database, ADDRESS):
        assert find_page(database) == URL


@pytest.mark.parametrize(
    "text", ["", "https://example.com:1", "http://127.0.0.1:1\x1b]8;;x", "x" * 1000, "\xff"]
)
def test_only_an_address_of_this_machine_is_taken(tmp_path: Path, text: str) -> None:
    """What another program holds under the name is no address."""
    path = tmp_path / "shop.db.page"
    path.write_text(text)
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert find_page(tmp_path / "shop.db") is None
    finally:
        os.close(descriptor)


def test_a_folder_that_cannot_be_written_has_no_address(tmp_path: Path) -> None:
    """Without a place for the file the server runs all the same."""
    with announced(tmp_path / "missing" / "shop.db", ADDRESS):
        assert find_page(tmp_path / "missing" / "shop.db") is None


@pytest.mark.process
def test_ids_are_links_while_the_page_runs(shop: Path, run: Run, tmp_path: Path) -> None:
    """Ids on a terminal lead to their views, without the token; elsewhere, and without a page, to none."""
    shop = Path(shutil.copy(shop, tmp_path / "own.db"))  # Pages of other tests may serve the file.
    first, group = trace_id(1).hex(), run("errors", "--db", shop).stdout.splitlines()[1].split()[0]
    with served(shop) as site:
        page = f"http://127.0.0.1:{site.port}"
        assert f";{page}/trace/{first}\x1b\\" in on_terminal("slow", "--db", shop)
        assert f";{page}/error/{group}" in on_terminal("errors", "--db", shop)
        shown = on_terminal("show", first, "--span", span_id(7).hex(), "--db", shop)
        assert f";{page}/trace/{first}?span={span_id(7).hex()}\x1b\\" in shown
        assert "token" not in shown
        assert page not in run("slow", "--db", shop).stdout
    assert "\x1b]8" not in on_terminal("slow", "--db", shop)
