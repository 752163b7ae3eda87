"""Authentication, and headers of every response."""

import re

import pytest

from tests.viewer.web.serving import TOKEN, Site

pytestmark = pytest.mark.process

#: Pages, routes of both versions, and unknown paths.
PATHS = [
    "/",
    "/traces",
    "/page/page.js",
    "/data/slow",
    "/data/tail",
    "/trace/00.md",
    "/api/services",
    "/api/traces/abc",
    "/api/v3/services",
    "/api/nothing",
    "/nothing",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Ztrace-Token": "wrong"},
        {"X-Ztrace-Token": TOKEN[:-1]},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Cookie": f"ztrace={TOKEN}"},
        {"Cookie": "ztrace_1=\x7f; =;;;"},
    ],
)
def test_nothing_is_told_without_the_token(site: Site, path: str, headers: dict[str, str]) -> None:
    """Without the token every path is answered with 401 in its own form, without any data."""
    answer = site.ask(path, headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "shop" not in answer.text
    if path.startswith("/api/v3"):
        assert answer.document["error"]["httpCode"] == 401
    elif path.startswith("/api"):
        assert answer.document["errors"][0]["code"] == 401
    elif path.startswith("/data"):
        assert "token" in answer.document["error"]
    else:
        assert answer.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Ztrace-Token": TOKEN},
        {"Authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN}"},
        {"Authorization": "Bearer of-another-program", "X-Ztrace-Token": TOKEN},
    ],
)
def test_the_token_comes_in_a_header(site: Site, headers: dict[str, str]) -> None:
    """Either of two headers with the token is accepted, whatever the other one is."""
    assert site.ask("/api/services", headers=headers).status == 200


def test_the_url_that_is_announced_opens_the_page(site: Site) -> None:
    """The announced URL sets a cookie unreadable by scripts, and redirects to a URL without the token."""
    first = site.ask(f"/?token={TOKEN}", headers={})
    assert first.status == 303
    assert first.headers["Location"] == "/"
    cookie = first.headers["Set-Cookie"]
    assert re.search(r"; HttpOnly; .*SameSite=lax", cookie, re.IGNORECASE)
    second = site.ask("/", headers={"Cookie": cookie.partition(";")[0]})
    assert second.status == 200
    assert "/page/page.js" in second.text


def test_only_the_token_leaves_the_url(site: Site) -> None:
    """The redirect removes only the token from the URL, and stays on this host."""
    answer = site.ask(f"/api/traces?service=a%26b&token={TOKEN}&limit=1", headers={})
    assert answer.headers["Location"] == "/api/traces?service=a%26b&limit=1"
    away = site.ask(f"//elsewhere.example/%2e%2e?token={TOKEN}", headers={})
    assert away.headers["Location"] == "/elsewhere.example/%2e%2e"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]:4711", "a.localhost"]
)
def test_this_machine_is_known_by_several_names(site: Site, host: str) -> None:
    """Every loopback name is accepted as Host header, with or without port."""
    assert site.ask("/api/services", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    ["example.org", "127.0.0.1.example.org", "10.0.0.1", "localhost.example", "[::2]", "a:b:c", "0.0.0.0"],
)
def test_a_name_that_leads_here_from_elsewhere_is_refused(site: Site, host: str) -> None:
    """A foreign Host header, as in DNS rebinding, is refused even with the token."""
    answer = site.ask("/api/services", host=host)
    assert answer.status == 421
    assert "Host" in answer.document["errors"][0]["msg"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 404),
        ({}, 404),
    ],
)
def test_only_the_page_itself_changes_anything(site: Site, headers: dict[str, str], status: int) -> None:
    """A write that a browser sends for another site's page is refused, though it has the cookie."""
    cookie = {"Cookie": f"ztrace_{site.port}={TOKEN}"}
    assert site.ask("/data/error/0123456789abcdef/resolved", "POST", cookie | headers).status == status


def test_the_pages_own_origin_changes_what_it_may(site: Site) -> None:
    """A browser without the header of fetch is known by its origin."""
    headers = {"Cookie": f"ztrace_{site.port}={TOKEN}", "Origin": f"http://127.0.0.1:{site.port}"}
    assert site.ask("/data/error/0123456789abcdef/open", "POST", headers).status == 404


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/data/tail"])
def test_every_answer_is_secured(site: Site, path: str) -> None:
    """Every response has the security headers, whatever its status."""
    without: dict[str, str] = {}
    for headers in (None, without):
        answer = site.ask(path, headers=headers)
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        is_kept = answer.status == 200 and not path.startswith(("/api", "/data"))
        assert answer.headers["Cache-Control"] == ("no-cache" if is_kept else "no-store")
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in answer.headers
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(site: Site, method: str) -> None:
    """Every other method is refused, and no CORS header is sent."""
    answer = site.ask("/api/services", method)
    assert answer.status == 405
    assert answer.document["errors"][0]["code"] == 405


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/nothing", "/api/archive/abc", "/api/v3/nothing", "/api/services/"]
)
def test_what_is_not_there_is_said_in_json(site: Site, path: str) -> None:
    """An unknown path is answered with 404 in the form of its version."""
    answer = site.ask(path)
    assert answer.status == 404
    document = answer.document
    error = document["error"]["httpCode"] if path.startswith("/api/v3") else document["errors"][0]["code"]
    assert error == 404
