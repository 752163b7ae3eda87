"""The page in a real browser: views, their figures and addresses, the keyboard, and access for everybody."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.viewer.page.conftest import opened, visit, wait_until_ready
from tests.viewer.queries.test_clocks import call, keep
from tests.viewer.stored import NOON, checkout, raised, span, store, trace_id
from tests.viewer.web.serving import TOKEN, Site, served

pytestmark = [pytest.mark.browser, pytest.mark.process]

AXE = Path(__file__).parents[3] / "build/node/node_modules/axe-core/axe.min.js"
#: Names as peers may choose them: markup, control characters, directions of writing.
HOSTILE = '<img src=x onerror="alert(1)">\x00\u202etxt.exe</script><script>alert(2)</script>'


def find_views(site: Site) -> list[str]:
    """Return an address of each view."""
    trace = site.get("/data/slow")["traces"][0]["trace_id"]
    group = site.get("/data/errors")["groups"][0]["group"]
    return [
        "/",
        "/traces",
        "/traces?find=charge",
        f"/trace/{trace}",
        f"/trace/{trace}?view=flame",
        "/errors",
        f"/error/{group}",
        "/stats",
        "/profile",
        "/compare?before=2h..1h&after=1h..",
        "/map",
        "/live",
        "/status",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_is_for_everybody(browser: Any, shown: Site, scheme: str) -> None:
    """Each view appears without a message of the browser, and breaks none of axe-core's rules."""
    with opened(browser, shown, scheme=scheme) as page:
        for path in [*find_views(shown), "/compare?slow=1&root=shopper.buy"]:
            visit(page, path)
            page.evaluate(AXE.read_text())
            found = page.evaluate("axe.run()")["violations"]
            told = [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found]
            assert (path, told) == (path, [])


def test_figures_are_those_of_the_commands(browser: Any, shown: Site) -> None:
    """Lists have the rows and figures of the documents, in their order."""
    traces = shown.get("/data/slow?limit=100")["traces"]
    methods = shown.get("/data/stats")["methods"]
    status = shown.get("/data/status")
    with opened(browser, shown) as page:
        assert f"{status['spans_stored']:,}" in page.locator("ul.facts").inner_text()
        visit(page, "/traces")
        links = page.locator("table a.row")
        assert [each.get_attribute("href") for each in links.all()] == [
            f"/trace/{trace['trace_id']}" for trace in traces
        ]
        visit(page, "/stats")
        rows = page.locator("tbody tr").all()
        assert len(rows) == len(methods)
        for row, method in list(zip(rows, methods, strict=True))[:5]:
            cells = row.locator("td").all_inner_texts()
            assert cells[0] == f"{method['service']}.{method['name']}"
            assert cells[2] == f"{method['calls']:,}"


def test_slow_trees_are_compared_with_the_rest(browser: Any, shown: Site) -> None:
    """A kind of comparison is chosen by keys, its fields follow, and its changes are those of the command."""
    with opened(browser, shown) as page:
        visit(page, "/compare")
        page.get_by_label("Compare").press("s")
        page.wait_for_url("**slow=1*")
        wait_until_ready(page)
        page.get_by_label("Method").fill("shopper.buy")
        page.keyboard.press("Enter")
        page.wait_for_url("**root=shopper.buy*")
        page.locator("tbody tr").first.wait_for()
        changes = shown.get("/data/diff?slow=1&root=shopper.buy&limit=200")["paths"]
        rows = page.locator("tbody tr").all()
        assert [row.locator("td").nth(1).inner_text() == "sure" for row in rows] == [
            change["sure"] for change in changes
        ]
        page.reload()
        wait_until_ready(page)
        assert page.locator("tbody tr").count() == len(changes)


def test_an_address_has_all_of_a_trace(browser: Any, shown: Site) -> None:
    """A call, a fold, a zoom and a search are in the address, and are there again after it is opened."""
    trace = shown.get("/data/slow")["traces"][0]["trace_id"]
    with opened(browser, shown) as page:
        visit(page, f"/trace/{trace}")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.locator("aside.span").wait_for()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("z")
        page.wait_for_url("**time=*")
        address = page.url
        for name in ("span=", "fold=", "time="):
            assert name in address
        before = _describe(page)
        page.reload()
        wait_until_ready(page)
        page.locator("aside.span").wait_for()
        assert _describe(page) == before
        page.keyboard.press("/")
        page.keyboard.type("charge")
        page.wait_for_url("**find=charge*")
        assert page.locator(".row.hit:visible").count() > 0
        page.go_back()
        page.go_forward()
        wait_until_ready(page)
        assert page.locator("#find").input_value() == "charge"


def _describe(page: Any) -> list[Any]:
    chosen = page.locator(".rows .row[aria-selected=true]:visible").inner_text()
    return [chosen, page.locator(".rows .row:visible").count(), page.locator(".axis").inner_text()]


def test_the_keyboard_leads_from_the_overview_to_an_origin(browser: Any, shown: Site) -> None:
    """Keys alone lead from the overview to the error, and to its origin in the call tree."""
    group = shown.get("/data/errors")["groups"][0]
    with opened(browser, shown) as page:
        for key in ("g", "e"):
            page.keyboard.press(key)
        page.wait_for_url("**/errors")
        wait_until_ready(page)
        for key in ("j", "Enter"):
            page.keyboard.press(key)
        page.wait_for_url(f"**/error/{group['group']}*")
        wait_until_ready(page)
        for key in ("j", "Enter"):
            page.keyboard.press(key)
        page.wait_for_url("**/trace/*")
        wait_until_ready(page)
        page.locator("aside.span").wait_for()
        assert group["type"] in page.locator("aside .exception").first.inner_text()
        page.keyboard.press("?")
        assert page.get_by_role("dialog").is_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        assert page.locator("aside.span").is_hidden()


def test_names_from_elsewhere_are_text(browser: Any, tmp_path: Path) -> None:
    """Markup, control characters and long texts are shown as they are, and nothing of them runs."""
    path = tmp_path / "hostile.db"
    error = raised(HOSTILE, HOSTILE * 100, frames=((HOSTILE, 1, HOSTILE, HOSTILE, HOSTILE, True),))
    spans = [
        span(trace_id(1), 1, name=HOSTILE, attributes={HOSTILE: HOSTILE, "long": "x" * 100_000}),
        span(trace_id(1), 2, 1, name=HOSTILE, exception=error),
    ]
    store(path, {HOSTILE: spans, "plain": [span(trace_id(1), 3, 2)]}, at_ns=NOON)
    with served(path) as site, opened(browser, site) as page:
        for address in find_views(site):
            visit(page, address)
            assert page.locator("main img, main script").count() == 0
        visit(page, f"/trace/{trace_id(1).hex()}?span={2:016x}")
        page.locator("aside.span").wait_for()
        assert "onerror" in page.locator("aside.span").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_clocks_are_corrected_or_raw_by_the_address(browser: Any, tmp_path: Path) -> None:
    """Clocks that differ are told with bounds; a button shows times as stored, which the address keeps."""
    path = keep(tmp_path / "clocks.db", *(call(number, ahead_ms=40) for number in range(1, 9)))
    with served(path) as site, opened(browser, site) as page:
        visit(page, f"/trace/{trace_id(1).hex()}")
        assert "stock +39.5ms ±" in page.locator(".about").inner_text()
        assert "measured by 8 calls" in page.locator(".about").inner_text()
        page.get_by_role("button", name="Raw clocks").click()
        page.wait_for_url("**clocks=raw*")
        page.get_by_text("clocks as stored").wait_for()
        page.reload()
        wait_until_ready(page)
        page.get_by_role("button", name="Measured clocks").click()
        page.get_by_text("stock +39.5ms ±").wait_for()
        assert "clocks" not in page.url


def test_a_large_trace_has_few_elements(browser: Any, tmp_path: Path) -> None:
    """Of 20,000 calls only those in sight have elements, also after a jump to the end."""
    path = tmp_path / "large.db"
    trace = trace_id(1)
    spans = {"root": [span(trace, 1, duration_ms=20_000)]}
    for number in range(2, 20_002):
        parent = 1 if number % 4 == 2 else number - 1
        call = span(trace, number, parent, name=f"call{number % 7}", start_ms=number, duration_ms=2)
        spans.setdefault(f"shop{number % 20}", []).append(call)
    store(path, spans, at_ns=NOON)
    with served(path) as site, opened(browser, site) as page:
        visit(page, f"/trace/{trace_id(1).hex()}")
        assert page.evaluate("document.querySelectorAll('*').length") < 500
        page.keyboard.press("End")
        page.locator(".rows .row[aria-selected=true]:visible").wait_for()
        assert "call" in page.locator(".rows .row[aria-selected=true]:visible").inner_text()
        assert page.evaluate("document.querySelectorAll('*').length") < 500
        page.keyboard.press("f")
        page.locator(".icicle canvas").wait_for()


def test_what_arrives_is_shown_while_questions_are_answered(browser: Any, tmp_path: Path) -> None:
    """Ten pages show what arrives, and the server answers meanwhile."""
    path = tmp_path / "live.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    with served(path) as site, opened(browser, site) as page:
        pages = [page, *(page.context.new_page() for _ in range(4))]
        for each in pages:
            each.goto(f"http://127.0.0.1:{site.port}/live")
            wait_until_ready(each)
            each.locator("text=waiting for calls").wait_for()
        assert len(site.get("/data/slow")["traces"]) == 1
        store(path, checkout(trace_id(2), NOON), at_ns=NOON)
        for each in pages:
            each.locator(f".live a[href='/trace/{trace_id(2).hex()}']").wait_for()
        path.unlink()
        store(path, checkout(trace_id(3), NOON), at_ns=NOON)
        pages[-1].locator(f".live a[href='/trace/{trace_id(3).hex()}']").wait_for()


def test_the_overview_is_read_again(browser: Any, tmp_path: Path) -> None:
    """What arrives is on the overview after some seconds, unless a row has the focus."""
    path = tmp_path / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    with served(path) as site, opened(browser, site) as page:
        page.clock.install()
        visit(page, "/")
        assert page.locator(f"a.row[href='/trace/{trace_id(2).hex()}']").count() == 0
        page.keyboard.press("j")
        store(path, checkout(trace_id(2), NOON), at_ns=NOON)
        page.clock.fast_forward(30_000)
        assert page.locator("a.row:focus").count() == 1
        page.locator("#find").focus()
        page.clock.fast_forward(30_000)
        page.locator(f"a.row[href='/trace/{trace_id(2).hex()}']").wait_for()


def test_an_error_is_resolved_by_its_button(browser: Any, tmp_path: Path) -> None:
    """The button writes the group's state, and frames are links to the editor."""
    path = tmp_path / "shop.db"
    store(path, checkout(trace_id(1), NOON), at_ns=NOON)
    with served(path, ZTRACE_EDITOR="code:{file}:{line}") as site, opened(browser, site) as page:
        (group,) = site.get("/data/errors")["groups"]
        visit(page, f"/error/{group['group']}")
        assert page.locator(".frames a").first.get_attribute("href").startswith("code:/")
        page.get_by_role("button", name="Resolve").click()
        page.get_by_role("button", name="Open again").wait_for()
        assert site.get(f"/data/error/{group['group']}")["group"]["state"] == "resolved"


def test_a_link_from_another_site_opens(browser: Any, shown: Site) -> None:
    """A link in a page of another site opens a trace, since the browser sends the cookie with it."""
    trace = shown.get("/data/slow")["traces"][0]["trace_id"]
    target = f"http://127.0.0.1:{shown.port}/trace/{trace}"

    class Chat(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<link rel="icon" href="data:,"><a href="{target}">look</a>'.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    chat = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=chat.serve_forever, daemon=True).start()
    try:
        with opened(browser, shown) as page:
            page.goto(f"http://localhost:{chat.server_port}/")
            page.locator("a").click()
            page.wait_for_url(target)
            wait_until_ready(page)
            assert page.locator(".rows .row:visible").count() > 0
    finally:
        chat.shutdown()
        chat.server_close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"/trace/{'ab' * 16}", "no trace begins with"),
        ("/error/0123456789abcdef", "no error begins with"),
        ("/profile?root=shop.nothing", "shop.nothing"),
        ("/compare?before=soon&after=1h..", "is not a stretch of time"),
        ("/compare?slow=1&root=shop.nothing", "shop.nothing"),
        ("/traces?since=soon", "is not a time"),
    ],
)
def test_what_is_not_there_says_what_to_do(browser: Any, shown: Site, path: str, words: str) -> None:
    """A view that cannot be shown has one line that says why, and links to go on."""
    with opened(browser, shown, messages=True) as page:
        visit(page, path)
        assert words in page.locator("main .message h1").inner_text()
        assert page.locator("main .message a").count() >= 2


def test_without_the_token_it_says_where_to_find_it(browser: Any, shown: Site) -> None:
    """Without the token the page says that the printed address has it."""
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"http://127.0.0.1:{shown.port}/traces")
    assert answer.status == 401
    assert "token" in page.locator("body").inner_text()
    context.close()


def test_without_javascript_it_names_the_commands(browser: Any, shown: Site) -> None:
    """Without JavaScript the page names the commands that answer the same."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{shown.port}/?token={TOKEN}")
    assert "ztrace slow" in page.locator("noscript").inner_text()
    context.close()


def test_a_search_without_the_time_for_all_goes_on_by_a_link(browser: Any, shown: Site) -> None:
    """Where a search ended early, the page says how far it came, and a link searches the trees before."""
    reached_ns = 1_769_860_800_123_456_789

    def answer(route: Any) -> None:
        is_later = "until" in route.request.url
        route.fulfill(json={"spans": [], "searched_since_ns": None if is_later else reached_ns})

    with opened(browser, shown) as page:
        page.route("**/data/find*", answer)
        visit(page, "/traces?find=nothing")
        assert "two seconds were too short for more" in page.locator("main .nothing").inner_text()
        page.locator("main .nothing a").click()
        page.wait_for_url("**until=2026-01-31T12%3A00%3A00.124Z*")
        page.locator("main .nothing", has_text="no calls: choose a longer time").wait_for()
