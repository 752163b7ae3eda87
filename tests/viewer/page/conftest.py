"""A browser, and servers of the demo's data and of hostile names."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.commands.test_process import MAIN, environment
from tests.viewer.web.serving import TOKEN, Site, served

#: Programs of Debian and others that are a Chromium.
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
#: Time for a view to appear, in milliseconds.
DEADLINE_MS = 20_000

Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Yield a browser; without one the tests fail."""
    from playwright.sync_api import sync_playwright

    program = next((each for each in BROWSERS if Path(each).exists()), None)
    assert program, "these tests need Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the database of a demo."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    subprocess.run(
        [sys.executable, "-c", MAIN, "demo", "--seconds", "4", "--db", str(path)],
        check=True,
        capture_output=True,
        timeout=120,
        env=environment(),
    )
    return path


@pytest.fixture(scope="session")
def shown(demo: Path) -> Iterator[Site]:
    """Yield a server of the demo's data."""
    with served(demo) as site:
        yield site


@contextmanager
def opened(browser: Any, site: Site, *, scheme: str = "light", messages: bool = False) -> Iterator[Any]:
    """Yield a page of the browser with the token; at the end it must have reported nothing.

    Args:
        browser: the browser.
        site: the server.
        scheme: light or dark.
        messages: the page may report failed requests.
    """
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(DEADLINE_MS)
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    try:
        page.goto(f"http://127.0.0.1:{site.port}/?token={TOKEN}")
        wait_until_ready(page)
        yield page
        assert messages or told == []
    finally:
        context.close()


def visit(page: Any, path: str) -> None:
    """Open a path, and wait for its view."""
    base = re.match(r"https?://[^/]+", page.url)
    assert base
    page.goto(base[0] + path)
    wait_until_ready(page)


def wait_until_ready(page: Any) -> None:
    """Wait until a view is shown."""
    page.locator("main[data-state=ready]").wait_for()
