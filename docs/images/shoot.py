"""Draw the pictures of the page in ``docs/images/page``, from a demo, in a real browser.

    .venv/bin/pip install -e '.[browser]'; .venv/bin/python docs/images/shoot.py

One idea: each view is opened in both themes at the size of a laptop's screen, on the data of one demo.
"""

import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "page"
ZTRACE = Path(sys.executable).with_name("ztrace")
BROWSER = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 800}
#: Long enough for trends, which go by minutes.
DEMO_S = 200


def main() -> None:
    """Run a demo, serve its data, and write a picture of each view."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "shop.db")
        subprocess.run([ZTRACE, "demo", "--seconds", str(DEMO_S), "--db", database], check=True)
        _hide_place(database)
        server = subprocess.Popen(
            [ZTRACE, "web", "--db", database, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
        )
        assert server.stderr is not None
        try:
            url = server.stderr.readline().partition("http://")[2].partition(";")[0]
            _shoot_all(f"http://{url.partition('/')[0]}", url.partition("token=")[2])
        finally:
            server.terminate()
            server.wait()
            server.stderr.close()


def _hide_place(database: str) -> None:
    """Leave out where this clone is."""
    with closing(sqlite3.connect(database)) as db, db:
        for table, column in (
            ("exceptions", "frames"),
            ("exceptions", "causes"),
            ("exception_groups", "frames"),
        ):
            db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, '/srv/shop')", (str(ROOT),))


def _shoot_all(base: str, token: str) -> None:
    def ask(path: str) -> dict[str, list[dict[str, str]]]:
        with urlopen(Request(f"{base}/data/{path}", headers={"X-Ztrace-Token": token})) as answer:
            found: dict[str, list[dict[str, str]]] = json.load(answer)
            return found

    trace = ask("slow")["traces"][0]["trace_id"]
    error = next(group for group in ask("errors")["groups"] if group["type"].endswith("CardDeclined"))
    views = {
        "overview": "/",
        "traces": "/traces?find=charge&min=20ms",
        "trace": f"/trace/{trace}",
        "failure": f"/trace/{error['trace_id']}?span={error['origin_span_id']}",
        "flame": f"/trace/{trace}?view=flame",
        "errors": "/errors",
        "error": f"/error/{error['group']}",
        "stats": "/stats",
        "profile": "/profile",
        "compare": "/compare?slow=1&root=shopper.buy",
        "map": "/map",
        "status": "/status",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_context(viewport=SIZE, color_scheme=scheme).new_page()  # type: ignore[arg-type]
            page.goto(f"{base}/?token={token}")
            for name, path in views.items():
                _shoot(page, base + path, FOLDER / f"{name}-{scheme}.png")
        browser.close()


def _shoot(page: Page, url: str, file: Path) -> None:
    page.goto(url)
    page.locator("main[data-state=ready]").wait_for()
    if "span=" in url:
        page.locator("aside.span").wait_for()
    page.wait_for_timeout(300)  # Bars are drawn in the next frame.
    page.screenshot(path=file)


if __name__ == "__main__":
    main()
