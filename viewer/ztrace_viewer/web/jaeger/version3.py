"""Version 3 of the API, for Jaeger's page since 2.19, and for Grafana if configured.

One idea: traces are OTLP as JSON, so the page gets everything of a span.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ztrace.errors import NotFoundError
from ztrace_collector.otlp.mapping.json_form import read_content
from ztrace_viewer.queries.deadline import Deadline
from ztrace_viewer.queries.names import list_operations, list_services
from ztrace_viewer.web.answers import answer
from ztrace_viewer.web.asking import SEARCH_S, Asker
from ztrace_viewer.web.jaeger.loading import Loaded, load_traces
from ztrace_viewer.web.jaeger.parameters import parse_boolean, parse_moment, parse_trace_id, read_version_3
from ztrace_viewer.web.jaeger.search import search
from ztrace_viewer.web.jaeger.summaries import summarise


def make_routes(asker: Asker) -> list[Route]:
    """Return the routes of version 3."""

    def services(request: Request) -> Response:
        return answer(request, {"services": asker.ask(list_services)})

    def operations(request: Request) -> Response:
        query = request.query_params
        kind = query.get("spanKind") or query.get("span_kind", "")
        found = asker.ask(lambda store: list_operations(store, query.get("service", ""), kind))
        return answer(request, {"operations": [{"name": each.name, "spanKind": each.kind} for each in found]})

    def trace(request: Request) -> Response:
        query = request.query_params
        trace_id = parse_trace_id(request.path_params["trace"])
        # Times are checked and ignored: a trace is found by its id at any time.
        for name in ("startTime", "start_time", "endTime", "end_time"):
            if query.get(name):
                parse_moment(query[name], name)
        for name in ("rawTraces", "raw_traces"):
            parse_boolean(query.get(name, ""), name)
        return _answer_traces(request, asker.ask(lambda store: load_traces(store, [trace_id])))

    def traces(request: Request) -> Response:
        question = read_version_3(request.query_params)
        deadline = Deadline(SEARCH_S)
        found, loaded = asker.ask(
            lambda store: (
                found := search(store, question, deadline),
                load_traces(store, [trace.trace_id for trace in found.traces]),
            )
        )
        return _answer_traces(request, loaded, found.note)

    def summaries(request: Request) -> Response:
        question = read_version_3(request.query_params)
        deadline = Deadline(SEARCH_S)
        found, made = asker.ask(
            lambda store: (found := search(store, question, deadline), summarise(store, found.traces))
        )
        return answer(request, {"summaries": made}, note=found.note)

    return [
        Route("/api/v3/services", services),
        Route("/api/v3/operations", operations),
        Route("/api/v3/traces", traces),
        Route("/api/v3/traces/{trace}", trace),
        Route("/api/v3/trace-summaries", summaries),
    ]


def _answer_traces(request: Request, loaded: Loaded, note: str = "") -> Response:
    if not loaded.requests:
        raise NotFoundError("no traces found")
    # Each trace has its own resources, since Grafana takes a resource for a trace.
    resource_spans = [each for made in loaded.requests for each in read_content(made)["resourceSpans"]]
    return answer(
        request,
        {"result": {"resourceSpans": resource_spans}},
        note="; ".join(filter(None, (note, loaded.note))),
    )
