"""What is answered, in either version's form.

One idea: an error is an answer like any other: a status, one line in the version's form, and never a word of
what Python says.
"""

import json
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response

from ztrace.errors import NotFoundError, SettingsError, ZtraceError

#: Says what an answer lacks, for whoever looks; Grafana takes any error in the answer itself for a failure.
NOTE_HEADER = "X-Ztrace-Note"
#: Paths whose answers have version 3's form.
VERSION_3 = "/api/v3/"

_BAD_REQUEST, _NOT_FOUND, _UNAVAILABLE = 400, 404, 503


def answer(
    request: Request, document: Mapping[str, object], *, status: int = 200, note: str = ""
) -> Response:
    """Return a document as JSON."""
    pretty = request.query_params.get("prettyPrint", "false") not in ("", "false")
    text = json.dumps(document, indent=4 if pretty else None, separators=None if pretty else (",", ":"))
    return Response(
        text,
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
    """Return an error in the form of the version that was asked."""
    text = " ".join(message.split())
    document: Mapping[str, object]
    if request.url.path.startswith(VERSION_3):
        document = {"error": {"httpCode": status, "message": text}}
    else:
        document = _envelope(None, 0, [{"code": status, "msg": text}])
    response = answer(request, document, status=status)
    if status == _UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def find_status(error: ZtraceError) -> int:
    """Return the status that says whose fault an error is."""
    if isinstance(error, SettingsError):
        return _BAD_REQUEST
    if isinstance(error, NotFoundError):
        return _NOT_FOUND
    # The database, which may be back in a moment, or a question that took too long.
    return _UNAVAILABLE


def _envelope(data: object, total: int, errors: object) -> dict[str, object]:
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": errors}
