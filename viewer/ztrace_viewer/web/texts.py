"""What commands print of a trace or an error, as Markdown to paste into an issue: ``/trace/ID.md``.

One idea: the text is the command's own, in a block of code.
"""

import time
from collections.abc import Iterable

from rich.text import Text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace_viewer.queries.identifiers import find_group, find_trace
from ztrace_viewer.queries.traces import read_tree
from ztrace_viewer.queries.way import read_error
from ztrace_viewer.render.call_tree import draw_tree
from ztrace_viewer.render.error import draw_error
from ztrace_viewer.web.asking import Asker

#: Columns and lines of a tree in an issue.
WIDTH, LINES = 100, 80


def make_routes(asker: Asker) -> list[Route]:
    """Return the routes of texts."""

    def trace(request: Request) -> Response:
        tree = asker.ask(lambda store: read_tree(store, find_trace(store, request.path_params["trace"])))
        return _answer(f"Trace {tree['trace_id']}", draw_tree(tree, WIDTH, LINES, time.time_ns()))

    def error(request: Request) -> Response:
        document = asker.ask(lambda store: read_error(store, find_group(store, request.path_params["group"])))
        lines = draw_error(document, WIDTH, time.time_ns(), libraries=False)
        return _answer(f"Error {document['group']['group']}", lines)

    return [Route("/trace/{trace}.md", trace), Route("/error/{group}.md", error)]


def _answer(title: str, lines: "Iterable[Text | str]") -> Response:
    text = "\n".join(str(line).rstrip() for line in lines)
    # A fence is longer than any run of its character in the text, which may come from elsewhere.
    fence = "```"
    while fence in text:
        fence += "`"
    return Response(f"{title}\n\n{fence}\n{text}\n{fence}\n", media_type="text/markdown; charset=utf-8")
