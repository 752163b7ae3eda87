"""The application: its routes, and what becomes of errors.

One idea: whatever goes wrong in a route comes out here, and leaves as one line in the form of what was asked.
"""

import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.addresses import Address
from ztrace.errors import ZtraceError
from ztrace_viewer.web.answers import answer_error, find_status
from ztrace_viewer.web.asking import Asker
from ztrace_viewer.web.guard import Guard
from ztrace_viewer.web.jaeger import version1, version3
from ztrace_viewer.web.start import answer_start

#: Questions answered at the same time; the others wait. Each is work for a core, and may hold a large answer.
THREADS = 4

_BROKEN = 500


def make_app(database: Path, token: str, address: Address) -> Guard:
    """Return the application.

    Args:
        database: the file that it reads; it may be made or replaced meanwhile.
        token: what those who ask have to have.
        address: where it is served.
    """
    asker = Asker(database)

    def start(request: Request) -> Response:
        return answer_start(database.name, f"http://{address}")

    app = Starlette(
        routes=[Route("/", start), *version3.make_routes(asker), *version1.make_routes(asker)],
        exception_handlers={
            HTTPException: _answer_http_error,
            ZtraceError: _answer_ztrace_error,
            Exception: _answer_broken,
        },
        lifespan=_limit_threads,
    )
    app.router.redirect_slashes = False
    return Guard(app, token=token, port=address.port)


@asynccontextmanager
async def _limit_threads(app: Starlette) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = answer_error(request, error.status_code, str(error.detail).lower())
    response.headers.update(error.headers or {})
    return response


def _answer_ztrace_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZtraceError)
    return answer_error(request, find_status(error), str(error))


def _answer_broken(request: Request, error: Exception) -> Response:
    # For whoever runs it, on one line; whoever asks learns that it is not their fault.
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__}: {error}".split())
    where = f"{place.name}, line {place.lineno}"
    print(f"ztrace: {request.method} {request.url.path!r} failed: {what[:200]} ({where})", file=sys.stderr)
    return answer_error(request, _BROKEN, "this is a mistake in ztrace; its terminal says more")
