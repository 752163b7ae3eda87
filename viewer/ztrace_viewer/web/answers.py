"""Responses in the form of either version of the API.

One idea: an error is a response like any other, with a status and one line in the form of the version, and
without Python's messages.
"""

import json
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ztrace.errors import NotFoundError, SettingsError, ZtraceError
from ztrace_viewer.web.notices import answer_problem

#: Header that says what a response lacks; Grafana treats any error in the body as a failure.
NOTE_HEADER = "X-Ztrace-Note"
#: Prefix of paths whose responses have the form of version 3.
VERSION_3 = "/api/v3/"
#: Prefix of paths whose responses are documents of commands.
DATA = "/data/"
#: Prefixes of paths that programs ask.
FOR_PROGRAMS = ("/api", "/data", "/mcp", "/metrics", "/page/")

_BAD_REQUEST, _NOT_FOUND, _UNAVAILABLE = 400, 404, 503


def answer(
    request: Request, document: Mapping[str, object], *, status: int = 200, note: str = ""
) -> Response:
    """Return a document as JSON."""
    pretty = request.query_params.get("prettyPrint", "false") not in ("", "false")
    # Characters as they are: escapes would make texts up to three times as long.
    text = json.dumps(
        document,
        ensure_ascii=False,
        indent=4 if pretty else None,
        separators=None if pretty else (",", ":"),
    )
    return Response(
        text.encode("utf-8", "replace"),
        status,
        headers={NOTE_HEADER: note} if note else None,
        media_type="application/json",
    )


def answer_data(
    request: Request,
    data: object,
    *,
    total: int = 0,
    errors: Sequence[Mapping[str, object]] = (),
    note: str = "",
) -> Response:
    """Return data in version 1's envelope."""
    return answer(request, _envelope(data, total, list(errors) or None), note=note)


def answer_error(request: Request, status: int, message: str) -> Response:
    """Return an error in the form of the requested version, or as a page if a browser opens an address."""
    text = " ".join(message.split())
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(FOR_PROGRAMS):
        return answer_problem(status, text)
    document: Mapping[str, object]
    if request.url.path.startswith(VERSION_3):
        document = {"error": {"httpCode": status, "message": text}}
    elif request.url.path.startswith(DATA):
        document = {"error": text}
    else:
        document = _envelope(None, 0, [{"code": status, "msg": text}])
    response = answer(request, document, status=status)
    if status == _UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def find_status(error: ZtraceError) -> int:
    """Return the status of an error."""
    if isinstance(error, SettingsError):
        return _BAD_REQUEST
    if isinstance(error, NotFoundError):
        return _NOT_FOUND
    # An error of the database, which may pass, or a request that took too long.
    return _UNAVAILABLE


def _envelope(data: object, total: int, errors: object) -> dict[str, object]:
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": errors}
