"""The application: routes, and handlers of their errors.

One idea: every exception of a route is handled here, and becomes one line in the form of the requested
version.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.addresses import Address
from ztrace.errors import ZtraceError
from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.queries.stores.source import Source
from ztrace_viewer.web import data, files, texts
from ztrace_viewer.web.answers import answer_error, find_status
from ztrace_viewer.web.asking import Asker
from ztrace_viewer.web.guard import Guard
from ztrace_viewer.web.jaeger import version1, version3
from ztrace_viewer.web.live import Live
from ztrace_viewer.web.metrics import routes as metrics
from ztrace_viewer.web.tools import PATH, ToolsApp

#: Requests processed at the same time; others wait. Each takes a core, and memory for a large response.
THREADS = 4

_DEFECT = 500

_log = logging.getLogger(__name__)


def make_app(database: Source, token: str, address: Address, live: Live) -> Guard:
    """Return the guarded application of a database.

    Args:
        database: the database to read; a file may be created or replaced meanwhile.
        token: token that requests must have.
        address: address that the application is served on.
        live: the database's streams.
    """
    stores = Stores(database)
    asker = Asker(stores)
    tools = ToolsApp(stores)

    @asynccontextmanager
    async def live_through(app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        await tools.end()
        stores.close()

    app = Starlette(
        routes=[
            *texts.make_routes(asker),
            *files.make_routes(),
            *data.make_routes(asker, database),
            live.make_route(),
            *metrics.make_routes(asker),
            Route(PATH, tools),
            *version3.make_routes(asker),
            *version1.make_routes(asker),
        ],
        exception_handlers={
            HTTPException: _answer_http_error,
            ZtraceError: _answer_ztrace_error,
            Exception: _answer_defect,
        },
        lifespan=live_through,
    )
    app.router.redirect_slashes = False
    return Guard(app, token=token, port=address.port)


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = answer_error(request, error.status_code, str(error.detail).lower())
    response.headers.update(error.headers or {})
    return response


def _answer_ztrace_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ZtraceError)
    return answer_error(request, find_status(error), str(error))


def _answer_defect(request: Request, error: Exception) -> Response:
    # The traceback is for the operator; the client only learns that the request is not to blame.
    _log.error("%s %r failed", request.method, request.url.path, exc_info=error)
    return answer_error(request, _DEFECT, "this is a defect of ztrace; its log has the traceback")
