"""``ztrace open`` with a real page."""

import socket
import webbrowser
from pathlib import Path

import pytest

from tests.viewer.conftest import Run
from tests.viewer.stored import trace_id
from tests.viewer.web.serving import TOKEN, served

FIRST = trace_id(1).hex()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of addresses that the browser is told to open."""
    urls: list[str] = []
    monkeypatch.setenv("ZTRACE_WEB_TOKEN", TOKEN)
    monkeypatch.setattr(webbrowser, "open", urls.append)
    return urls


@pytest.mark.process
def test_the_page_is_opened_at_a_trace_and_at_an_error(
    run: Run, shop: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address has the whole id and the token; a page of another database is told."""
    with served(shop) as site:
        address = f"127.0.0.1:{site.port}"
        for place, path in (((), "/"), ((FIRST[:16],), f"/trace/{FIRST}")):
            result = run("open", *place, "--db", shop, "--listen", address)
            assert (result.exit_code, result.stderr) == (0, "")
            assert result.stdout == f"http://{address}{path}?token={TOKEN}\n"
        group = run("errors", "--db", shop).stdout.splitlines()[1].split()[0]
        assert run("open", group, "--db", shop, "--listen", address).exit_code == 0
        # Arguments of a browser can be read by others, and so have no token.
        way = shop.with_name("shop.db.open.html")
        assert opened == [way.as_uri()] * 3
        assert f"url=http://{address}/error/{group}" in way.read_text()
        assert way.stat().st_mode & 0o777 == 0o600
        assert site.ask(f"/trace/{FIRST}?token={TOKEN}").headers["Location"] == f"/trace/{FIRST}"
        monkeypatch.setenv("ZTRACE_WEB_TOKEN", "token-of-another-database")
        result = run("open", "--db", shop, "--listen", address)
        assert result.exit_code == 2
        assert result.stderr == f"ztrace: the page at {address} is of another database; give it with --db\n"


def test_what_cannot_be_opened_is_one_line(run: Run, shop: Path, opened: list[str]) -> None:
    """An unknown id, and an address without a page, are told on one line, and no browser is started."""
    result = run("open", "abcdef", "--db", shop)
    assert result.exit_code == 1
    assert result.stderr.startswith("ztrace: no trace and no error begins with abcdef; see")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        result = run("open", "--db", shop, "--listen", f"127.0.0.1:{free.getsockname()[1]}")
    assert result.exit_code == 2
    assert "start 'ztrace up' or 'ztrace web" in result.stderr
    assert result.stderr.count("\n") == 1
    assert opened == []
