"""Authentication of requests, and security headers of responses.

One idea: the guard is in front of all routes and decides by the headers alone, so no route can omit it.
"""

import hmac
import re
from collections.abc import Iterator
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ztrace.addresses import is_loopback
from ztrace_viewer.web.answers import answer_error
from ztrace_viewer.web.notices import STYLE_SOURCE, answer_locked

#: Header for clients that use ``Authorization`` otherwise.
TOKEN_HEADER = "x-ztrace-token"
#: Parameter of the announced URL.
TOKEN_PARAMETER = "token"
#: Lifetime of the cookie; a session cookie would end with each update of the browser.
COOKIE_S = 30 * 86_400

#: Headers that forbid loading, framing, caching and referrers.
_SECURITY = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {STYLE_SOURCE}; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?")
_UNAUTHORIZED, _FORBIDDEN, _SEE_OTHER, _MISDIRECTED = 401, 403, 303, 421
_READING = ("GET", "HEAD")


class Guard:
    """Application in front of another, which requires the token and a Host header of this machine."""

    def __init__(self, app: ASGIApp, *, token: str, port: int) -> None:
        """Guard an application by a token.

        Args:
            app: the application.
            token: token that requests must have.
            port: port of the server, part of the cookie's name: browsers keep cookies by host only.
        """
        self._app = app
        self._token = token.encode()
        self._cookie = f"ztrace_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        app = self._check(Request(scope)) or self._app
        await app(scope, receive, send_secured)

    def _check(self, request: Request) -> Response | None:
        """Return the response to a request that is not passed on."""
        if not _is_this_machine(request.headers.get("host", "")):
            return answer_error(
                request, _MISDIRECTED, "the Host header names another machine; a proxy has to send localhost"
            )
        if not any(map(self._is_token, self._find_tokens(request))):
            response: Response
            if request.url.path.startswith(("/api", "/data", "/metrics")):
                response = answer_error(
                    request, _UNAUTHORIZED, "the token is missing or wrong; send it as Authorization: Bearer"
                )
            else:
                response = answer_locked(_UNAUTHORIZED)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if request.method not in _READING and _is_from_elsewhere(request.headers):
            return answer_error(request, _FORBIDDEN, "a page of another site may not change this")
        given = request.query_params.get(TOKEN_PARAMETER)
        if given is None or request.method not in _READING:
            return None
        # Removes the token from the address bar, the history and copied URLs.
        return self._keep(_leave_out_token(request))

    def _find_tokens(self, request: Request) -> Iterator[str]:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            yield given.strip()
        yield request.headers.get(TOKEN_HEADER, "")
        yield request.query_params.get(TOKEN_PARAMETER, "")
        yield from _read_cookies(request.headers, self._cookie)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def _keep(self, response: Response) -> Response:
        # Not strict: a link in a chat or an issue has to open, and writes have a check of their own.
        response.set_cookie(
            self._cookie, self._token.decode(), max_age=COOKIE_S, httponly=True, samesite="lax"
        )
        return response


def _is_from_elsewhere(headers: Headers) -> bool:
    """Return whether a browser sends a request for another site's page; programs send neither header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site != "same-origin"
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _leave_out_token(request: Request) -> Response:
    kept = [pair for pair in request.query_params.multi_items() if pair[0] != TOKEN_PARAMETER]
    # The path stays on this host: "//elsewhere" would lead away.
    path = "/" + request.scope.get("raw_path", b"/").decode("ascii", "replace").partition("?")[0].lstrip("/")
    query = str(QueryParams(kept))
    return RedirectResponse(path + (f"?{query}" if query else ""), _SEE_OTHER)


def _read_cookies(headers: Headers, name: str) -> Iterator[str]:
    for line in headers.getlist("cookie"):
        try:
            cookies = SimpleCookie(line)
        except CookieError:
            continue
        if name in cookies:
            yield cookies[name].value


def _is_this_machine(host: str) -> bool:
    """Return whether a Host header names this machine; a page from elsewhere has its own host."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower().rstrip(".")
    return name.endswith(".localhost") or is_loopback(name)
