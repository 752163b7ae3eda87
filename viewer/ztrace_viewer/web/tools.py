"""The tools for AI agents at ``/mcp``, behind the guard like everything else.

One idea: their library takes long to import, so it is imported for the first request, in a task that holds it
until the server ends.
"""

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ztrace_viewer.queries.stores.opening import Stores
from ztrace_viewer.web.answers import answer_error

#: Path of the tools.
PATH = "/mcp"

_NOT_INSTALLED = 501


class ToolsApp:
    """Application that serves the tools of a database."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._starting: asyncio.Future[ASGIApp] | None = None
        self._holding: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say what to install."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_future()
            self._holding = asyncio.create_task(self._hold(self._starting))
        try:
            app = await asyncio.shield(self._starting)
        except ModuleNotFoundError as error:
            message = f"{error.name} is not installed; pip install 'ztrace[mcp]'"
            await answer_error(Request(scope), _NOT_INSTALLED, message)(scope, receive, send)
            return
        await app(scope, receive, send)

    async def end(self) -> None:
        """End the sessions."""
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)

    async def _hold(self, starting: "asyncio.Future[ASGIApp]") -> None:
        try:
            server = await asyncio.to_thread(self._make)
        except ModuleNotFoundError as error:
            starting.set_exception(error)
            return
        # Without sessions: each request is answered alone, so nothing is kept for clients that have gone.
        app = server.streamable_http_app(streamable_http_path=PATH, json_response=True, stateless_http=True)
        async with server.session_manager.run():
            starting.set_result(app)
            await asyncio.Event().wait()

    def _make(self):  # type: ignore[no-untyped-def]  # Its library may be missing.
        from ztrace_viewer.mcp.server import make_server

        return make_server(self._stores)
