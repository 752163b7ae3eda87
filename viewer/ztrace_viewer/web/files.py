"""The page's files, and the addresses at which it is opened.

One idea: every address of a view is answered with the same document; the script reads the address.
"""

import hashlib
import mimetypes
from importlib.resources import files

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Addresses of the views, which `page.js` knows as well.
VIEWS = (
    "/",
    "/traces",
    "/trace/{trace}",
    "/errors",
    "/error/{group}",
    "/stats",
    "/profile",
    "/compare",
    "/map",
    "/live",
    "/status",
)
_DOCUMENT = "index.html"
_NOT_MODIFIED = 304


def make_routes() -> list[Route]:
    """Return the routes of the views and of their files."""
    found = {
        each.name: _File(each.name, each.read_bytes())
        for each in files("ztrace_viewer.web").joinpath("page").iterdir()
        if each.is_file()
    }

    def view(request: Request) -> Response:
        return found[_DOCUMENT].answer(request)

    def file(request: Request) -> Response:
        name = str(request.path_params["name"])
        if name not in found or name == _DOCUMENT:
            raise HTTPException(404)
        return found[name].answer(request)

    return [*(Route(path, view) for path in VIEWS), Route("/page/{name}", file)]


class _File:
    """A file in memory, with the tag by which a browser knows whether its copy is current."""

    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'

    def answer(self, request: Request) -> Response:
        headers = {"ETag": self._tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=_NOT_MODIFIED, headers=headers)
        return Response(self._content, headers=headers, media_type=self._type)
