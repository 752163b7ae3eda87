"""Server of the tools, over standard input and output or over HTTP."""

import functools
from collections.abc import Callable

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from ztrace import __version__
from ztrace.errors import ZtraceError
from ztrace_viewer.mcp.tools import Tools
from ztrace_viewer.queries.stores.opening import Stores

#: What an agent is told first.
INSTRUCTIONS = """ztrace has the call trees of Python services that talk over RPC, their errors and profiles.
Begin with overview. Slow: slow or find, then trace; over many trees, profile, and diff for what changed.
Failing: errors, then error, which is one traceback over all processes: the origin is a fact, not a guess.
Own time is the time in which a call did not wait for its children: look there. Ids are given by their
beginning. Times are written 15m, 2h or 7d for ago, or in ISO 8601."""


def make_server(stores: Stores) -> MCPServer:
    """Return the server of a database's tools."""
    server = MCPServer("ztrace", version=__version__, instructions=INSTRUCTIONS)
    annotations = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for tool in Tools(stores).list_all():
        server.tool(annotations=annotations, structured_output=False)(_telling(tool))
    return server


def _telling(tool: Callable[..., str]) -> Callable[..., str]:
    """Return a tool whose errors are told in the line that a command would print."""

    @functools.wraps(tool)
    def telling(*args: object, **named: object) -> str:
        try:
            return tool(*args, **named)
        except ZtraceError as error:
            raise ToolError(" ".join(str(error).split())) from error

    return telling
